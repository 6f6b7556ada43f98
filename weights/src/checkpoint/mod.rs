//! Checkpoints: written so that a crash cannot damage them, read so that damage cannot pass.
//!
//! A checkpoint is a directory:
//!
//! ```text
//! step-000000001000/
//!   weights.safetensors     the parameters, by name, f32
//!   optimizer.safetensors   Adam's moments: m.<name> and v.<name>
//!   ema.safetensors         the moving average, if one is kept
//!   state.json              step, epoch, position, seed, recipe hash
//!   manifest.json           length and SHA-256 of each file above; written last
//!   metric.json             the validation metric, once it has been measured
//! ```
//!
//! It is written under a temporary name beside its place; every file is synced, then the directory, then it is renamed and
//! the parent synced. A reader therefore sees all of it or nothing. Loading takes the newest checkpoint whose hashes
//! are right, and returns the list of those it passed over.
//!
//! Weights alone are read by [`convert`](crate::convert), from a checkpoint, a folder of checkpoints or a plain file of
//! tensors.

mod directory;
mod error;
mod files;
mod find;
mod manifest;
mod metric;
mod one_file;
mod safetensors;
mod shards;
mod sniff;
mod state;
mod store;
mod tensors;
#[cfg(test)]
mod tests;
mod usage;
mod weights;
mod which;

pub use directory::{Checkpoint, Loaded, Snapshot};
pub use error::{CheckpointError, Misshapen, Skipped, TensorProblems};
pub use metric::Better;
pub use state::RunState;
pub use store::{Keep, Saved, Store};
pub use usage::{Usage, View};
pub use weights::{Header, read_header, save_weights};
pub use which::{Named, Origin, Taken, Which, WhichCheckpoint, WhichValues, named};

pub(crate) use weights::Source;
