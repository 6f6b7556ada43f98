//! `convnext debug train`: some steps of fine-tuning on given images and targets.

use std::path::PathBuf;

use convnext_core::{
    dfdx::tensor::{Cpu, Gradients},
    nn::ClassifierModule,
};
use convnext_pipeline::{
    learner::{self, Learner},
    recipe::{Job, Run},
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
  convnext debug train --model atto --weights w.safetensors --recipe cli/recipes/finetune-atto.toml \\
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

/// What the steps are made on.
struct Data {
    images: Images,
    targets: Vec<f32>,
    classes: usize,
}

pub(crate) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&args.given.model)?;
    let recipe = args.written.resolve(Some(entry.plan.name))?;
    if !matches!(recipe.job, Job::Finetune { .. }) {
        return Err(Failure::usage(format!("{} does not fine-tune; give one with [finetune]", args.written.name())));
    }
    let images = Images::read(&args.given.input, &entry.plan)?;
    let targets = read_targets(&args.targets, images.samples, &entry.plan)?;
    let data = Data { images, targets, classes: entry.plan.classes };
    let run = recipe.run(data.images.samples as u64, 1)?;
    check(args, &run)?;

    recipe.model.precision.apply();
    let device = Cpu::default();
    let mut classifier = entry.classifier(&device)?;
    load(&mut *classifier, &args.given.weights)?;
    classifier.set_drop_path(0.0);
    let mut learner = Learner::new(&*classifier, &entry.plan, &run)?;
    for step in 0..args.steps {
        output::json_line(&make(step, &run, &data, &device, &mut *classifier, &mut learner)?)?;
    }

    convert::save(&args.output, learner.layout(), &learner.parameters(&*classifier), Dialect::Official, None)?;
    if let (Some(path), Some(average)) = (&args.ema, learner.optimizer().ema()) {
        convert::save(path, learner.layout(), average, Dialect::Official, None)?;
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

fn make(
    step: u64,
    run: &Run,
    data: &Data,
    device: &Cpu,
    classifier: &mut dyn ClassifierModule,
    learner: &mut Learner,
) -> Outcome<Step> {
    let image = data.images.values.len() / data.images.samples;
    let first = (step % run.steps_per_epoch) as usize * run.batch * run.accumulation;
    let (mut losses, mut gradients) = (0.0, Gradients::leaky());
    for batch in 0..run.accumulation {
        let from = first + batch * run.batch;
        let samples = from..from + run.batch;
        let images = &data.images.values[samples.start * image..samples.end * image];
        let targets = data.targets[samples.start * data.classes..samples.end * data.classes].to_vec();
        let (loss, added) = classifier.step(device, images, targets, run.batch, gradients)?;
        (losses, gradients) = (losses + f64::from(loss), added);
    }
    let lr = run.schedule.lr(step);
    match learner.update(classifier, &mut gradients, run.accumulation, lr)? {
        learner::Outcome::Updated { norm } => Ok(Step { step, lr, loss: losses / run.accumulation as f64, norm }),
        learner::Outcome::Overflow(name) => {
            Err(Failure::failed(format!("step {step}: the update of `{name}` overflows; lower the learning rate")))
        }
        learner::Outcome::NonFinite(fault) => {
            let fault = fault.map_or_else(|| "the gradient's norm is not finite".to_owned(), |fault| fault.to_string());
            Err(Failure::failed(format!("step {step}: {fault}; are images, targets and weights finite?")))
        }
    }
}
