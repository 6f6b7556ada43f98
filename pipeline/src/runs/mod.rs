//! The runs: pre-training, fine-tuning, evaluation, prediction, reconstruction. Each reads from top to bottom.

mod error;
mod evaluate;
mod finetune;
mod predict;
mod pretrain;
mod reconstruct;
mod train;

use std::path::PathBuf;

use convnext_core::checkpoint::Skipped;

pub use error::RunError;
pub(crate) use error::describe;
pub use evaluate::{Measure, evaluate};
pub use finetune::finetune;
pub use predict::{Prediction, predict};
pub use pretrain::pretrain;
pub use reconstruct::{Reconstructed, Subject, reconstruct};

use crate::{
    recipe::Resolved,
    run_dir::{RunDir, RunDirError},
    tell,
};

/// Where a run lives.
#[derive(Debug, Clone)]
pub struct Place {
    /// The run directory.
    pub out: PathBuf,
    /// Whether to go on with the run that is there.
    pub resume: bool,
}

impl Place {
    fn open(&self, recipe: Resolved) -> Result<(RunDir, Resolved), RunDirError> {
        if self.resume {
            return RunDir::resume(&self.out, Some(recipe));
        }
        Ok((RunDir::create(&self.out, &recipe)?, recipe))
    }
}

/// Tells the user, on standard error, of checkpoints that were passed over.
pub fn warn_of(skipped: &[Skipped]) {
    for skipped in skipped {
        tell::warn(format_args!("passed over: {skipped}"));
    }
}
