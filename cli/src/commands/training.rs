//! What `pretrain` and `finetune` have in common: arguments, and the recipe they come to.

use std::path::{Path, PathBuf};

use convnext_core::Entry;
use convnext_pipeline::{
    device::Device,
    interrupt,
    recipe::{Io, Patterns, Recipe, Resolved},
    records::{EvaluateRecord, RunKind, RunRecord},
    run_dir,
    runs::{Place, RunError},
    tasks::classify::METRICS,
};

use crate::{Context, Failure, Outcome, device, output};

/// Arguments of a training run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The variant; without it, the recipe's.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Shards to train on, as a quoted pattern (*, ?, {a,b}, {000..120}); may be repeated. Without it, the recipe's.
    #[arg(long, value_name = "GLOB")]
    pub data: Vec<String>,
    /// How shards are read: mmap, or pread for network disks; as the recipe's machine.io.
    #[arg(long, value_name = "HOW")]
    pub io: Option<Io>,
    /// The run directory.
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// The recipe; without it, when resuming, the run's own.
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    /// Changes a value of the recipe, e.g. --set optimizer.clip=1; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Goes on with the run in --out.
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub device: device::Args,
    /// Writes one line of JSON at the end.
    #[arg(long)]
    pub json: bool,
}

/// A training run, its names resolved.
pub(super) struct Training<'a> {
    pub(super) entry: &'a Entry,
    pub(super) recipe: Resolved,
    pub(super) place: Place,
    pub(super) device: Device,
}

impl Args {
    /// Reads the recipe with the settings `more` beneath those of the command line.
    pub(super) fn resolve<'a>(&self, context: &Context<'a>, kind: RunKind, more: &[String]) -> Outcome<Training<'a>> {
        let recipe = self.recipe(kind, more)?;
        let entry = context.registry.find(&recipe.model.name)?;
        context.compute(recipe.machine.threads)?;
        interrupt::listen().map_err(|error| Failure::because("signals cannot be listened for", error))?;
        let device = self.device.resolve()?;
        Ok(Training { entry, recipe, place: Place { out: self.out.clone(), resume: self.resume }, device })
    }

    fn recipe(&self, kind: RunKind, more: &[String]) -> Outcome<Resolved> {
        let mut sets = more.to_vec();
        let quoted = |key: &str, value: &str| format!("{key}={}", toml_string(value));
        sets.extend(self.model.as_deref().map(|model| quoted("model.name", &model.to_lowercase())));
        sets.extend(patterns_setting("data.train", &self.data));
        sets.extend(self.io.map(|io| quoted("machine.io", &io.to_string())));
        sets.extend(self.set.iter().cloned());
        if self.resume {
            let own = run_dir::read_recipe(&self.out)?.kind();
            if own != kind {
                return Err(Failure::usage(format!(
                    "{out} is a run of `convnext {own}`; go on with it by `convnext {own} --out {out} --resume`",
                    out = self.out.display(),
                    own = own.name(),
                )));
            }
        }
        let recipe = match &self.recipe {
            Some(path) => Recipe::load(path, &sets)?.resolve()?,
            None if self.resume => run_dir::written_recipe(&self.out, &sets)?.resolve()?,
            None => return Err(Failure::usage("no recipe; give --recipe FILE (there are some in cli/recipes)")),
        };
        match recipe.kind() {
            own if own == kind => Ok(recipe),
            own => Err(RunError::OtherKind { asked: kind, kind: own }.into()),
        }
    }
}

/// A TOML string: a pattern may hold anything.
pub(super) fn toml_string(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// `key=PATTERNS`, where there are some.
pub(super) fn patterns_setting(key: &str, patterns: &[String]) -> Option<String> {
    let all: Vec<String> = patterns.iter().map(|pattern| toml_string(pattern)).collect();
    match all.as_slice() {
        [] => None,
        [one] => Some(format!("{key}={one}")),
        several => Some(format!("{key}=[{}]", several.join(", "))),
    }
}

/// The shards to train on.
pub(super) fn train_patterns(recipe: &Resolved) -> Outcome<&[String]> {
    let missing = || Failure::usage("no data; give --data GLOB, or data.train in the recipe");
    recipe.data.train.as_ref().map(Patterns::all).ok_or_else(missing)
}

/// Says what a run did.
pub(super) fn report(record: &RunRecord, out: &Path, json: bool) -> Outcome {
    if json {
        let mut record = record.clone();
        if let Some(best) = &mut record.best {
            best.checkpoint = out.join(&best.checkpoint).display().to_string();
        }
        return output::json_line(&record);
    }
    output::text(&text(record, out))
}

fn text(record: &RunRecord, out: &Path) -> String {
    let rate = record.images as f64 / record.seconds.max(1e-9);
    let mut text = format!(
        "{} of {}: {} images in {:.0} s ({:.0} CPU-seconds), {rate:.0} img/s; in {}\n",
        record.kind.name(),
        record.model,
        record.images,
        record.seconds,
        record.cpu_seconds,
        out.display()
    );
    if let Some(EvaluateRecord { metrics, weights, .. }) = &record.evaluation {
        text += &format!("last: {} ({} weights)\n", metrics.describe(&METRICS, ", "), weights.name());
    }
    if let Some(best) = &record.best {
        let place = out.join(&best.checkpoint);
        let metric = best.metrics.describe(&METRICS, ", ");
        text += &format!("best: {metric} at step {}, in {}\n", best.step, place.display());
    }
    if record.bad_samples > 0 {
        text += &format!(
            "bad samples: {}, replaced by others {} times in all; they are listed in {}\n",
            record.bad_samples,
            record.substituted,
            out.join("quarantine.tsv").display()
        );
    }
    text
}
