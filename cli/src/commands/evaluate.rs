//! `convnext evaluate`: a classifier measured.

use std::path::{Path, PathBuf};

use convnext_pipeline::{
    given::{Given, Names, by_name},
    interrupt,
    recipe::{Io, Patterns},
    records,
    tasks::{
        Measure,
        classify::{self, METRICS},
    },
    tell,
};

use crate::{Context, Failure, Outcome, device, output, preprocessing, shards};

/// Measures a classifier on every sample of some shards.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext evaluate runs/finetune --data 'data/test-*.tar'
  convnext evaluate runs/finetune@last --values raw
  convnext evaluate weights.safetensors --model atto --data 'imagenet/val-*.tar' --out runs/evaluation

Mean, deviation, view and class names are those that the weights say, else those of the run that they lie in; which are
used is told. Labels are compared by the names of their classes, where weights and shards have them.")]
pub struct Args {
    /// A run, a checkpoint or a `.safetensors` file; RUN@best, RUN@last and RUN@step-800 are checkpoints of a run.
    #[arg(value_name = "WEIGHTS")]
    weights: PathBuf,
    #[command(flatten)]
    preprocessing: preprocessing::Args,
    /// A file of the model's class names, one a line, class 0 first; without it, those that the weights have.
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Shards to measure on, as patterns, or a folder of class folders; without it, the run's validation set.
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    data: Vec<String>,
    /// How shards are read: mmap, or pread for network disks.
    #[arg(long, value_name = "HOW", default_value_t)]
    io: Io,
    /// Where evaluation.json and pictures of mistakes are written; without it, the run.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    device: device::Args,
    /// Writes one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
    let applied = args.preprocessing.resolve(&args.weights, args.classes.as_deref(), context)?;
    let preprocessing::Applied { given, entry, preprocessing } = &applied;
    let out = args.out.clone().map_or_else(|| run_to_write_to(&given.path), Ok)?;
    let shards = shards::open_set(patterns(args, given)?, args.io)?;
    shards::tell_of_classes(&shards);
    let (shards, names) = by_name(shards, &preprocessing.classes, &entry.plan)?;
    if names != Names::Compared {
        tell::say(&names);
    }
    let measure = Measure {
        data: &preprocessing.data,
        view: preprocessing.view,
        batch: given.evaluate().batch as usize,
        workers: given.recipe.as_ref().map_or(0, |recipe| recipe.machine.workers),
    };
    let weights = (given.path.as_path(), given.which);
    let (found, taken) = classify::evaluate(entry, weights, &shards.into(), measure, &out, &args.device.resolve()?)?;
    args.preprocessing.tell(&applied, &taken)?;
    if args.json {
        return output::json_line(&found);
    }
    output::text(&format!(
        "{}: {} on {} images ({} weights); in {}\n",
        entry.plan.name,
        found.metrics.describe(&METRICS, ", "),
        found.samples,
        found.weights.name(),
        out.display()
    ))
}

/// The shards asked for, else those that the run was validated on.
fn patterns<'a>(args: &'a Args, given: &'a Given) -> Outcome<&'a [String]> {
    let asked = (!args.data.is_empty()).then_some(args.data.as_slice());
    let own = || given.recipe.as_ref()?.data.validation.as_ref().map(Patterns::all);
    asked.or_else(own).ok_or_else(|| Failure::usage("no data; give --data GLOB"))
}

/// The run that is measured: its report shows what is found.
fn run_to_write_to(weights: &Path) -> Outcome<PathBuf> {
    match weights.join(records::RECIPE).is_file() {
        true => Ok(weights.to_owned()),
        false => Err(Failure::usage("no place to write to; give --out DIR")),
    }
}
