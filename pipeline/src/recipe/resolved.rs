//! A recipe with every default filled in and every value checked.

use std::fmt;

use convnext_data::Normalise;
use serde::Serialize;
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::written::{
    Checkpoint, Data, Ema, Evaluate, LayerDecay, Machine, Model, NonFinitePolicy, Pretrain, RandAugment, Start,
};
use crate::records::RunKind;

/// A recipe that can be run. Written as TOML it is a recipe again, which resolves to itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resolved {
    /// Seed of every random decision.
    pub seed: u64,
    /// Which variant.
    pub model: Model,
    /// Which images.
    pub data: Data,
    /// What is done.
    #[serde(flatten)]
    pub job: Job,
    /// What changes the speed and no number.
    pub machine: Machine,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Job {
    /// Masked-autoencoder pre-training.
    Pretrain {
        /// Length, batch and learning rate.
        pretrain: Pretrain,
        /// AdamW, augmentation and checkpoints.
        #[serde(flatten)]
        training: Training,
    },
    /// Supervised training.
    Finetune {
        /// Length, batch, learning rate and regularisation.
        finetune: Finetune,
        /// How the run is evaluated on the way.
        evaluate: Evaluate,
        /// AdamW, augmentation and checkpoints.
        #[serde(flatten)]
        training: Training,
    },
    /// Evaluation.
    Evaluate {
        /// How.
        evaluate: Evaluate,
    },
}

/// What both kinds of training have.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    /// AdamW.
    pub optimizer: Optimizer,
    /// What happens to a training image.
    pub augment: Augment,
    /// When a checkpoint is written and which ones stay.
    pub checkpoint: Checkpoint,
}

/// `[finetune]`, resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finetune {
    /// Passes over the training set.
    pub epochs: u64,
    /// Images of one forward and backward pass, on each machine.
    pub batch: u64,
    /// Batches whose gradients make one step.
    pub accumulation: u64,
    /// Learning rate for 256 images a step.
    pub base_lr: f64,
    /// Epochs of linear warm-up.
    pub warmup_epochs: f64,
    /// Learning rate that the warm-up starts from; absolute.
    pub warmup_lr: f64,
    /// Learning rate that the cosine ends at; absolute.
    pub min_lr: f64,
    /// What the encoder starts from.
    pub start: Start,
    /// Where a pre-trained encoder is read from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// Factor on the head's first weights.
    pub head_scale: f64,
    /// Drop-path rate of the last block; the variant's own if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_path: Option<f64>,
    /// Label smoothing.
    pub smoothing: f64,
    /// Mixup's alpha; 0 for none.
    pub mixup: f64,
    /// CutMix's alpha; 0 for none.
    pub cutmix: f64,
    /// Layer-wise decay of the learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<LayerDecay>,
    /// Moving average of the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<Ema>,
}

/// `[optimizer]`, resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Optimizer {
    /// Decays of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay of convolutions and linear layers.
    pub weight_decay: f64,
    /// Largest norm of the gradient; not clipped if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// What a loss or gradient that is not finite leads to.
    pub non_finite: NonFinitePolicy,
}

/// `[augment]`, resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Augment {
    /// Share of the image's area that the random crop takes.
    pub crop_scale: [f64; 2],
    /// Width over height of the random crop.
    pub crop_ratio: [f64; 2],
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// Above 0, images are padded and shifted by up to so many pixels in place of the crop.
    pub pad: u32,
    /// Chance that a rectangle is replaced by noise.
    pub erasing: f64,
    /// RandAugment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<RandAugment>,
}

/// Keys that say where things are, how fast they go or what is kept, and change no weight.
const NOT_HASHED: [&str; 6] =
    ["machine", "checkpoint", "data.train", "data.validation", "finetune.weights", "finetune+evaluate"];

/// Keys that a run may change when it is resumed: what there is to do about one that diverges. They decide numbers, so the
/// hash sees them, and a run says and records what it changed.
const CHANGEABLE: [&str; 10] = [
    "pretrain.base_lr",
    "pretrain.warmup_epochs",
    "pretrain.warmup_lr",
    "pretrain.min_lr",
    "finetune.base_lr",
    "finetune.warmup_epochs",
    "finetune.warmup_lr",
    "finetune.min_lr",
    "optimizer.clip",
    "optimizer.non_finite",
];

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
        CHANGEABLE.contains(&self.key.as_str())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, now, was } = self;
        write!(f, "{key}: {now}, was {was}")
    }
}

impl Resolved {
    /// The recipe as TOML; it can be read as a recipe, and resolves to itself.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.table()).expect("a table is TOML")
    }

    /// SHA-256, in hexadecimal, of everything in the recipe that decides the numbers of a run.
    ///
    /// Left out are `[machine]`, `[checkpoint]`, where data and weights lie, and how fine-tuning is evaluated on the way:
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

    fn table(&self) -> Table {
        Table::try_from(self).expect("a recipe is a table")
    }

    fn hashed(&self) -> Table {
        let mut table = self.table();
        for key in NOT_HASHED {
            remove(&mut table, key);
        }
        table
    }

    /// What is done.
    pub fn kind(&self) -> RunKind {
        match self.job {
            Job::Pretrain { .. } => RunKind::Pretrain,
            Job::Finetune { .. } => RunKind::Finetune,
            Job::Evaluate { .. } => RunKind::Evaluate,
        }
    }

    /// The training settings, if it is training.
    pub fn training(&self) -> Option<&Training> {
        match &self.job {
            Job::Pretrain { training, .. } | Job::Finetune { training, .. } => Some(training),
            Job::Evaluate { .. } => None,
        }
    }
}

fn remove(table: &mut Table, key: &str) {
    match (key.split_once('.'), key.split_once('+')) {
        (Some((section, key)), _) => {
            if let Some(section) = table.get_mut(section).and_then(Value::as_table_mut) {
                section.remove(key);
            }
        }
        // `a+b`: b, where a stands beside it.
        (_, Some((beside, key))) if table.contains_key(beside) => drop(table.remove(key)),
        _ => drop(table.remove(key)),
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

impl Data {
    /// Mean and standard deviation of each of `channels` channels, pixels running from 0 to 1.
    ///
    /// One value given serves all channels. Absent, three channels take ImageNet's and any other number 0.5 and 0.25.
    ///
    /// # Errors
    /// A message when another number of values is given than there are channels.
    pub fn normalisation(&self, channels: usize) -> Result<(Vec<f32>, Vec<f32>), String> {
        let (mean, std): (&[f32], &[f32]) = match channels {
            3 => (&Normalise::IMAGENET_MEAN, &Normalise::IMAGENET_DEVIATION),
            _ => (&[0.5], &[0.25]),
        };
        let mean = spread("data.mean", self.mean.as_deref().unwrap_or(mean), channels)?;
        let std = spread("data.std", self.std.as_deref().unwrap_or(std), channels)?;
        Ok((mean, std))
    }
}

fn spread(key: &str, values: &[f32], channels: usize) -> Result<Vec<f32>, String> {
    match values {
        [one] => Ok(vec![*one; channels]),
        _ if values.len() == channels => Ok(values.to_vec()),
        _ => Err(format!("{key}: {} values for {channels} channels; give one, or one each", values.len())),
    }
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
