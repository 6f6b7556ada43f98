//! `convnext debug init`: fresh weights.

use std::path::PathBuf;

use convnext_core::{dfdx::tensor::Cpu, nn::Flat};
use convnext_data::random::{Purpose, Random};
use convnext_weights::convert::{self, Dialect};

use crate::{Context, Failure, Outcome};

/// Writes fresh weights of a variant, for tests of other programs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug init --model atto --seed 1 --output w.safetensors --layout official --noise 0.1")]
pub(crate) struct Args {
    /// The variant; `convnext models` lists them.
    #[arg(long)]
    model: String,
    /// Chooses the weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The file to write.
    #[arg(long, value_name = "W.safetensors")]
    output: PathBuf,
    /// The autoencoder's weights, not the classifier's.
    #[arg(long)]
    fcmae: bool,
    /// Names and axes: `ours` or `official`.
    #[arg(long, value_name = "LAYOUT", default_value_t = Dialect::Ours)]
    layout: Dialect,
    /// Adds normal noise of this standard deviation to all parameters. Biases and GRN start at 0, and would hide mistakes.
    #[arg(long, value_name = "DEVIATION", default_value_t = 0.0)]
    noise: f32,
}

pub(crate) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&args.model)?;
    let device = Cpu::seed_from_u64(args.seed);
    if !args.fcmae {
        return write(&*entry.classifier(&device)?, args);
    }
    match entry.autoencoder(&device)? {
        Some(model) => write(&*model, args),
        None => Err(Failure::failed(format!("`{}` declares no pre-training part (fcmae)", entry.plan.name))),
    }
}

fn write(model: &(impl Flat + ?Sized), args: &Args) -> Outcome {
    let layout = model.layout();
    let mut values = vec![0.0; layout.len()];
    model.read(&mut values);
    let mut random = Random::new(args.seed, 0, 0, Purpose::Initialise);
    if args.noise != 0.0 {
        values.iter_mut().for_each(|value| *value += args.noise * random.normal());
    }
    Ok(convert::save(&args.output, &layout, &values, args.layout, None)?)
}
