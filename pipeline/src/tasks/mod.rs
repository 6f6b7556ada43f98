//! What a model is trained for. Everything that differs between one task and another is here, behind [`Task`] and
//! [`TaskSettings`]; recipes, the training loop, records, reports and commands know no more of a task than these say.
//!
//! ```text
//! Task          what a task is: its command, its samples, its metrics, its model, what a report shows of it
//! TaskSettings  its section of a recipe: defaults and checks, and the trainer that a run starts with
//! Objective     (crate::trainer) what the trainers ask for: targets, loss and outputs of one batch
//! ```
//!
//! To add one: a file with the three, and its line in the [list](ALL).

pub mod classify;
mod loader;
pub mod masked;

use std::{fmt::Debug, ops::Deref, sync::Arc};

use convnext_core::{
    dfdx::tensor::Cpu,
    nn::{Entry, Flat, scale_to_fan_in},
    optim,
    plan::Plan,
};
use convnext_cuda::training::{Options, TrainingStep};
use convnext_data::ShardSet;
use convnext_weights::checkpoint::{Skipped, View};
use serde::{Serialize, Serializer, de::MapAccess};

use crate::{
    device::Device,
    input::Samples,
    records::{Evaluation, MetricKind},
    settings::{Course, Data, Init, Model, Problems, Run, schema},
    stream::Batch,
    tell,
    trainer::{Inference, ModelError, Trainer, Workplace},
};

/// What a model is trained for.
pub trait Task: Debug + Sync {
    /// What its command, its section of a recipe and its runs are called, e.g. `finetune`.
    fn name(&self) -> &'static str;

    /// What people call it, e.g. `Fine-tuning`.
    fn title(&self) -> &'static str;

    /// The help of its command: what it does, in a sentence.
    fn about(&self) -> &'static str;

    /// Examples of its command, behind its help.
    fn examples(&self) -> &'static str;

    /// Arguments of its command beside those of every task.
    fn flags(&self) -> &'static [Flag] {
        &[]
    }

    // ---- settings --------------------------------------------------------------------------------------------------

    /// What the shared sections of a recipe hold if nothing is said.
    fn defaults(&self) -> Defaults;

    /// Keys of its section that say where something lies. They are no part of a recipe's hash: things may move.
    fn places(&self) -> &'static [&'static str] {
        &[]
    }

    // ---- samples ---------------------------------------------------------------------------------------------------

    /// What happens to samples and their targets for a model of `plan`, beside augmentation.
    fn samples(&self, plan: &Plan) -> Samples;

    /// Whether the data will do, which is asked before anything is written. Gives back the validation set with the labels
    /// that training gives to the same classes.
    ///
    /// # Errors
    /// The variant lacks what the task needs, or the data lack targets.
    fn accept(
        &self,
        plan: &Plan,
        train: &ShardSet,
        validation: Option<ShardSet>,
    ) -> Result<Option<ShardSet>, ModelError>;

    /// Whether its model tells classes apart.
    fn has_classes(&self) -> bool {
        false
    }

    /// How many, on these data, where neither recipe nor run say.
    fn classes(&self, plan: &Plan, train: &ShardSet) -> usize {
        let _ = train;
        plan.classes
    }

    /// Fills in the targets of a batch whose images come from nowhere, as step `step` of a measurement of speed has them.
    ///
    /// # Errors
    /// The variant lacks what the task needs.
    fn fill(&self, plan: &Plan, batch: &mut Batch, step: u64) -> Result<(), ModelError>;

    // ---- the model -------------------------------------------------------------------------------------------------

    /// The model with fresh parameters, as what checkpoints and optimisers see of it.
    ///
    /// # Errors
    /// Memory runs out, or the variant lacks what the task needs.
    fn model(&self, entry: &Entry, cpu: &Cpu) -> Result<Box<dyn Flat>, ModelError>;

    /// Multiply-adds of one image's forward pass.
    fn multiply_adds(&self, plan: &Plan) -> u64 {
        plan.classifier().multiply_adds()
    }

    /// A step of `batches` batches on a GPU.
    ///
    /// # Errors
    /// A batch that is too large, or a variant that lacks what the task needs; [`ModelError::CpuOnly`] unless there is one.
    fn schedule(&self, plan: &Plan, options: &Options, batches: usize) -> Result<TrainingStep, ModelError> {
        let _ = (plan, options, batches);
        Err(ModelError::CpuOnly(self.name()))
    }

    // ---- measurement -----------------------------------------------------------------------------------------------

    /// What it is measured by on held-out data, as it is told; the first decides which checkpoint is the best. Nothing
    /// for a task that is not measured.
    fn metrics(&self) -> &'static [MetricKind] {
        &[]
    }

    /// Measures a model on every sample of `shards` once.
    ///
    /// # Errors
    /// [`ModelError::Unmeasured`] for a task without metrics; [`ModelError::Stopped`] when a signal comes;
    /// [`ModelError::NotFinite`] where the model has no answer; what the input or the device say.
    fn measure(
        &self,
        plan: &Plan,
        model: &mut dyn Inference,
        shards: &Arc<ShardSet>,
        measure: Measure<'_>,
    ) -> Result<Evaluation, ModelError> {
        let _ = (plan, model, shards, measure);
        Err(ModelError::Unmeasured(self.name()))
    }

    /// The command that measures one of its runs in full, where there is one.
    fn evaluate_command(&self) -> Option<&'static str> {
        None
    }

    // ---- what is shown ---------------------------------------------------------------------------------------------

    /// What the training loss is, in a sentence below its curve.
    fn loss(&self) -> &'static str;

    /// A picture that one of the commands makes of its runs.
    fn picture(&self) -> Option<&'static Picture> {
        None
    }

    /// The commands that go on from one of its runs, by their arguments: `RUN` stands for the run's path.
    fn next(&self) -> &'static [&'static str];

    /// What `bench` measures, in its help.
    fn benchmark(&self) -> &'static str;

    /// Lines of its section, in TOML, that a measurement of speed sets beside length, batch and rate.
    fn benchmark_settings(&self) -> &'static str {
        ""
    }
}

/// An argument of a task's command, which sets a key of the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without the dashes.
    pub name: &'static str,
    /// What its value is called.
    pub value: &'static str,
    /// Its help.
    pub help: &'static str,
    /// The key of the recipe.
    pub key: &'static str,
    /// Whether it takes several values.
    pub several: bool,
    /// Whether its value is a number, and no text.
    pub is_number: bool,
}

/// `--validation`, of a task that is measured while it is trained.
const VALIDATION: Flag = Flag {
    name: "validation",
    value: "GLOB",
    help: "Shards to measure on after each epoch, as patterns, or a folder of images",
    key: "data.validation",
    several: true,
    is_number: false,
};

/// What the shared sections of a recipe hold if nothing is said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Decay of AdamW's second moment.
    pub beta2: f64,
    /// The smallest share of an image's area that a random crop takes.
    pub smallest_crop: f64,
}

/// How a model is measured.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// How pixels are normalised.
    pub data: &'a Data,
    /// How evaluation looks at an image.
    pub view: View,
    /// Images of one forward pass.
    pub batch: usize,
    /// Worker threads of the pipeline; 0 for one a core.
    pub workers: usize,
}

/// A picture of a run, as a report shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// The file, relative to the run directory: a PNG.
    pub file: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it is a picture of, for those who cannot see it.
    pub alt: &'static str,
    /// What is to be seen on it, in a few sentences.
    pub caption: &'static str,
    /// What its columns are, from left to right.
    pub columns: &'static [&'static str],
    /// The command that makes it.
    pub command: &'static str,
}

/// A task's section of a recipe.
pub trait TaskSettings {
    /// The task.
    fn task(&self) -> &'static dyn Task;

    /// Length, batch and learning rates.
    fn course(&self) -> Course;

    /// Fills in defaults, and checks how values go together; their ranges are checked, and so is the
    /// [`course`](Self::course).
    fn resolve(&mut self, problems: &mut Problems) {
        let _ = problems;
    }

    /// Layer-wise decay of the learning rate.
    fn layer_decay(&self) -> Option<optim::LayerDecay> {
        None
    }

    /// Moving average of the weights.
    fn ema(&self) -> Option<optim::Ema> {
        None
    }

    /// The path that first weights are read from; `None` where they are random.
    fn starts_from(&self) -> Option<&str> {
        None
    }

    /// A trainer with the weights that the run starts from: the same on every device.
    ///
    /// # Errors
    /// The variant lacks what the task needs, there are no such weights, or the device refuses.
    fn trainer(&self, setup: &Setup<'_>) -> Result<Box<dyn Trainer>, ModelError>;
}

/// What a trainer is made from.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The variant.
    pub entry: &'a Entry,
    /// First weights and precision.
    pub model: &'a Model,
    /// How pixels are normalised.
    pub data: &'a Data,
    /// Seed of every random decision.
    pub seed: u64,
    /// The optimiser and the batches.
    pub run: &'a Run,
    /// Where it trains.
    pub device: &'a Device,
    /// Whether a checkpoint is put in at once, so that first weights need not be read.
    pub goes_on: bool,
    /// Images of one pass when it is measured, if it is measured on the way.
    pub measured: Option<usize>,
}

impl<'a> Setup<'a> {
    /// Gives a freshly built model the first weights that the recipe asks for.
    pub(crate) fn begin(&self, model: &mut dyn Flat) {
        match self.model.init {
            Init::Normal => {}
            Init::FanIn => scale_to_fan_in(model),
        }
    }

    /// Where and how its model is trained.
    pub(crate) fn workplace(&self) -> Workplace<'a> {
        Workplace {
            device: self.device,
            plan: &self.entry.plan,
            run: self.run,
            precision: self.model.precision,
            data: self.data,
            measured: self.measured,
        }
    }
}

/// Tells the user, on standard error, of checkpoints that were passed over.
pub fn warn_of(skipped: &[Skipped]) {
    for skipped in skipped {
        tell::warn(format_args!("passed over: {skipped}"));
    }
}

/// The list of tasks: for each the variant of [`Section`], the task, and its section of a recipe.
macro_rules! tasks {
    ($($variant:ident($task:expr, $settings:ty),)*) => {
        /// All tasks, in the order in which lists and reports have them.
        pub static ALL: &[&dyn Task] = &[$(&$task),*];

        /// The section of one task.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Section {
            $(
                #[doc = concat!("Of [`", stringify!($settings), "`].")]
                $variant($settings),
            )*
        }

        impl Section {
            /// Reads the value of the section called `name`, which is a task's.
            pub(crate) fn read<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Self, A::Error> {
                $(
                    if name == $task.name() {
                        return Ok(Self::$variant(map.next_value()?));
                    }
                )*
                Err(serde::de::Error::unknown_variant(name, &[]))
            }

            /// What every task's section may hold, by the task's name.
            pub(crate) fn schemas() -> Vec<(&'static str, serde_json::Value)> {
                vec![$(($task.name(), schema::of::<$settings>())),*]
            }

            /// Fills in defaults, and checks every value but how those of the [`course`](TaskSettings::course) go together.
            pub(crate) fn resolve(&mut self, problems: &mut Problems) {
                match self {
                    $(Self::$variant(settings) => {
                        problems.ranges($task.name(), settings);
                        TaskSettings::resolve(settings, problems);
                    })*
                }
            }
        }

        impl Deref for Section {
            type Target = dyn TaskSettings;

            fn deref(&self) -> &(dyn TaskSettings + 'static) {
                match self { $(Self::$variant(settings) => settings,)* }
            }
        }

        /// A map of one key, the task's name.
        impl Serialize for Section {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$variant(settings) => {
                        serializer.serialize_newtype_variant("Section", 0, $task.name(), settings)
                    })*
                }
            }
        }
    };
}

tasks! {
    Masked(masked::Masked, masked::Pretrain),
    Classify(classify::Classify, classify::Finetune),
}

/// The task called `name`.
pub fn named(name: &str) -> Option<&'static dyn Task> {
    ALL.iter().copied().find(|task| task.name() == name)
}

/// Every metric that a task measures, each name once.
pub fn metrics() -> Vec<&'static MetricKind> {
    let mut metrics: Vec<&'static MetricKind> = Vec::new();
    for metric in ALL.iter().flat_map(|task| task.metrics()) {
        if metrics.iter().all(|known| known.name != metric.name) {
            metrics.push(metric);
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_lead_to_their_tasks() {
        for (index, task) in ALL.iter().enumerate() {
            assert_eq!(named(task.name()).map(Task::title), Some(task.title()));
            assert!(ALL[..index].iter().all(|other| other.name() != task.name()));
            assert!(task.examples().contains(task.name()), "{} has no example", task.name());
        }
        assert!(named("evaluate").is_none(), "a recipe's own section");
    }
}
