//! `convnext debug schedule`: the learning rate of every step.

use serde::Serialize;

use super::Written;
use crate::{Outcome, output};

/// Prints the learning rate of every step of a recipe, as JSON.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug schedule --recipe finetune-tiny --images 10240 --set model.name=tiny")]
pub(crate) struct Args {
    #[command(flatten)]
    written: Written,
    /// Images of the training set.
    #[arg(long, value_name = "N")]
    images: u64,
}

#[derive(Serialize)]
struct Report {
    images_per_step: u64,
    steps_per_epoch: u64,
    /// Before layer-wise decay.
    lr: Vec<f64>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let run = args.written.resolve(None)?.run(args.images, 1)?;
    let lr = (0..run.steps()).map(|step| run.schedule.lr(step)).collect();
    output::json_line(&Report { images_per_step: run.images_per_step, steps_per_epoch: run.steps_per_epoch, lr })
}
