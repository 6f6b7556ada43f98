//! The file that a path and a choice among its weights lead to.

use std::path::{Path, PathBuf};

use super::{
    directory::{Checkpoint, validation},
    error::{CheckpointError, Skipped},
    manifest::{EMA, MANIFEST},
    store::Store,
    tensors::TensorFile,
    which::{Origin, Taken, Which, WhichCheckpoint},
};
use crate::pytorch::Section;

/// A file of tensors that was looked for.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) taken: Taken,
    /// Checkpoints that were passed over.
    pub(super) skipped: Vec<Skipped>,
}

/// What a folder of transformers calls its weights, the first that is there being taken.
const TRANSFORMERS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];

/// The file of tensors that `path` means, opened.
pub(super) fn find(path: &Path, which: Which, section: Section<'_>) -> Result<(Found, TensorFile), CheckpointError> {
    if !path.is_dir() {
        return plain(path, section);
    }
    if path.join(MANIFEST).exists() {
        let (checkpoint, file) = Checkpoint::open_values(path, which.values)?;
        let found = Found::new(&checkpoint, file, |step| Origin::Checkpoint { step });
        let file = TensorFile::open(&found.path, section)?;
        return Ok((found, file));
    }
    let inner = path.join("checkpoints");
    let store = Store::reading(if inner.is_dir() { inner } else { path.into() });
    if store.path() == path && store.list()?.is_empty() {
        let files = TRANSFORMERS.iter().map(|name| path.join(name));
        if let Some(file) = files.into_iter().find(|file| file.exists()) {
            return plain(&file, section);
        }
    }
    of_store(&store, which, section)
}

fn plain(path: &Path, section: Section<'_>) -> Result<(Found, TensorFile), CheckpointError> {
    let average = path.file_name().is_some_and(|name| name == EMA);
    let taken = Taken { from: Origin::File, average, section: None };
    Ok((Found { path: path.into(), taken, skipped: Vec::new() }, TensorFile::open(path, section)?))
}

fn of_store(store: &Store, which: Which, section: Section<'_>) -> Result<(Found, TensorFile), CheckpointError> {
    let best = which.checkpoint == WhichCheckpoint::Best;
    let open = |path: &Path| {
        let (checkpoint, file) = Checkpoint::open_values(path, which.values)?;
        let metric = validation(checkpoint.path()).filter(|_| best).map(|measured| measured.metric);
        let origin = |step| metric.map_or(Origin::Newest { step }, |metric| Origin::Best { step, metric });
        let found = Found::new(&checkpoint, file, origin);
        let file = TensorFile::open(&found.path, section)?;
        Ok((found, file))
    };
    let ((found, file), skipped) = match which.checkpoint {
        WhichCheckpoint::Newest => store.first_sound(Store::list, open)?,
        WhichCheckpoint::Best => store.first_sound(Store::list_best_first, open)?,
    };
    Ok((Found { skipped, ..found }, file))
}

impl Found {
    fn new(checkpoint: &Checkpoint, file: &str, origin: impl FnOnce(u64) -> Origin) -> Self {
        let taken = Taken { from: origin(checkpoint.state().step), average: file == EMA, section: None };
        Self { path: checkpoint.path().join(file), taken, skipped: Vec::new() }
    }
}
