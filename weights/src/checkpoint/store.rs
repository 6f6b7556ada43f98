//! A folder of checkpoints: writing the next, finding the newest that is sound, keeping the last few and the best.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use convnext_core::optim::Layout;
use convnext_files::UNFINISHED;

use super::{
    directory::{Checkpoint, Loaded, Snapshot, validation, write_snapshot},
    error::{CheckpointError, Skipped},
    files::{at, kind_of, sync_directory},
    manifest::{FILES, MANIFEST},
    metric::{self, Better, Measured},
};

const REMOVED: &str = "removed-";
const NAME: &str = "step-";

/// How often a folder is listed again because a checkpoint went away meanwhile.
const RELISTS: usize = 16;

/// Which checkpoints stay when a new one has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The newest so many; at least 1. With 2 or more, one damaged file does not cost the run.
    pub last: usize,
    /// The one with the best metric stays too.
    pub best: Option<Better>,
}

/// A folder that holds checkpoints, named `step-000000001000`.
///
/// Nothing is ever overwritten: a step that is saved a second time becomes `step-000000001000.1`. A folder has one writer
/// at a time (the run's lock sees to it) and any number of readers.
#[derive(Debug, Clone)]
pub struct Store {
    path: PathBuf,
    keep: Keep,
}

/// What saving did.
#[derive(Debug)]
pub struct Saved {
    /// The new checkpoint.
    pub path: PathBuf,
    /// The older ones that were removed.
    pub removed: Vec<PathBuf>,
}

impl Store {
    /// The folder `path`, which is made when the first checkpoint is saved.
    pub fn new(path: impl Into<PathBuf>, keep: Keep) -> Self {
        Self { path: path.into(), keep: Keep { last: keep.last.max(1), ..keep } }
    }

    /// The folder `path`, to be read only.
    pub(super) fn reading(path: impl Into<PathBuf>) -> Self {
        Self::new(path, Keep { last: 1, best: None })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a checkpoint beside the others, syncs it, gives it its name, and only then removes older ones.
    ///
    /// # Errors
    /// When a value is not finite ([`CheckpointError::Diverged`]), when the folder is a link to another
    /// ([`CheckpointError::NotPlain`]), when the disk refuses. The unfinished directory is removed, and every older checkpoint
    /// is as it was.
    ///
    /// # Panics
    /// If a buffer of `snapshot` has another length than its layout.
    pub fn save(&self, snapshot: &Snapshot<'_>) -> Result<Saved, CheckpointError> {
        self.check_finite(snapshot)?;
        let path = self.commit(snapshot.state.step, |directory| write_snapshot(directory, snapshot))?;
        let removed = self.prune()?;
        Ok(Saved { path, removed })
    }

    fn check_finite(&self, snapshot: &Snapshot<'_>) -> Result<(), CheckpointError> {
        let moments = snapshot.moments.map_or([None; 2], |(m, v)| [Some(m), Some(v)]);
        let parts = [
            ("weights", Some(snapshot.weights)),
            ("moving average", snapshot.ema),
            ("optimizer state", moments[0]),
            ("optimizer state", moments[1]),
        ];
        let wrong = parts.into_iter().find_map(|(part, values)| Some((part, snapshot.layout.not_finite(values?)?)));
        let Some((part, (name, element, value))) = wrong else { return Ok(()) };
        Err(CheckpointError::Diverged { path: self.path.clone(), part, name: name.into(), element, value })
    }

    /// Notes the validation metric of the checkpoint `path`, which was written before it was measured, and removes what
    /// need not stay now. A metric that is not finite is none.
    ///
    /// # Errors
    /// When the disk refuses. The checkpoint is as it was.
    pub fn record_metric(&self, path: &Path, metric: f64, better: Better) -> Result<Vec<PathBuf>, CheckpointError> {
        self.check_own_folder()?;
        metric::write(path, Measured { metric, better })?;
        self.prune()
    }

    /// Lets `write` fill a directory and gives it its name once everything in it is on the disk.
    pub(super) fn commit(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), CheckpointError>,
    ) -> Result<PathBuf, CheckpointError> {
        self.check_own_folder()?;
        fs::create_dir_all(&self.path).map_err(at("create", &self.path))?;
        self.sweep()?;
        let path = self.free_name(step);
        let name = path.file_name().expect("made with a name").to_string_lossy().into_owned();
        let unfinished = self.path.join(format!("{UNFINISHED}{name}"));
        let done = fs::create_dir(&unfinished)
            .map_err(at("create", &unfinished))
            .and_then(|()| write(&unfinished))
            .and_then(|()| fs::rename(&unfinished, &path).map_err(at("rename", &unfinished)));
        if let Err(error) = done {
            // The error that counts is the first one.
            let _ = clear(&unfinished);
            return Err(error);
        }
        sync_directory(&self.path)?;
        Ok(path)
    }

    /// A link would have checkpoints written, swept and removed somewhere else.
    fn check_own_folder(&self) -> Result<(), CheckpointError> {
        match self.path.symlink_metadata().map(|metadata| metadata.file_type()) {
            Ok(kind) if !kind.is_dir() => {
                Err(CheckpointError::NotPlain { path: self.path.clone(), found: kind_of(kind), wanted: "a folder" })
            }
            _ => Ok(()),
        }
    }

    /// Removes what an interrupted save or removal left behind, and nothing else.
    fn sweep(&self) -> Result<(), CheckpointError> {
        let is_ours = |name: &str| {
            let rest = name.strip_prefix(UNFINISHED)?;
            parse(rest.strip_prefix(REMOVED).unwrap_or(rest))
        };
        let left = self.names()?.into_iter().filter(|name| is_ours(name).is_some()).map(|name| self.path.join(name));
        left.filter(|path| is_own(path)).try_for_each(|path| clear(&path))
    }

    fn free_name(&self, step: u64) -> PathBuf {
        let first = self.path.join(format!("{NAME}{step:012}"));
        let again = (1u64..).map(|n| self.path.join(format!("{NAME}{step:012}.{n}")));
        let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
        std::iter::once(first).chain(again).find(is_free).expect("numbers do not end")
    }

    fn names(&self) -> Result<Vec<String>, CheckpointError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at("list", &self.path)(error)),
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        names.collect::<io::Result<_>>().map_err(at("list", &self.path))
    }

    /// The step of the checkpoint at `path`, as its name has it.
    pub(super) fn step(path: &Path) -> Option<u64> {
        parse(path.file_name()?.to_str()?).map(|(step, _)| step)
    }

    /// All checkpoints, newest first, sound or not.
    ///
    /// # Errors
    /// When the folder cannot be listed. A folder that does not exist holds none.
    pub fn list(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let mut found: Vec<((u64, u64), String)> =
            self.names()?.into_iter().filter_map(|name| Some((parse(&name)?, name))).collect();
        found.sort_by(|a, b| b.cmp(a));
        Ok(found.into_iter().map(|(_, name)| self.path.join(name)).collect())
    }

    /// As [`Self::list`], those with a validation metric first, the best of them first; the newer one of equals.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) fn list_best_first(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let listed = self.list()?.into_iter().map(|path| (validation(&path), path));
        let (mut validated, others): (Vec<_>, Vec<_>) = listed.partition(|(metric, _)| metric.is_some());
        let merit = |measured: &Option<Measured>| measured.map_or(f64::NEG_INFINITY, |measured| measured.merit());
        validated.sort_by(|(a, _), (b, _)| merit(b).total_cmp(&merit(a)));
        Ok(validated.into_iter().chain(others).map(|(_, path)| path).collect())
    }

    /// The newest checkpoint that verifies, with what had to be passed over to get there.
    ///
    /// Hand `skipped` to the user: going back is never silent.
    ///
    /// # Errors
    /// [`CheckpointError::Empty`] when there is none, [`CheckpointError::NoneVerifies`] when all are damaged.
    pub fn newest(&self) -> Result<(Checkpoint, Vec<Skipped>), CheckpointError> {
        self.first_sound(Self::list, |path| Checkpoint::open(path))
    }

    /// The first checkpoint, in the order of `list`, that `open` finds sound, with those before it.
    ///
    /// A run that goes on may remove what has just been listed, having written a newer one before: then the folder is
    /// listed again.
    pub(super) fn first_sound<T>(
        &self,
        list: impl Fn(&Self) -> Result<Vec<PathBuf>, CheckpointError>,
        open: impl Fn(&Path) -> Result<T, CheckpointError>,
    ) -> Result<(T, Vec<Skipped>), CheckpointError> {
        let mut relists = RELISTS;
        'listed: loop {
            let mut skipped = Vec::new();
            for path in list(self)? {
                match open(&path) {
                    Ok(found) => return Ok((found, skipped)),
                    Err(_) if relists > 0 && path.symlink_metadata().is_err() => {
                        relists -= 1;
                        continue 'listed;
                    }
                    Err(reason) => skipped.push(Skipped { path, reason: reason.into() }),
                }
            }
            let path = self.path.clone();
            return Err(match skipped.is_empty() {
                true => CheckpointError::Empty(path),
                false => CheckpointError::NoneVerifies { path, skipped },
            });
        }
    }

    /// Everything needed to go on, from the newest checkpoint that verifies; `None` in an empty folder.
    ///
    /// # Errors
    /// As [`Self::newest`] and [`Checkpoint::load`]. A sound checkpoint of another model is an error, not a reason to go
    /// back; one whose values are not finite is damaged like any other.
    pub fn load_newest(&self, layout: &Layout) -> Result<Option<Loaded>, CheckpointError> {
        let open = |path: &Path| match Checkpoint::open(path)?.load(layout) {
            Err(error @ CheckpointError::Tensors { .. }) => Ok(Err(error)),
            loaded => loaded.map(Ok),
        };
        match self.first_sound(Self::list, open) {
            Ok((loaded, skipped)) => Ok(Some(Loaded { skipped, ..loaded? })),
            Err(CheckpointError::Empty(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The one of `paths` with the best validation metric, by the store's own sense of better; the first of equals.
    fn best_of<'p>(&self, paths: &'p [PathBuf]) -> Option<&'p PathBuf> {
        let better = self.keep.best?;
        let validated = paths.iter().filter_map(|path| Some((validation(path)?.metric, path)));
        let best = validated.reduce(|best, next| if better.is_better(next.0, best.0) { next } else { best });
        best.map(|(_, path)| path)
    }

    /// Removes what [`Keep`] does not keep. Incomplete ones and links do not count, and are left for the user to look at.
    fn prune(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let counts = |path: &PathBuf| is_own(path) && complete(path);
        let complete: Vec<PathBuf> = self.list()?.into_iter().filter(counts).collect();
        let best = self.best_of(&complete);
        let old = complete.iter().skip(self.keep.last).filter(|&path| Some(path) != best);
        old.map(|path| remove(path).map(|()| path.clone())).collect()
    }
}

/// Whether all files of a checkpoint have their full length. Bytes are not read: that is for loading.
fn complete(path: &Path) -> bool {
    Checkpoint::open_unverified(path).is_ok()
}

/// Whether `path` is a folder, not a link to one.
fn is_own(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// Renames before removing, so that an interrupted removal does not leave half a checkpoint under its name.
fn remove(path: &Path) -> Result<(), CheckpointError> {
    let name = path.file_name().expect("made with a name").to_string_lossy();
    let going = path.with_file_name(format!("{UNFINISHED}{REMOVED}{name}"));
    fs::rename(path, &going).map_err(at("rename", path))?;
    clear(&going)
}

/// Removes the files of a checkpoint, and the folder if nothing of others is in it.
fn clear(path: &Path) -> Result<(), CheckpointError> {
    for name in FILES.into_iter().chain([MANIFEST]).chain(metric::FILES) {
        let file = path.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &file)(error)),
            _ => {}
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Step and repetition of `step-000000001000.1`.
fn parse(name: &str) -> Option<(u64, u64)> {
    let rest = name.strip_prefix(NAME)?;
    let (step, again) = rest.split_once('.').unwrap_or((rest, "0"));
    // A number would be read with a sign, too.
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    Some((number(step)?, number(again)?))
}
