//! `convnext debug train`: some steps of fine-tuning on given images and targets.

use std::path::PathBuf;

use convnext_core::dfdx::tensor::Cpu;
use convnext_pipeline::{
    recipe::Run,
    stream::Batch,
    tasks::{
        Task,
        classify::{Classification, Classify, Source},
    },
    trainer::{CpuTrainer, Outcome as Made, Trainer, products},
};
use convnext_weights::convert::{self, Dialect};
use serde::Serialize;

use super::{Given, Images, Written, load, read_targets};
use crate::{Context, Failure, Outcome, output};

/// Makes steps with a recipe's optimiser, schedule and moving average; prints one line of JSON for each.
///
/// Images and targets are taken in their order, epoch after epoch; an epoch is as many whole steps as there are images
/// for. Nothing is augmented or dropped, and the recipe's head scale is not applied.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug train --model atto --weights w.safetensors --recipe finetune-atto \\
      --set finetune.batch=2 --set finetune.accumulation=1 --input x.npy --targets t.npy --steps 10 \\
      --output trained.safetensors --ema average.safetensors")]
pub(crate) struct Args {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    written: Written,
    /// Soft targets `[N, CLASSES]`, taken as they are.
    #[arg(long, value_name = "T.npy")]
    targets: PathBuf,
    /// Steps to make.
    #[arg(long, value_name = "N")]
    steps: u64,
    /// Where the trained weights go, in the official names and layout.
    #[arg(long, value_name = "W.safetensors")]
    output: PathBuf,
    /// Where their moving average goes.
    #[arg(long, value_name = "E.safetensors")]
    ema: Option<PathBuf>,
}

/// What a step did.
#[derive(Serialize)]
struct Step {
    step: u64,
    lr: f64,
    loss: f64,
    /// Of the gradient, before clipping.
    norm: f64,
}

pub(crate) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&args.given.model)?;
    let recipe = args.written.resolve(Some(entry.plan.name))?;
    if recipe.name() != Classify.name() {
        return Err(Failure::usage(format!("{} does not fine-tune; give one with [finetune]", args.written.name())));
    }
    let images = Images::read(&args.given.input, &entry.plan)?;
    let targets = read_targets(&args.targets, images.samples, &entry.plan)?;
    let run = recipe.run(images.samples as u64, 1)?;
    check(args, &run)?;

    let mut classifier = entry.classifier(&Cpu::default())?;
    load(&mut *classifier, &args.given.weights)?;
    classifier.set_drop_path(0.0);
    let objective = Classification::new(&entry.plan, 0.0, Source::Given(targets));
    let mut trainer = CpuTrainer::new(objective, &*classifier, products(recipe.model.precision), &entry.plan, &run)?;
    for step in 0..args.steps {
        output::json_line(&make(step, &run, &images, &mut trainer)?)?;
    }

    let layout = trainer.layout().clone();
    let state = trainer.state()?;
    convert::save(&args.output, &layout, &state.parameters, Dialect::Official, None)?;
    if let (Some(path), Some(average)) = (&args.ema, &state.average) {
        convert::save(path, &layout, average, Dialect::Official, None)?;
    }
    Ok(())
}

fn check(args: &Args, run: &Run) -> Outcome {
    if args.steps > run.steps() {
        let what = format!("--steps {}: with these images the recipe makes {} steps", args.steps, run.steps());
        return Err(Failure::usage(format!("{what}; raise finetune.epochs, or give more images")));
    }
    if args.ema.is_some() && run.ema.is_none() {
        return Err(Failure::usage("--ema: the recipe keeps no moving average; give it finetune.ema"));
    }
    Ok(())
}

/// Makes a step of the batches that are next in the epoch.
fn make(step: u64, run: &Run, images: &Images, trainer: &mut dyn Trainer) -> Outcome<Step> {
    let lr = run.schedule.lr(step);
    let first = (step % run.steps_per_epoch) as usize * run.batch * run.accumulation;
    for batch in 0..run.accumulation {
        trainer.submit(&mut of(images, first + batch * run.batch, run.batch), lr)?;
    }
    match trainer.collect(0)? {
        Some(Made::Updated { loss, norm }) => Ok(Step { step, lr, loss, norm }),
        Some(Made::NonFinite { what, .. }) => {
            let what = format!("step {step}: {what}; are images, targets and weights finite?");
            Err(Failure::failed(format!("{what} If they are, lower the learning rate")))
        }
        None => Err(Failure::failed(format!("step {step}: it was not made"))),
    }
}

/// The batch of `samples` images from number `from` on.
fn of(images: &Images, from: usize, samples: usize) -> Batch {
    let image = images.values.len() / images.samples;
    let values = images.values[from * image..(from + samples) * image].to_vec();
    let ids = (from as u64..(from + samples) as u64).collect();
    Batch { samples, images: values, ids, epochs: vec![0; samples], ..Batch::default() }
}
