//! What can end a run.

use std::path::PathBuf;

use convnext_core::{
    launch::schedule::ScheduleError,
    nn::Error as CpuError,
    optim::{GroupError, NonFinite},
    visibility::VisibilityError,
};
use convnext_cuda::{error::ExecuteError, predictor::PredictError};
use convnext_data::{ClassDifference, ShardError};
use convnext_weights::{checkpoint::CheckpointError, convert::ConvertError};

use crate::{
    input::InputError,
    pictures::PictureError,
    recipe::RecipeError,
    records::{RecordError, RunKind},
    run_dir::RunDirError,
    stream::StreamError,
};

/// Why a run ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The recipe does not fit what it is used for.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The run directory.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A record in the run directory.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A checkpoint of this run.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Weights to start from, or to use.
    #[error(transparent)]
    Weights(#[from] ConvertError),
    /// Shards.
    #[error(transparent)]
    Shards(#[from] ShardError),
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
    #[error("the model's device refused: {0}; use a smaller batch (--set finetune.batch=N and accumulation=M)")]
    Device(#[from] CpuError),
    /// A batch cannot be scheduled on the GPU.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The GPU refuses.
    #[error("the GPU cannot go on: {0}; --device cpu computes without it")]
    Cuda(#[from] ExecuteError),
    /// The shards have more classes than the head.
    #[error(
        "the shards have labels up to {largest}, and `{model}` tells {classes} classes apart; declare a variant with \
         `head: {}` or use one that has it", largest + 1
    )]
    Classes {
        /// The variant.
        model: &'static str,
        /// Its classes.
        classes: usize,
        /// The largest label.
        largest: u32,
    },
    /// The recipe is of another command.
    #[error(
        "the recipe has [{0}], which `convnext {0}` runs; `convnext {1}` takes one that has [{1}]", kind.name(), asked.name()
    )]
    OtherKind {
        /// What was asked for.
        asked: RunKind,
        /// What the recipe does.
        kind: RunKind,
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
    /// A loss, a gradient or an update was not finite, and the policy is to stop.
    #[error("step {step}: {what}; nothing was changed by this step. {}", goes_on(newest))]
    NonFinite {
        /// The step, from 0.
        step: u64,
        /// What was not finite.
        what: String,
        /// The newest checkpoint, if there is one.
        newest: Option<PathBuf>,
    },
    /// The policy is to skip steps, and too many one after the other were not finite.
    #[error(
        "step {step}: {what}, as in each of the last {steps} steps; the training has diverged, and skipping steps does \
         not mend it. {}",
        goes_on(newest)
    )]
    SkippedInVain {
        /// The step, from 0.
        step: u64,
        /// Steps that were skipped one after the other.
        steps: u64,
        /// What was not finite.
        what: String,
        /// The newest checkpoint, if there is one.
        newest: Option<PathBuf>,
    },
    /// The policy is to go back, and the run does not get further.
    #[error(
        "step {step}: {what}; the run went back {times} times and does not get past step {furthest}. {}",
        goes_on(newest)
    )]
    WentBackInVain {
        /// The step, from 0.
        step: u64,
        /// Times that the run went back.
        times: u64,
        /// The furthest step that was not finite, from 0.
        furthest: u64,
        /// What was not finite.
        what: String,
        /// The newest checkpoint, if there is one.
        newest: Option<PathBuf>,
    },
    /// A run was to go back to a checkpoint, and there is none.
    #[error("step {step}: {what}, before there was a checkpoint that the run could go back to. {}", goes_on(&None))]
    NothingToRollBackTo {
        /// The step, from 0.
        step: u64,
        /// What was not finite.
        what: String,
    },
    /// The run made all its steps, and what it ended with cannot be measured.
    #[error("the training has diverged: {what} in its last measurement. {}", goes_on(newest))]
    EndsNotFinite {
        /// What is not finite.
        what: String,
        /// The newest checkpoint, if there is one.
        newest: Option<PathBuf>,
    },
    /// A signal asked the run to stop.
    #[error("stopped by a signal after step {step}; {}", resumes(newest))]
    Interrupted {
        /// Steps done.
        step: u64,
        /// The newest checkpoint, which holds this step, if there is one.
        newest: Option<PathBuf>,
    },
    /// A signal asked for an end while something was measured, predicted or reconstructed.
    #[error("stopped by a signal, before there was a result")]
    Stopped,
    /// A model's answer is not a number.
    #[error(
        "{image}: the logit of class {class} is {value}, so there is no answer: the weights have diverged or are damaged, or \
         pixels are normalised in another way than the model was trained with; use an earlier checkpoint, or give --mean \
         and --std"
    )]
    NonFiniteLogit {
        /// Which image.
        image: String,
        /// The first class whose logit is not finite.
        class: usize,
        /// The logit.
        value: f32,
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
    /// What a file of weights says about their use makes no sense.
    #[error("{}: says that its images are to be taken with {what}; export the weights again", path.display())]
    Usage {
        /// The file.
        path: PathBuf,
        /// What it says.
        what: String,
    },
    /// Weights for images of another size.
    #[error(
        "the weights are of `{of}`, trained on images of {}; `{model}` takes {}; use the variant that they were trained as",
        size(*trained), size(*taken)
    )]
    OtherInput {
        /// The variant that the weights name.
        of: String,
        /// Height, width and channels that they were trained on.
        trained: (usize, usize, usize),
        /// The variant.
        model: &'static str,
        /// What it takes.
        taken: (usize, usize, usize),
    },
    /// More names than classes.
    #[error("{names} names of classes, and `{model}` tells {classes} apart; give one name a class, class 0 first")]
    ClassNames {
        /// How many names.
        names: usize,
        /// The variant.
        model: &'static str,
        /// Its classes.
        classes: usize,
    },
    /// The classes of the shards are not those of the model.
    #[error(
        "{0}; measure on shards of the classes that the model was trained with, or give its names with --classes FILE"
    )]
    OtherClasses(ClassDifference),
    /// What an autoencoder makes of an image is not a number.
    #[error(
        "image {image}: the prediction is not finite; the weights have diverged or are damaged, or pixels are normalised \
         in another way than the model was trained with; use another checkpoint, or give --mean and --std"
    )]
    NonFinitePrediction {
        /// Which image, from 0.
        image: usize,
    },
    /// More images than go into one picture.
    #[error("{images} images; a picture of reconstructions holds up to {most}")]
    TooManyImages {
        /// How many were asked for.
        images: usize,
        /// How many there may be.
        most: usize,
    },
    /// The stream ended before the run did.
    #[error("the input ended at step {0}, before the run did")]
    Starved(u64),
    /// An image file cannot be read.
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
    /// A file of the run cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// What to do about a run that diverged.
fn goes_on(newest: &Option<PathBuf>) -> String {
    const HOW: &str = "a lower learning rate (base_lr), clipped gradients (optimizer.clip) or another \
                       optimizer.non_finite, given with --set";
    match newest {
        Some(path) => format!("The newest checkpoint is {}: go on from it with --resume and {HOW}", path.display()),
        None => format!("There is no checkpoint yet: begin again with --resume and {HOW}"),
    }
}

/// What to do about a run that a signal stopped.
fn resumes(newest: &Option<PathBuf>) -> String {
    match newest {
        Some(path) => format!("the checkpoint is {}: go on with --resume", path.display()),
        None => "there is nothing to save yet: --resume begins again".to_owned(),
    }
}

fn size((height, width, channels): (usize, usize, usize)) -> String {
    format!("{height}x{width}x{channels}")
}

impl RunError {
    /// Whether one image file is to blame, and others may be well.
    pub fn is_of_one_image(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Image { .. } | Self::NonFiniteLogit { .. })
    }
}

/// Says where a gradient is not finite.
pub(crate) fn describe(fault: Option<NonFinite>) -> String {
    match fault {
        Some(fault) => format!("the gradient of `{}` is {} at element {}", fault.name, fault.value, fault.element),
        None => "the gradient's norm overflows".to_owned(),
    }
}

impl From<PredictError> for RunError {
    fn from(error: PredictError) -> Self {
        match error {
            PredictError::Schedule(error) => Self::Schedule(error),
            PredictError::Execute(error) => Self::Cuda(error),
        }
    }
}
