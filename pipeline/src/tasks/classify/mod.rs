//! Classification: a label for each image, learnt by fine-tuning a pre-trained encoder or from scratch.

mod classifier;
mod evaluate;
pub mod metrics;
mod mix;
mod objective;
mod predict;
mod settings;
mod tally;

use std::sync::Arc;

use convnext_core::{
    dfdx::tensor::Cpu,
    nn::{Entry, Flat},
    plan::Plan,
};
use convnext_cuda::training::{Options, TrainingStep, accumulating_classifier};
use convnext_data::{ShardSet, Target, TargetKind};

pub use classifier::Classifier;
pub use evaluate::evaluate;
pub use mix::{ImageSize, Mix, Mixing};
pub use objective::{Classification, Source, Targets};
pub use predict::{Prediction, Predictor, Question};
pub use settings::{Finetune, Start};

use super::{Defaults, Flag, Measure, Task, VALIDATION};
use crate::{
    input::Samples,
    records::{Evaluation, MetricKind},
    stream::Batch,
    tell,
    trainer::{Inference, ModelError},
};

/// What a classifier is measured by.
pub const METRICS: [MetricKind; 3] = [metrics::TOP1, metrics::TOP5, metrics::LOSS];

/// Supervised training of a classifier.
#[derive(Debug, Clone, Copy)]
pub struct Classify;

impl Task for Classify {
    fn name(&self) -> &'static str {
        "finetune"
    }

    fn title(&self) -> &'static str {
        "Fine-tuning"
    }

    fn about(&self) -> &'static str {
        "Trains a classifier, from pre-trained weights or from scratch"
    }

    fn examples(&self) -> &'static str {
        "\
Example:
  convnext finetune --model micro --data 'data/train-*.tar' --validation 'data/test-*.tar' --weights runs/pretrain \\
      --recipe micro-finetune --out runs/finetune
  convnext finetune --out runs/finetune --resume"
    }

    fn flags(&self) -> &'static [Flag] {
        const WEIGHTS: Flag = Flag {
            name: "weights",
            value: "PATH",
            help: "The run (RUN@best, RUN@last, RUN@step-800), checkpoint or file that the encoder starts from",
            key: "finetune.weights",
            several: false,
            is_number: false,
        };
        const CLASSES: Flag = Flag {
            name: "classes",
            value: "N",
            help: "Classes of the head; without it, the recipe's, else as many as the data name",
            key: "model.classes",
            several: false,
            is_number: true,
        };
        &[VALIDATION, WEIGHTS, CLASSES]
    }

    fn defaults(&self) -> Defaults {
        Defaults { beta2: 0.999, smallest_crop: 0.08 }
    }

    fn places(&self) -> &'static [&'static str] {
        &["weights"]
    }

    fn samples(&self, _: &Plan) -> Samples {
        Samples { target: TargetKind::Class, ..Samples::default() }
    }

    fn accept(
        &self,
        plan: &Plan,
        train: &ShardSet,
        validation: Option<ShardSet>,
    ) -> Result<Option<ShardSet>, ModelError> {
        let validation = validation.map(|set| relabelled(set, train)).transpose()?;
        for set in [Some(train), validation.as_ref()].into_iter().flatten() {
            set.require_labels()?;
            check_classes(plan, set)?;
        }
        Ok(validation)
    }

    fn has_classes(&self) -> bool {
        true
    }

    /// As many as the data name, if these are two or more. Of data without names the declared ones do, unless there are
    /// labels beyond them.
    fn classes(&self, plan: &Plan, train: &ShardSet) -> usize {
        match train.class_names() {
            Some(names) if names.len() > 1 => names.len(),
            _ => plan.classes.max(train.classes() as usize),
        }
    }

    fn fill(&self, plan: &Plan, batch: &mut Batch, step: u64) -> Result<(), ModelError> {
        batch.targets = (0..batch.samples).map(|sample| Target::Class((sample % plan.classes) as u32)).collect();
        batch.ids = (0..batch.samples as u64).collect();
        batch.epochs = vec![step; batch.samples];
        Ok(())
    }

    fn model(&self, entry: &Entry, cpu: &Cpu) -> Result<Box<dyn Flat>, ModelError> {
        Ok(entry.classifier(cpu)?)
    }

    fn schedule(&self, plan: &Plan, options: &Options, batches: usize) -> Result<TrainingStep, ModelError> {
        Ok(accumulating_classifier(plan, options, batches)?)
    }

    fn metrics(&self) -> &'static [MetricKind] {
        &METRICS
    }

    fn evaluate_command(&self) -> Option<&'static str> {
        Some("convnext evaluate")
    }

    fn measure(
        &self,
        plan: &Plan,
        model: &mut dyn Inference,
        shards: &Arc<ShardSet>,
        measure: Measure<'_>,
    ) -> Result<Evaluation, ModelError> {
        evaluate::measure(plan, model, shards, measure).map(|(evaluation, _)| evaluation)
    }

    fn loss(&self) -> &'static str {
        "Cross-entropy of images as they are augmented and mixed."
    }

    fn next(&self) -> &'static [&'static str] {
        &["evaluate RUN", "predict --weights RUN IMAGE...", "report RUN"]
    }

    fn benchmark(&self) -> &'static str {
        "Steps of supervised training"
    }

    fn benchmark_settings(&self) -> &'static str {
        "start = \"scratch\"\nsmoothing = 0.1\nema = { decay = 0.9999 }\nlayer_decay = { rate = 0.9, mode = \"single\" }\n"
    }
}

/// The validation set with the numbers that the training set gives to its classes, by name.
fn relabelled(validation: ShardSet, train: &ShardSet) -> Result<ShardSet, ModelError> {
    let (Some(expected), Some(names)) = (train.class_names(), validation.class_names()) else {
        let (known, found) = (train.classes(), validation.classes());
        if train.class_names().is_some() || validation.class_names().is_some() || found > known {
            tell::warn(format_args!(
                "the classes of training ({known}) and validation ({found}) do not both have names: equal numbers are taken \
                 for the same class; write names beside the shards to have them compared"
            ));
        }
        return Ok(validation);
    };
    if names != expected {
        let without = |these: &[String], those: &[String]| these.iter().filter(|name| !those.contains(name)).count();
        tell::warn(format_args!(
            "validation names {} classes and training {}, or in another order ({} of training's are not in validation); \
             labels are matched by name",
            names.len(),
            expected.len(),
            without(expected, names)
        ));
    }
    validation.relabelled(expected).map_err(ModelError::ValidationClasses)
}

/// Checks that every label has a class, and that labels mean something.
fn check_classes(plan: &Plan, shards: &ShardSet) -> Result<(), ModelError> {
    shards.check_class_names()?;
    let classes = plan.classes;
    match shards.classes() {
        found if found as usize > classes => Err(ModelError::Classes { model: plan.name, classes, largest: found - 1 }),
        _ => Ok(()),
    }
}
