//! `[finetune]`: what fine-tuning is told, and what it starts from.

use std::path::Path;

use convnext_core::{
    dfdx::tensor::Cpu,
    nn::ClassifierModule,
    optim::{self, Layout},
};
use convnext_weights::{
    checkpoint::Which,
    convert::{self, Take},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Classification, Classify, Mix, Source};
use crate::{
    settings::{BELOW_ONE, Course, Ema, LayerDecay, Problems, training_section},
    tasks::{self, Setup, Task, TaskSettings},
    tell,
    trainer::{self, ModelError, Trainer},
};

training_section! {
    /// Supervised training, of a pre-trained encoder or from scratch.
    pub struct Finetune {
        /// What the encoder starts from.
        pub start: Start,
        /// The run (or `RUN@best`, `RUN@last`, `RUN@step-800`), checkpoint or `.safetensors` file that a pre-trained encoder
        /// is read from. Not part of the recipe's hash.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub weights: Option<String>,
        /// Factor on the head's first weights; 0.001 if absent, and 1 from scratch.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 1e-9, max = 1e9))]
        pub head_scale: Option<f64>,
        /// Drop-path rate of the last block; the variant's own if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0.0, max = BELOW_ONE))]
        pub drop_path: Option<f64>,
        /// Label smoothing.
        #[serde(default)]
        #[schemars(range(min = 0.0, max = BELOW_ONE))]
        pub smoothing: f64,
        /// Mixup's alpha; 0 for none.
        #[serde(default)]
        #[schemars(extend("anyOf" = alpha()))]
        pub mixup: f64,
        /// CutMix's alpha; 0 for none. With mixup too, each batch takes one of them.
        #[serde(default)]
        #[schemars(extend("anyOf" = alpha()))]
        pub cutmix: f64,
        /// Layer-wise decay of the learning rate; none if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub layer_decay: Option<LayerDecay>,
        /// Moving average of the weights; none if absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub ema: Option<Ema>,
    }
}

/// Alpha of a beta distribution, or none.
fn alpha() -> serde_json::Value {
    json!([{ "const": 0 }, { "type": "number", "minimum": 0.01, "maximum": 100 }])
}

/// What the encoder starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Weights of an earlier run.
    Pretrained,
    /// Random weights.
    Scratch,
}

impl Start {
    /// The factor on the head's first weights that goes with it: from scratch it must be 1, or the encoder's gradients
    /// vanish.
    pub fn head_scale(self) -> f64 {
        match self {
            Self::Pretrained => 0.001,
            Self::Scratch => 1.0,
        }
    }
}

impl Finetune {
    /// Factor on the head's first weights.
    pub fn head_scale(&self) -> f64 {
        self.head_scale.unwrap_or(self.start.head_scale())
    }

    fn check_head(&self, problems: &mut Problems) {
        let scale = self.head_scale();
        if self.start == Start::Scratch {
            let from = "from scratch, or start = \"pretrained\"";
            problems.unless(scale == 1.0, "finetune.head_scale", scale, &format!("1 {from}"));
            problems.unless(self.weights.is_none(), "finetune.weights", &self.weights, &format!("none {from}"));
        }
    }

    /// Puts the first weights into the model: those of an earlier run or of a file, in any layout; the head's scaled. A run
    /// that goes on from a checkpoint has no need of them.
    fn start(&self, model: &mut dyn ClassifierModule, goes_on: bool) -> Result<(), ModelError> {
        if goes_on {
            return Ok(());
        }
        let (layout, mut values) = (model.layout(), model.values());
        if self.start == Start::Pretrained {
            let weights = self.weights.as_deref().ok_or(ModelError::NoWeights)?;
            let loaded = convert::load_into(Path::new(weights), &layout, &mut values, Which::default(), Take::Encoder)?;
            tasks::warn_of(&loaded.skipped);
            tell::say(format_args!("starting from {}: {weights}", loaded.taken));
        }
        scale_head(&layout, &mut values, self.head_scale() as f32);
        model.write(&values);
        Ok(())
    }
}

fn scale_head(layout: &Layout, values: &mut [f32], scale: f32) {
    for segment in layout.segments().iter().filter(|segment| segment.name.starts_with("head.linear.")) {
        values[segment.range.clone()].iter_mut().for_each(|value| *value *= scale);
    }
}

impl TaskSettings for Finetune {
    fn task(&self) -> &'static dyn Task {
        &Classify
    }

    fn course(&self) -> Course {
        self.course()
    }

    fn resolve(&mut self, problems: &mut Problems) {
        self.check_head(problems);
        self.head_scale = Some(self.head_scale());
    }

    fn layer_decay(&self) -> Option<optim::LayerDecay> {
        self.layer_decay.map(Into::into)
    }

    fn ema(&self) -> Option<optim::Ema> {
        self.ema.map(Into::into)
    }

    fn starts_from(&self) -> Option<&str> {
        self.weights.as_deref()
    }

    fn trainer(&self, setup: &Setup<'_>) -> Result<Box<dyn Trainer>, ModelError> {
        let (plan, cpu) = (&setup.entry.plan, Cpu::seed_from_u64(setup.seed));
        let mut model = setup.entry.classifier(&cpu)?;
        setup.begin(&mut *model);
        self.start(&mut *model, setup.goes_on)?;
        let drop_path = self.drop_path.map_or(plan.drop_path, |rate| rate as f32);
        model.set_drop_path(drop_path);
        let mix = Mix { smoothing: self.smoothing as f32, mixup: self.mixup, cutmix: self.cutmix };
        let objective = Classification::new(plan, drop_path, Source::Labels { mix, seed: setup.seed });
        trainer::trainer(objective, &*model, &setup.workplace())
    }
}
