//! A recipe with every default filled in and every value checked.

use std::fmt;

use serde::Serialize;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use crate::{
    settings::{
        Augment, Checkpoint, Data, Evaluate, Machine, Model, Problem, RecipeError, ResolvedOptimizer, Run, Stop, Terms,
    },
    tasks::{self, Section, Task},
};

/// A recipe that can be run. Written as TOML it is a recipe again, which resolves to itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resolved {
    /// Seed of every random decision.
    pub seed: u64,
    /// Which variant.
    pub model: Model,
    /// Which images.
    pub data: Data,
    /// What is trained, and how; nothing where the recipe only evaluates.
    #[serde(flatten)]
    pub training: Option<Training>,
    /// How what is trained is measured on the way, or what is there is evaluated; nothing for a task that is not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate: Option<Evaluate>,
    /// What changes the speed and no number.
    pub machine: Machine,
}

/// What is trained, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    /// The task's own settings.
    #[serde(flatten)]
    pub section: Section,
    /// AdamW.
    pub optimizer: ResolvedOptimizer,
    /// What happens to a training image.
    pub augment: Augment,
    /// When a checkpoint is written and which ones stay.
    pub checkpoint: Checkpoint,
    /// When the run ends before its last epoch; never if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
}

/// Sections, and keys of `[data]`, that say where things are, how fast they go, what is kept or how long, and change no step. A
/// task's [own places](tasks::Task::places) are left out with them.
const NOT_HASHED: [&[&str]; 5] =
    [&["machine"], &["checkpoint"], &["stop"], &["data", "train"], &["data", "validation"]];

/// Keys of a task that a run may change when it is resumed: what there is to do about one that diverges. They decide
/// numbers, so the hash sees them, and a run says and records what it changed.
const CHANGEABLE: [&str; 4] = ["base_lr", "warmup_epochs", "warmup_lr", "min_lr"];
/// And those of the optimiser.
const CHANGEABLE_OF_OPTIMIZER: [&str; 2] = ["clip", "non_finite"];

/// A key that has another value than in another recipe, each as TOML, or `absent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key, e.g. `finetune.base_lr`.
    pub key: String,
    /// The value.
    pub now: String,
    /// The other recipe's.
    pub was: String,
}

impl Difference {
    /// Whether a run may change this when it is resumed.
    pub fn may_change(&self) -> bool {
        match self.key.split_once('.') {
            Some(("optimizer", key)) => CHANGEABLE_OF_OPTIMIZER.contains(&key),
            Some((section, key)) => tasks::named(section).is_some() && CHANGEABLE.contains(&key),
            None => false,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, now, was } = self;
        write!(f, "{key}: {now}, was {was}")
    }
}

impl Resolved {
    /// What [`name`](Self::name) says of a recipe that trains nothing.
    pub const EVALUATE: &str = "evaluate";

    /// The recipe as TOML; it can be read as a recipe, and resolves to itself.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.table()).expect("a table is TOML")
    }

    /// SHA-256, in hexadecimal, of everything in the recipe that decides the numbers of a run.
    ///
    /// Left out are `[machine]`, `[checkpoint]`, `[stop]`, where data and weights lie, and how what is trained is measured on the way:
    /// a run may be resumed with others.
    pub fn hash(&self) -> String {
        let text = toml::to_string(&self.hashed()).expect("a table is TOML");
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What the hash sees that differs from `other`, e.g. `finetune.base_lr: 0.001, was 0.002`.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        differences("", Some(&Value::Table(self.hashed())), Some(&Value::Table(other.hashed())), &mut found);
        found
    }

    /// Every setting that decides the numbers of a run, by its key, e.g. `finetune.base_lr`.
    pub fn settings(&self) -> Vec<(String, Value)> {
        let mut settings = Vec::new();
        leaves("", Value::Table(self.hashed()), &mut settings);
        settings
    }

    fn table(&self) -> Table {
        Table::try_from(self).expect("a recipe is a table")
    }

    fn hashed(&self) -> Table {
        let mut table = self.table();
        for path in NOT_HASHED {
            remove(&mut table, path);
        }
        if let Some(task) = self.task() {
            // Measurements on the way change no weight.
            remove(&mut table, &["evaluate"]);
            for key in task.places() {
                remove(&mut table, &[task.name(), key]);
            }
        }
        table
    }

    /// What is trained, if the recipe trains.
    pub fn task(&self) -> Option<&'static dyn Task> {
        self.training.as_ref().map(|training| training.section.task())
    }

    /// The name of the task, or `evaluate`: the section that says what is done, and the command that does it.
    pub fn name(&self) -> &'static str {
        self.task().map_or(Self::EVALUATE, Task::name)
    }

    /// The run on `samples` training images and `machines` machines.
    ///
    /// # Errors
    /// [`RecipeError::Invalid`] when there are fewer images than one step takes, or when the recipe only evaluates.
    pub fn run(&self, samples: u64, machines: u64) -> Result<Run, RecipeError> {
        let Some(Training { section, optimizer, checkpoint, stop, .. }) = &self.training else {
            let tasks: Vec<String> = tasks::ALL.iter().map(|task| format!("[{}]", task.name())).collect();
            let what = format!("nothing to train; write {}", tasks.join(" or "));
            return Err(RecipeError::Invalid { problems: vec![Problem::new(Self::EVALUATE, what)] });
        };
        let terms = Terms {
            section: section.task().name(),
            course: section.course(),
            optimizer,
            checkpoint,
            stop: *stop,
            layer_decay: section.layer_decay(),
            ema: section.ema(),
            // What is not measured has no best checkpoint.
            better: section.task().metrics().first().map(|metric| metric.better),
        };
        Run::new(&terms, samples, machines)
    }
}

fn leaves(key: &str, value: Value, found: &mut Vec<(String, Value)>) {
    let Value::Table(table) = value else { return found.push((key.to_owned(), value)) };
    for (name, value) in table {
        let key = if key.is_empty() { name } else { format!("{key}.{name}") };
        leaves(&key, value, found);
    }
}

fn remove(table: &mut Table, path: &[&str]) {
    match path {
        [] => {}
        [key] => drop(table.remove(*key)),
        [section, rest @ ..] => {
            if let Some(section) = table.get_mut(*section).and_then(Value::as_table_mut) {
                remove(section, rest);
            }
        }
    }
}

fn differences(key: &str, now: Option<&Value>, was: Option<&Value>, found: &mut Vec<Difference>) {
    if let (Some(Value::Table(now)), Some(Value::Table(was))) = (now, was) {
        let mut names: Vec<&String> = now.keys().chain(was.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            differences(&key, now.get(name), was.get(name), found);
        }
    } else if now != was {
        let show = |value: Option<&Value>| value.map_or("absent".into(), ToString::to_string);
        found.push(Difference { key: key.to_owned(), now: show(now), was: show(was) });
    }
}
