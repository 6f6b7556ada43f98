//! `convnext debug image`: an image file as evaluation sees it.

use std::path::PathBuf;

use convnext_data::{Decoder, Draw, Example, Scratch};
use convnext_pipeline::{
    bounded,
    input::{Input, View},
    recipe::Data,
};

use crate::{Context, Failure, Outcome, npy};

/// Writes an image file as evaluation shows it to a model: decoded, resized, cropped and normalised, `[1, H, W, C]`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug image --model atto --input photo.jpg --output y.npy
  convnext debug image --model atto --input photo.jpg --crop 1 --output warped.npy")]
pub(crate) struct Args {
    /// The variant whose input size and channels are wanted.
    #[arg(long)]
    model: String,
    /// A JPEG, PNG, PGM or PPM.
    #[arg(long, value_name = "IMAGE")]
    input: PathBuf,
    /// Share of the shrunk image's side that the centre crop keeps; 1 warps the whole image.
    #[arg(long, default_value_t = 0.875, value_parser = crate::preprocessing::share)]
    crop: f64,
    /// The file to write.
    #[arg(long, value_name = "Y.npy")]
    output: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&args.model)?;
    let data = Data::default();
    let input = Input { plan: &entry.plan, data: &data, workers: 1 };
    let chain = input.evaluation_chain(View::Cropped(args.crop))?;
    let (channels, table) = (input.channels()?, input.table()?);

    let failed = |what: &str| format!("{}: {what}", args.input.display());
    let bytes = bounded::read(&args.input, bounded::PICTURE)
        .map_err(|error| Failure::because(failed("cannot be read"), error))?;
    let decoded = Decoder::new(channels).decode(&bytes);
    let mut example = Example::from(decoded.map_err(|error| Failure::because(failed("cannot be decoded"), error))?);
    // Evaluation draws nothing.
    chain.apply(&mut example, &Draw { seed: 0, epoch: 0, sample: 0 }, &mut Scratch::default())?;
    let image = example.image;
    let mut values = vec![0.0; image.pixels.len()];
    table.run(image.view(), &mut values)?;
    npy::write(&args.output, &[1, image.height, image.width, image.channels], &values)
}
