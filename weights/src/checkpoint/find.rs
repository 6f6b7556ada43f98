//! The file that a path and a choice among its weights lead to.

use std::path::{Path, PathBuf};

use super::{
    directory::{Checkpoint, validation},
    error::{CheckpointError, Skipped},
    manifest::{EMA, MANIFEST},
    store::Store,
    tensors::TensorFile,
    which::{Named, Origin, Taken, Which, WhichCheckpoint, named},
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
    let (path, asked) = named(path);
    let path = path.as_path();
    if let Some(Named { word, .. }) = asked.filter(|_| !path.is_dir() || path.join(MANIFEST).exists()) {
        return Err(CheckpointError::NotSeveral { path: path.to_owned(), word: word.to_owned() });
    }
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
    let Some(Named { word, checkpoint }) = asked else { return of_store(&store, which, section) };
    let none = || CheckpointError::NoneSo { path: path.to_owned(), word: word.to_owned(), there: there(&store) };
    let checkpoint = checkpoint.ok_or_else(none)?;
    match of_store(&store, Which { checkpoint, ..which }, section) {
        Err(CheckpointError::Empty(_)) => Err(none()),
        found => found,
    }
}

/// What can stand behind the `@` of a run.
fn there(store: &Store) -> Vec<String> {
    let list = store.list().unwrap_or_default();
    let measured = list.iter().any(|path| validation(path).is_some());
    let mut steps: Vec<String> =
        list.iter().rev().filter_map(|path| Store::step(path)).map(|step| format!("step-{step}")).collect();
    steps.dedup();
    let names = [("best", measured), ("last", !list.is_empty())].into_iter().filter(|(_, there)| *there);
    names.map(|(name, _)| name.to_owned()).chain(steps).collect()
}

fn plain(path: &Path, section: Section<'_>) -> Result<(Found, TensorFile), CheckpointError> {
    let average = path.file_name().is_some_and(|name| name == EMA);
    let taken = Taken { from: Origin::File, average, section: None };
    Ok((Found { path: path.into(), taken, skipped: Vec::new() }, TensorFile::open(path, section)?))
}

fn of_store(store: &Store, which: Which, section: Section<'_>) -> Result<(Found, TensorFile), CheckpointError> {
    let best = matches!(which.checkpoint, WhichCheckpoint::Best | WhichCheckpoint::BestOrLast);
    let open = |path: &Path| {
        let (checkpoint, file) = Checkpoint::open_values(path, which.values)?;
        let metric = validation(checkpoint.path()).filter(|_| best).map(|measured| measured.metric);
        let origin = |step| match (metric, which.checkpoint) {
            (Some(metric), _) => Origin::Best { step, metric },
            (None, WhichCheckpoint::Step(_)) => Origin::Checkpoint { step },
            (None, _) => Origin::Last { step },
        };
        let found = Found::new(&checkpoint, file, origin);
        let file = TensorFile::open(&found.path, section)?;
        Ok((found, file))
    };
    let ((found, file), skipped) = match which.checkpoint {
        WhichCheckpoint::Last => store.first_sound(Store::list, open)?,
        WhichCheckpoint::BestOrLast => store.first_sound(Store::list_best_first, open)?,
        WhichCheckpoint::Best => {
            let measured = |path: &PathBuf| validation(path).is_some();
            store.first_sound(|store| Ok(store.list_best_first()?.into_iter().filter(measured).collect()), open)?
        }
        WhichCheckpoint::Step(step) => {
            let is_it = |path: &PathBuf| Store::step(path) == Some(step);
            store.first_sound(|store| Ok(store.list()?.into_iter().filter(is_it).collect()), open)?
        }
    };
    Ok((Found { skipped, ..found }, file))
}

impl Found {
    fn new(checkpoint: &Checkpoint, file: &str, origin: impl FnOnce(u64) -> Origin) -> Self {
        let taken = Taken { from: origin(checkpoint.state().step), average: file == EMA, section: None };
        Self { path: checkpoint.path().join(file), taken, skipped: Vec::new() }
    }
}
