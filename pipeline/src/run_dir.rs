//! A run directory: where a run keeps what it is and what it did.
//!
//! ```text
//! run/
//!   run.lock          held while the run lasts: two runs cannot share a directory
//!   recipe.toml       the resolved recipe
//!   metrics.jsonl     one JSON object a line, each with its step
//!   events.out.…      the same numbers for TensorBoard
//!   quarantine.tsv    samples that could not be read
//!   checkpoints/      see convnext_core::checkpoint
//!   pictures/
//!   report.html
//! ```

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use convnext_core::checkpoint::{Keep, Store};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    events::Events,
    recipe::{Recipe, RecipeError, Resolved},
    records,
};

const LOCK: &str = "run.lock";
const QUARANTINE: &str = "quarantine.tsv";
const CHECKPOINTS: &str = "checkpoints";
const PICTURES: &str = "pictures";
const REPORT: &str = "report.html";

/// Why a run directory cannot be used.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// The operating system refused.
    #[error("{}: could not {action}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process runs there.
    #[error("{}: a run is going on there; wait for it, or give another --out", .0.display())]
    Locked(PathBuf),
    /// A new run was asked for where one is already.
    #[error("{}: holds a run already; go on with it (--resume), or give another --out", .0.display())]
    Exists(PathBuf),
    /// A run was to be resumed where none is.
    #[error("{}: holds no run to resume; leave --resume out to start one", .0.display())]
    NoRun(PathBuf),
    /// The recipe in the directory cannot be read.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A run was to be resumed with another recipe.
    #[error(
        "{}: was started with another recipe; give that one, or start anew with another --out:\n  {}",
        path.display(),
        differences.join("\n  ")
    )]
    OtherRecipe {
        /// The directory.
        path: PathBuf,
        /// What differs, one key each.
        differences: Vec<String>,
    },
    /// A line of `metrics.jsonl` is not what was written.
    #[error("{}: line {line} is not a metric; repair or remove the file", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
}

fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> RunDirError + 'a {
    move |source| RunDirError::Io { action, path: path.into(), source }
}

/// A run directory, locked for as long as this lives. The lock goes with the process, however it ends.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Starts a run in `path`, which must be empty or not exist, and writes its recipe there.
    ///
    /// # Errors
    /// [`RunDirError::Exists`] when something is there, [`RunDirError::Locked`] when something runs there.
    pub fn create(path: impl Into<PathBuf>, recipe: &Resolved) -> Result<Self, RunDirError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(at("create", &path))?;
        let run = Self::lock(path)?;
        if !run.is_fresh()? {
            return Err(RunDirError::Exists(run.path));
        }
        write_whole(&run.recipe_path(), recipe.to_toml().as_bytes())?;
        Ok(run)
    }

    /// Goes on with the run in `path`. `recipe`, if given, must be the run's own in everything that is hashed.
    ///
    /// Returns the recipe to go on with: `recipe`, or the run's own.
    ///
    /// # Errors
    /// [`RunDirError::NoRun`], [`RunDirError::Locked`], or [`RunDirError::OtherRecipe`] with what differs.
    pub fn resume(path: impl Into<PathBuf>, recipe: Option<Resolved>) -> Result<(Self, Resolved), RunDirError> {
        let path = path.into();
        if !path.join(records::RECIPE).is_file() {
            return Err(RunDirError::NoRun(path));
        }
        let run = Self::lock(path)?;
        let own = read_recipe(&run.path)?;
        let Some(given) = recipe else { return Ok((run, own)) };
        let differences = given.differences(&own);
        if !differences.is_empty() {
            return Err(RunDirError::OtherRecipe { path: run.path, differences });
        }
        write_whole(&run.recipe_path(), given.to_toml().as_bytes())?;
        Ok((run, given))
    }

    fn lock(path: PathBuf) -> Result<Self, RunDirError> {
        let file = path.join(LOCK);
        let lock = OpenOptions::new().create(true).append(true).open(&file).map_err(at("open", &file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(RunDirError::Locked(path)),
            Err(TryLockError::Error(error)) => Err(at("lock", &file)(error)),
        }
    }

    /// Whether nothing but our own lock is there.
    fn is_fresh(&self) -> Result<bool, RunDirError> {
        let mut entries = fs::read_dir(&self.path).map_err(at("list", &self.path))?;
        Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOCK)))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `recipe.toml`.
    pub fn recipe_path(&self) -> PathBuf {
        self.path.join(records::RECIPE)
    }

    /// `quarantine.tsv`: samples that could not be read.
    pub fn quarantine_path(&self) -> PathBuf {
        self.path.join(QUARANTINE)
    }

    /// `report.html`.
    pub fn report_path(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// `pictures/`, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn pictures(&self) -> Result<PathBuf, RunDirError> {
        let path = self.path.join(PICTURES);
        fs::create_dir_all(&path).map_err(at("create", &path))?;
        Ok(path)
    }

    /// `checkpoints/`.
    pub fn checkpoints(&self, keep: Keep) -> Store {
        Store::new(self.path.join(CHECKPOINTS), keep)
    }

    /// `metrics.jsonl` and the TensorBoard events, ready to go on after `step` steps (0 for a new run). Lines of later
    /// steps, from before an interruption, are removed.
    ///
    /// # Errors
    /// When a file cannot be written, or a line that stays is no metric.
    pub fn metrics(&self, step: u64) -> Result<MetricsLog, RunDirError> {
        let path = self.path.join(records::METRICS);
        let file = OpenOptions::new().create(true).read(true).append(true).open(&path).map_err(at("open", &path))?;
        let keep = length_up_to(&path, &file, step)?;
        file.set_len(keep).map_err(at("truncate", &path))?;
        let events = Events::create(&self.path, step).map_err(at("write events in", &self.path))?;
        Ok(MetricsLog { path, file, events })
    }
}

/// The resolved recipe of the run in `path`; takes no lock, so that a run may be looked at while it lasts.
///
/// # Errors
/// [`RecipeError`] when it cannot be read.
pub fn read_recipe(path: &Path) -> Result<Resolved, RecipeError> {
    Recipe::load::<&str>(path.join(records::RECIPE), &[])?.resolve()
}

/// The metrics of a run, as they come. Every line is written at once and whole.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    events: Events,
}

impl MetricsLog {
    /// Appends a record, which must have a field `step`, as one line of JSON.
    ///
    /// # Errors
    /// When the disk refuses.
    ///
    /// # Panics
    /// If the record is no JSON object with a `step`: it could not be read back.
    pub fn append(&mut self, record: &impl Serialize) -> Result<(), RunDirError> {
        let mut line = serde_json::to_vec(record).expect("a record is JSON");
        assert!(step_of(&line).is_some(), "a record has a step");
        line.push(b'\n');
        self.file.write_all(&line).map_err(at("write", &self.path))
    }

    /// Writes numbers for TensorBoard: each a tag, e.g. `train/loss`, and a value.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), RunDirError> {
        self.events.scalars(step, values).map_err(at("write events beside", &self.path))
    }

    /// Waits until all lines are on the disk. Call it before a checkpoint is written: what a checkpoint says has been
    /// done is then in the file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn sync(&mut self) -> Result<(), RunDirError> {
        self.file.sync_data().map_err(at("sync", &self.path))
    }
}

#[derive(Deserialize)]
struct Stepped {
    step: u64,
}

fn step_of(line: &[u8]) -> Option<u64> {
    serde_json::from_slice(line).ok().map(|stepped: Stepped| stepped.step)
}

/// Bytes before the first line of a step after `last`. Half a line at the end, from a crash, is not counted.
fn length_up_to(path: &Path, file: &File, last: u64) -> Result<u64, RunDirError> {
    let mut reader = BufReader::new(file);
    let (mut length, mut line) = (0, Vec::new());
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(at("read", path))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        match step_of(&line) {
            Some(step) if step > last => break,
            Some(_) => length += line.len() as u64,
            None => return Err(RunDirError::Metrics { path: path.into(), line: number }),
        }
    }
    Ok(length)
}

/// Writes a small file under another name, syncs it, and renames it into place.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RunDirError> {
    let unfinished = path.with_extension("tmp");
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    write().map_err(at("write", path))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn recipe(sets: &[&str]) -> Resolved {
        let text = "[model]\nname = 'atto'\n[pretrain]\nepochs = 2\nbatch = 4\nbase_lr = 1e-3\n";
        Recipe::parse("test", text, sets).unwrap().resolve().unwrap()
    }

    fn line(step: u64) -> serde_json::Value {
        serde_json::json!({ "kind": "train", "step": step, "loss": 0.5 })
    }

    #[test]
    fn a_new_run_wants_a_new_place() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("run");
        let run = RunDir::create(&path, &recipe(&[])).unwrap();
        assert_eq!(read_recipe(&path).unwrap(), recipe(&[]));
        assert!(matches!(RunDir::create(&path, &recipe(&[])), Err(RunDirError::Locked(_))));
        drop(run);
        assert!(matches!(RunDir::create(&path, &recipe(&[])), Err(RunDirError::Exists(_))));
        fs::write(folder.path().join("something"), "").unwrap();
        assert!(matches!(RunDir::create(folder.path(), &recipe(&[])), Err(RunDirError::Exists(_))));
    }

    #[test]
    fn a_run_is_resumed_with_its_own_recipe() {
        let folder = TempDir::new().unwrap();
        assert!(matches!(RunDir::resume(folder.path(), None), Err(RunDirError::NoRun(_))));
        drop(RunDir::create(folder.path(), &recipe(&[])).unwrap());

        let (run, own) = RunDir::resume(folder.path(), None).unwrap();
        assert_eq!(own, recipe(&[]));
        assert!(matches!(RunDir::resume(folder.path(), None), Err(RunDirError::Locked(_))));
        drop(run);

        let faster = recipe(&["machine.threads=3"]);
        let (run, taken) = RunDir::resume(folder.path(), Some(faster.clone())).unwrap();
        assert_eq!(taken, faster);
        drop(run);

        let other = RunDir::resume(folder.path(), Some(recipe(&["pretrain.epochs=3"])));
        let Err(RunDirError::OtherRecipe { differences, .. }) = other else { panic!() };
        assert_eq!(differences, ["pretrain.epochs: 3, was 2"]);
    }

    #[test]
    fn metrics_after_the_checkpoint_are_cut_off() {
        let folder = TempDir::new().unwrap();
        let run = RunDir::create(folder.path(), &recipe(&[])).unwrap();
        let path = folder.path().join(records::METRICS);
        let mut metrics = run.metrics(0).unwrap();
        for step in 1..=5 {
            metrics.append(&line(step)).unwrap();
        }
        let whole = fs::read_to_string(&path).unwrap();
        drop(metrics);

        let mut metrics = run.metrics(3).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
        metrics.append(&line(4)).unwrap();
        metrics.append(&line(5)).unwrap();
        metrics.sync().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
    }

    #[test]
    fn half_a_line_is_cut_off_and_a_strange_one_is_not() {
        let folder = TempDir::new().unwrap();
        let run = RunDir::create(folder.path(), &recipe(&[])).unwrap();
        let path = folder.path().join(records::METRICS);
        let good = "{\"step\":1}\n{\"step\":2}\n";
        fs::write(&path, format!("{good}{{\"step\":3")).unwrap();
        drop(run.metrics(9).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), good);
        fs::write(&path, format!("{good}strange\n{good}")).unwrap();
        assert!(matches!(run.metrics(9), Err(RunDirError::Metrics { line: 3, .. })));
    }

    #[test]
    fn events_lie_beside() {
        let folder = TempDir::new().unwrap();
        let run = RunDir::create(folder.path(), &recipe(&[])).unwrap();
        run.metrics(0).unwrap().scalars(1, &[("train/loss", 0.5)]).unwrap();
        let names = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("events.out.tfevents.")).count(), 1);
    }
}
