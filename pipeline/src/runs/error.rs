//! What can end a run.

use std::path::PathBuf;

use convnext_data::{ClassDifference, SetError, ShardError};
use convnext_weights::checkpoint::CheckpointError;

use crate::{
    input::InputError, recipe::RecipeError, records::RecordError, run_dir::RunDirError, stream::StreamError,
    trainer::ModelError,
};

/// Why a run ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The recipe does not fit what it is used for.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The command that is to be told what the run does cannot be started.
    #[error("--notify: the command cannot be started: {0}")]
    Notify(std::io::Error),
    /// The run directory.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A record in the run directory.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A checkpoint of this run.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model, or what is made of it.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The recipe is of another command.
    #[error(
        "the recipe has [{recipe}], which `convnext {recipe}` runs; `convnext {asked}` takes one that has [{asked}]"
    )]
    OtherTask {
        /// The task that was asked for.
        asked: &'static str,
        /// What the recipe does.
        recipe: &'static str,
    },
    /// The recipe only evaluates.
    #[error("the recipe trains nothing; give one that has the section of a task")]
    NothingToTrain,
    /// A run is to end when nothing gets better, and nothing is measured.
    #[error(
        "stop.patience counts measurements, and there is nothing to measure on; give --validation, or data.validation"
    )]
    NothingToStopBy,
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
    /// The stream ended before the run did.
    #[error("the input ended at step {0}, before the run did")]
    Starved(u64),
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

/// What the model's side says, said by a run.
macro_rules! of_the_model {
    ($($error:ty),*) => {
        $(impl From<$error> for RunError {
            fn from(error: $error) -> Self {
                Self::Model(error.into())
            }
        })*
    };
}

of_the_model!(convnext_data::Error, InputError, SetError, ShardError, StreamError);
