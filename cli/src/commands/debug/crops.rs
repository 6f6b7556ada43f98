//! `convnext debug crops`: the random crops of training.

use std::path::PathBuf;

use convnext_data::{Augment, Draw, Geometry, Purpose, augment::RandomResizedCrop};

use crate::{Outcome, npy};

/// Writes the windows of random resized crops, `[COUNT, 4]`: top, left, height, width.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug crops --height 480 --width 640 --count 10000 --seed 1 --scale 0.08 1 --output windows.npy")]
pub(crate) struct Args {
    /// Rows of the image.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    height: u32,
    /// Pixels in a row of the image.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    width: u32,
    /// Windows to draw: those of the samples 0 to COUNT - 1 in epoch 0.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    count: u32,
    /// The run's seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Smallest and largest share of the area.
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"], default_values_t = [0.2, 1.0])]
    scale: Vec<f64>,
    /// Smallest and largest width / height.
    #[arg(long, num_args = 2, value_names = ["LOW", "HIGH"], default_values_t = [3.0 / 4.0, 4.0 / 3.0])]
    ratio: Vec<f64>,
    /// The file to write.
    #[arg(long, value_name = "WINDOWS.npy")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args) -> Outcome {
    // The size that comes out has no influence on the window.
    let crop = RandomResizedCrop {
        scale: (args.scale[0], args.scale[1]),
        ratio: (args.ratio[0], args.ratio[1]),
        ..RandomResizedCrop::new(224, 224)
    };
    crop.output(Geometry::decoded(3))?;
    let mut windows = Vec::with_capacity(4 * args.count as usize);
    for sample in 0..u64::from(args.count) {
        let mut random = Draw { seed: args.seed, epoch: 0, sample }.random(Purpose::Crop);
        let window = crop.window(args.height as usize, args.width as usize, &mut random);
        windows.extend([window.top, window.left, window.height, window.width].map(|value| value as f32));
    }
    npy::write(&args.output, &[args.count as usize, 4], &windows)
}
