//! What can end a run.

use std::path::PathBuf;

use convnext_core::{
    checkpoint::CheckpointError,
    convert::ConvertError,
    cuda::{executor::ExecuteError, predictor::PredictError, schedule::ScheduleError},
    nn::Error as CpuError,
    optim::{GroupError, NonFinite},
    visibility::VisibilityError,
};
use convnext_data::{ClassDifference, ShardError};

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
    /// A signal came while a classifier was measured. What was counted until then is no result.
    #[error("stopped by a signal before the measurement was done")]
    MeasurementStopped,
    /// A measurement met logits or a loss that are not finite.
    #[error("{what}; such weights have no accuracy")]
    MeasuredNonFinite {
        /// What is not finite, and for which image.
        what: String,
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
