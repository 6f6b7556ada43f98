//! `convnext finetune`: supervised training.

use convnext_pipeline::{records::RunKind, runs};

use super::training::{self, Training, toml_string, train_patterns};
use crate::{Context, Outcome, shards};

/// Trains a classifier, from pre-trained weights or from scratch.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext finetune --model micro --data 'data/train-*.tar' --validation 'data/test-*.tar' --weights runs/pretrain \\
      --recipe cli/recipes/micro-finetune.toml --out runs/finetune
  convnext finetune --out runs/finetune --resume")]
pub struct Args {
    #[command(flatten)]
    training: training::Args,
    /// Shards to measure on after each epoch, as a quoted pattern; may be repeated.
    #[arg(long, value_name = "GLOB")]
    validation: Vec<String>,
    /// The run, checkpoint or file that the encoder starts from.
    #[arg(long, value_name = "PATH")]
    weights: Option<String>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let mut sets = Vec::new();
    sets.extend(training::patterns_setting("data.validation", &args.validation));
    sets.extend(args.weights.as_deref().map(|path| format!("finetune.weights={}", toml_string(path))));
    let Training { entry, recipe, place, device } = args.training.resolve(context, RunKind::Finetune, &sets)?;
    let train = shards::open(train_patterns(&recipe)?, recipe.machine.io)?;
    shards::tell_of_classes(&train);
    let validation =
        recipe.data.validation.as_ref().map(|patterns| shards::open_set(patterns.all(), recipe.machine.io));
    let validation = validation.transpose()?;
    let record = runs::finetune(entry, recipe, train, validation, &place, &device)?;
    training::report(&record, &place.out, args.training.json)
}
