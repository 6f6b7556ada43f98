//! `convnext evaluate`: a classifier measured.

use std::path::PathBuf;

use convnext_pipeline::{
    input::{View, view_of},
    recipe::{Data, Evaluate, EvaluatedWeights, Io, Job, Patterns},
    run_dir,
    runs::{self, Measure},
};

use crate::{Context, Failure, Outcome, device, output, shards};

/// Measures a classifier on every sample of some shards.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext evaluate runs/finetune --data 'data/test-*.tar'
  convnext evaluate weights.safetensors --model atto --data 'imagenet/val-*.tar' --out runs/evaluation")]
pub struct Args {
    /// A run, a checkpoint or a `.safetensors` file.
    #[arg(value_name = "WEIGHTS")]
    weights: PathBuf,
    /// The variant; without it, the run's.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Shards to measure on, as a quoted pattern; without it, the run's validation set.
    #[arg(long, value_name = "GLOB")]
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

/// How a run looked at images, or the defaults where there is no run.
pub(super) struct Manner {
    pub(super) model: Option<String>,
    pub(super) data: Data,
    pub(super) evaluate: Evaluate,
    pub(super) view: View,
    pub(super) workers: usize,
}

impl Manner {
    /// Of the run in `path`; the defaults if that is none.
    pub(super) fn of(path: &std::path::Path) -> Outcome<Self> {
        if !path.join(convnext_pipeline::records::RECIPE).is_file() {
            let evaluate = Evaluate::default();
            let view = View::Cropped(evaluate.crop);
            return Ok(Self { model: None, data: Data::default(), evaluate, view, workers: 0 });
        }
        let recipe = run_dir::read_recipe(path)?;
        let evaluate = match &recipe.job {
            Job::Finetune { evaluate, .. } | Job::Evaluate { evaluate } => evaluate.clone(),
            Job::Pretrain { .. } => Evaluate::default(),
        };
        let view = view_of(recipe.training().map(|training| &training.augment), evaluate.crop);
        let (model, workers) = (recipe.model.name, recipe.machine.workers);
        Ok(Self { model: Some(model), data: recipe.data, evaluate, view, workers })
    }

    /// The variant: the one asked for, else the run's.
    pub(super) fn model(&self, asked: Option<&str>) -> Outcome<String> {
        let model = asked.map(str::to_owned).or_else(|| self.model.clone());
        model.ok_or_else(|| Failure::usage("no model; give --model MODEL, or a run directory"))
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let manner = Manner::of(&args.weights)?;
    let entry = context.registry.find(&manner.model(args.model.as_deref())?)?;
    let asked = (!args.data.is_empty()).then_some(args.data.as_slice());
    let patterns = asked.or(manner.data.validation.as_ref().map(Patterns::all));
    let patterns = patterns.ok_or_else(|| Failure::usage("no data; give --data GLOB"))?;
    let out = match (&args.out, manner.model.is_some()) {
        (Some(out), _) => out.clone(),
        (None, true) => args.weights.clone(),
        (None, false) => return Err(Failure::usage("no place to write to; give --out DIR")),
    };
    let measure = Measure {
        data: &manner.data,
        view: manner.view,
        batch: manner.evaluate.batch as usize,
        workers: manner.workers,
    };
    let which: EvaluatedWeights = manner.evaluate.weights;
    let found = runs::evaluate(
        entry,
        &args.weights,
        which,
        &shards::open(patterns, args.io)?,
        measure,
        &out,
        &args.device.resolve()?,
    )?;
    if args.json {
        return output::json_line(&found);
    }
    output::text(&format!(
        "{}: top-1 {:.2} %, top-5 {:.2} %, loss {:.4} on {} images ({} weights); in {}\n",
        entry.plan.name,
        100.0 * found.top1,
        100.0 * found.top5,
        found.loss,
        found.samples,
        found.weights.name(),
        out.display()
    ))
}
