//! `convnext pretrain`: masked-autoencoder pre-training.

use convnext_pipeline::{records::RunKind, runs};

use super::training::{self, Training, train_patterns};
use crate::{Context, Outcome, shards};

/// Pre-trains a variant as a masked autoencoder; labels are not needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext pretrain --model micro --data 'data/train-*.tar' --recipe cli/recipes/micro-pretrain.toml --out runs/pretrain
  convnext pretrain --out runs/pretrain --resume")]
pub struct Args {
    #[command(flatten)]
    training: training::Args,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let Training { entry, recipe, place, device } = args.training.resolve(context, RunKind::Pretrain, &[])?;
    let shards = shards::open(train_patterns(&recipe)?, recipe.machine.io)?;
    let record = runs::pretrain(entry, recipe, shards, &place, &device)?;
    training::report(&record, &place.out, args.training.json)
}
