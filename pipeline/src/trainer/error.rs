//! What can go wrong with a model.

use std::path::PathBuf;

use convnext_core::{
    launch::schedule::ScheduleError,
    nn::Error as CpuError,
    optim::{GroupError, NonFinite},
    visibility::VisibilityError,
};
use convnext_cuda::{error::ExecuteError, predictor::PredictError};
use convnext_data::{ClassDifference, SetError, ShardError};
use convnext_weights::convert::ConvertError;

use crate::{input::InputError, pictures::PictureError, stream::StreamError};

/// Why a model cannot be made, trained, measured or asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Weights to start from, or to use.
    #[error(transparent)]
    Weights(#[from] ConvertError),
    /// Shards.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// A set of shards and folders cannot be used.
    #[error(transparent)]
    Set(Box<SetError>),
    /// The input cannot be built.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The input ended with an error.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A mask.
    #[error(transparent)]
    Mask(#[from] VisibilityError),
    /// A parameter that no layer has.
    #[error(transparent)]
    Groups(#[from] GroupError),
    /// A picture.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// Memory ran out.
    #[error("the model's device refused: {0}; use a smaller batch and a larger accumulation")]
    Device(#[from] CpuError),
    /// A batch cannot be scheduled on the GPU.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The GPU refuses.
    #[error("the GPU cannot go on: {0}; --device cpu computes without it")]
    Cuda(#[from] ExecuteError),
    /// A task that has no step for a GPU.
    #[error("`{0}` trains on a CPU only; give --device cpu")]
    CpuOnly(&'static str),
    /// The shards have more classes than the head.
    #[error(
        "the images have labels up to {largest}, and this `{model}` tells {classes} classes apart; train one with --classes {} \
         or more", largest + 1
    )]
    Classes {
        /// The variant.
        model: &'static str,
        /// Its classes.
        classes: usize,
        /// The largest label.
        largest: u32,
    },
    /// Validation has classes that training has not.
    #[error("the validation set's classes are not those of the training set: {0}")]
    ValidationClasses(#[source] ClassDifference),
    /// The variant has no pre-training part.
    #[error("`{0}` declares no pre-training part; add `fcmae: {{ patch: ..., mask: ... }}` to its declaration")]
    NoFcmae(&'static str),
    /// Fine-tuning was asked to start from weights, and none were given.
    #[error(
        "the recipe starts from pre-trained weights and names none; give --weights RUN, or set finetune.start=scratch"
    )]
    NoWeights,
    /// What is trained was to be measured, and its task has no metric, or its trainer was made without a pass for it.
    #[error("`{0}` is not measured on held-out data")]
    Unmeasured(&'static str),
    /// The moving average of the weights was to be measured, and the run keeps none.
    #[error(
        "the run keeps no moving average of the weights; give it one (finetune.ema), or evaluate.weights = \"raw\""
    )]
    NoAverage,
    /// Features were asked for on a GPU.
    #[error("features are computed on the CPU alone; give --device cpu")]
    NoFeatures,
    /// A signal asked for an end while something was measured, predicted or reconstructed.
    #[error("stopped by a signal, before there was a result")]
    Stopped,
    /// A model's answer is not a number.
    #[error(
        "{image}: {what}, so there is no answer: the weights have diverged or are damaged, or pixels are normalised in \
         another way than the model was trained with; use an earlier checkpoint, or give --mean and --std"
    )]
    NotFinite {
        /// Which image.
        image: String,
        /// The first number that is not finite, e.g. `the logit of class 3 is NaN`.
        what: String,
    },
    /// An evaluation that did not see every image.
    #[error("{measured} of {expected} images were measured; an evaluation needs all of them, and at least one")]
    Incomplete {
        /// Images that were measured.
        measured: u64,
        /// Images that there are.
        expected: u64,
    },
    /// A sample whose label is no class of the model.
    #[error(
        "{sample}: {}; check the shards with `convnext inspect`",
        match label {
            Some(label) => format!("its label is {label}, and the model tells {classes} classes apart, 0 to {}", classes.saturating_sub(1)),
            None => "it has no label".to_owned(),
        }
    )]
    Label {
        /// Its key.
        sample: String,
        /// Its label, if it has one.
        label: Option<u32>,
        /// Classes of the model.
        classes: usize,
    },
    /// More images than go into one picture.
    #[error("{images} images; a picture of reconstructions holds up to {most}")]
    TooManyImages {
        /// How many were asked for.
        images: usize,
        /// How many there may be.
        most: usize,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// An image file cannot be used.
    #[error("{}: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<convnext_data::Error>,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl ModelError {
    /// Whether one image file is to blame, and others may be well.
    pub fn is_of_one_image(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Image { .. } | Self::NotFinite { .. })
    }
}

/// Says where a gradient is not finite.
pub(super) fn describe(fault: Option<NonFinite>) -> String {
    match fault {
        Some(fault) => format!("the gradient of `{}` is {} at element {}", fault.name, fault.value, fault.element),
        None => "the gradient's norm overflows".to_owned(),
    }
}

impl From<PredictError> for ModelError {
    fn from(error: PredictError) -> Self {
        match error {
            PredictError::Schedule(error) => Self::Schedule(error),
            PredictError::Execute(error) => Self::Cuda(error),
        }
    }
}

impl From<SetError> for ModelError {
    fn from(error: SetError) -> Self {
        Self::Set(Box::new(error))
    }
}

impl From<convnext_data::Error> for ModelError {
    fn from(error: convnext_data::Error) -> Self {
        Self::Stream(StreamError::Sample(error))
    }
}
