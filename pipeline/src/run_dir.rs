//! A run directory: where a run keeps what it is and what it did.
//!
//! ```text
//! run/
//!   run.lock          held while the run lasts: two runs cannot share a directory
//!   recipe.toml       the resolved recipe
//!   data.json         the fingerprint of the images
//!   metrics.jsonl     one JSON object a line, each with its step
//!   events.out.…      the same numbers for TensorBoard
//!   quarantine.tsv    samples that could not be read
//!   spent.json        time that the run has taken so far
//!   checkpoints/      see convnext_weights::checkpoint
//!   pictures/
//!   report.html
//! ```
//!
//! A start that came to nothing - killed, or on a full disk - leaves at most files that say nothing of a step. Such a
//! directory can be started in again, and once `recipe.toml` is there also be resumed, from the first step. With a step or a
//! checkpoint in it, it holds a run, which is resumed and never started over.
//!
//! Nothing in it is reached through links: see [`crate::inside`].

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use convnext_data::Mixing;
use convnext_files::UNFINISHED;
use convnext_weights::checkpoint::{Keep, Store};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    events::{self, Events},
    fingerprint::Fingerprint,
    inside,
    notify::Lines,
    recipe::{Difference, Recipe, RecipeError, Resolved},
    records, tell,
};

const LOCK: &str = "run.lock";
const DATA: &str = "data.json";
pub(crate) const QUARANTINE: &str = "quarantine.tsv";
const SPENT: &str = "spent.json";
const CHECKPOINTS: &str = "checkpoints";
const PICTURES: &str = "pictures";
/// What older versions called an unfinished recipe.
const UNFINISHED_RECIPE: &str = "recipe.tmp";

/// Largest `data.json` that is read: names of many classes.
const DATA_BYTES: u64 = 64 << 20;
const SPENT_BYTES: u64 = 1 << 16;

/// Why a run directory cannot be used.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// The operating system refused, or a file is not the run's own ([`inside::Refused`]).
    #[error("{}: could not {action}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something that is no folder is where the run directory is to be.
    #[error("{}: is no folder; give --out a folder, or a name that is not taken", .0.display())]
    NoFolder(PathBuf),
    /// Another process runs there.
    #[error("{}: a run is going on there; wait for it, or give another --out", .0.display())]
    Locked(PathBuf),
    /// A new run was asked for where one is already.
    #[error("{}: holds a run already; go on with it (--resume), or give another --out", .0.display())]
    Exists(PathBuf),
    /// A new run was asked for where something else is.
    #[error("{}: is not empty, and what is there is not of a run that just began (`{found}`); give another --out", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// A name of what is there.
        found: String,
    },
    /// A run was to be resumed where none is.
    #[error("{}: holds no run to resume; {}", path.display(), if *startable {
        "leave --resume out to start one"
    } else {
        "give --out the directory of a run: one with a recipe.toml"
    })]
    NoRun {
        /// The directory.
        path: PathBuf,
        /// Whether a run could be started there.
        startable: bool,
    },
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
    /// A run was to be resumed on other images.
    #[error(
        "{}: was started on other images; give those (--data), or start anew with another --out:\n  {}",
        path.display(),
        differences.join("\n  ")
    )]
    OtherData {
        /// The directory.
        path: PathBuf,
        /// What differs, one line each.
        differences: Vec<String>,
    },
    /// A line of `metrics.jsonl` is not what was written.
    #[error("{}: line {line} is not a metric; take the line out, or move the file away: then the curves begin anew", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A small file of the run is not what was written.
    #[error("{}: not what a run writes: {source}; move it away to go on without it", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
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
    changes: Vec<Difference>,
    /// Blocks of the order that the run has had from its start.
    mixing: Mixing,
}

/// Time that a run took, of all its sittings so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// Wall-clock time.
    pub seconds: f64,
    /// Time of all cores together.
    pub cpu_seconds: f64,
    /// When the first sitting started, RFC 3339.
    pub started: Option<String>,
}

impl RunDir {
    /// Starts a run in `path`, and writes its recipe and the fingerprint of its data there. The place must be empty or not
    /// exist, but for what a start leaves that came to nothing. Where this fails it leaves nothing that would be in the way.
    ///
    /// # Errors
    /// [`RunDirError::Exists`] or [`RunDirError::Occupied`] when something is there, [`RunDirError::Locked`] when something
    /// runs there.
    pub fn create(
        path: impl Into<PathBuf>,
        recipe: &Resolved,
        data: Option<&Fingerprint>,
    ) -> Result<Self, RunDirError> {
        let path = path.into();
        require_free(&path)?;
        fs::create_dir_all(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => RunDirError::NoFolder(path.clone()),
            _ => at("create", &path)(source),
        })?;
        let run = Self::lock(path)?;
        run.clear()?;
        run.adopt(recipe, data)?;
        Ok(run)
    }

    /// Opens the run in `path` to go on with it. `recipe` must be its own in everything that is hashed, but for what
    /// [may change](Difference::may_change), `data` its own in everything. Writes nothing: see [`adopt`](Self::adopt).
    ///
    /// # Errors
    /// [`RunDirError::NoRun`], [`RunDirError::Locked`], or [`RunDirError::OtherRecipe`] and [`RunDirError::OtherData`] with
    /// what differs.
    pub fn resume(
        path: impl Into<PathBuf>,
        recipe: &Resolved,
        data: Option<&Fingerprint>,
    ) -> Result<Self, RunDirError> {
        let path = path.into();
        let own = read_recipe(&path)?;
        let (changes, differences): (Vec<_>, Vec<_>) =
            recipe.differences(&own).into_iter().partition(Difference::may_change);
        if !differences.is_empty() {
            let differences = differences.iter().map(Difference::to_string).collect();
            return Err(RunDirError::OtherRecipe { path, differences });
        }
        let mut run = Self::lock(path)?;
        run.changes = changes;
        if let Some(data) = data {
            run.check_data(data)?;
        }
        Ok(run)
    }

    /// Holds the data to those that the run was started on.
    fn check_data(&mut self, data: &Fingerprint) -> Result<(), RunDirError> {
        let Some(was) = self.json::<Fingerprint>(DATA, DATA_BYTES)? else {
            tell::warn(format_args!(
                "{}: an older version started this run and did not note on which images; see to it that they are the same",
                self.path.display()
            ));
            return Ok(());
        };
        let differences = data.train.differences(&was.train);
        if !differences.is_empty() {
            return Err(RunDirError::OtherData { path: self.path.clone(), differences });
        }
        self.mixing = was.mixing;
        if data.decoder != was.decoder {
            let what = "images are decoded by another version than before";
            tell::warn(format_args!("{what} ({}, was {}); pixels may differ a little", data.decoder, was.decoder));
        }
        if data.validation != was.validation && was.validation.is_some() {
            tell::warn("the run is measured on other images than before; its measurements do not compare");
        }
        Ok(())
    }

    /// Makes this the recipe and the data of the run: what may change when it goes on, or all of a new one. The recipe
    /// comes last, since it makes the directory a run.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn adopt(&self, recipe: &Resolved, data: Option<&Fingerprint>) -> Result<(), RunDirError> {
        if let Some(data) = data {
            self.put_json(DATA, data)?;
        }
        self.put(records::RECIPE, recipe.to_toml().as_bytes())
    }

    fn lock(path: PathBuf) -> Result<Self, RunDirError> {
        let file = path.join(LOCK);
        let lock = inside::append(&path, LOCK).map_err(at("open", &file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunDirError::Locked(path)),
            Err(TryLockError::Error(error)) if no_locks(&error) => tell::warn(format_args!(
                "{}: the file system has no locks ({error}); see to it yourself that one run at a time uses the directory",
                path.display()
            )),
            Err(TryLockError::Error(error)) => return Err(at("lock", &file)(error)),
        }
        Ok(Self { path, _lock: lock, changes: Vec::new(), mixing: Mixing::default() })
    }

    /// Removes what a start left that came to nothing.
    fn clear(&self) -> Result<(), RunDirError> {
        let names = require_free(&self.path)?;
        if names.iter().any(|name| name != LOCK) {
            let what = "a start came to nothing here; it is started anew";
            tell::say(format_args!("{}: {what}", self.path.display()));
        }
        // The recipe first: without it the rest is nothing.
        let files = names.iter().filter(|name| ![LOCK, CHECKPOINTS, PICTURES].contains(&name.as_str()));
        let (recipe, others): (Vec<_>, Vec<_>) = files.partition(|name| *name == records::RECIPE);
        for name in recipe.into_iter().chain(others) {
            let path = self.path.join(name);
            convnext_files::discard(&path).map_err(at("remove", &path))?;
        }
        Ok(())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What this process changed of the recipe when it resumed the run.
    pub fn changes(&self) -> &[Difference] {
        &self.changes
    }

    /// Blocks of the order with which a run that goes on was started.
    pub fn mixing(&self) -> Mixing {
        self.mixing
    }

    /// `quarantine.tsv`: samples that could not be read.
    pub fn quarantine_path(&self) -> PathBuf {
        self.path.join(QUARANTINE)
    }

    /// `pictures/`, made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made, or is a link.
    pub fn pictures(&self) -> Result<PathBuf, RunDirError> {
        inside::folder(&self.path, PICTURES).map_err(at("use", &self.path.join(PICTURES)))
    }

    /// `checkpoints/`.
    ///
    /// # Errors
    /// When it, or a checkpoint in it, is a link, or no folder.
    pub fn checkpoints(&self, keep: Keep) -> Result<Store, RunDirError> {
        let path = self.path.join(CHECKPOINTS);
        let own = || {
            if fs::symlink_metadata(&path).is_ok() {
                inside::folder(&self.path, CHECKPOINTS)?;
                for name in names(&path)? {
                    inside::no_link(&path.join(name))?;
                }
            }
            Ok(())
        };
        own().map_err(at("use", &path))?;
        Ok(Store::new(path, keep))
    }

    /// Time that earlier sittings of the run took, up to its last checkpoint.
    ///
    /// # Errors
    /// When `spent.json` cannot be read.
    pub fn spent(&self) -> Result<Spent, RunDirError> {
        Ok(self.json(SPENT, SPENT_BYTES)?.unwrap_or_default())
    }

    /// Notes the time that the run has taken. What cannot be noted is told, and ends nothing.
    pub fn keep_spent(&self, spent: &Spent) {
        if let Err(error) = self.put_json(SPENT, spent) {
            tell::warn(format_args!("the time spent so far is not noted: {error}"));
        }
    }

    /// Writes a file of the run whole.
    ///
    /// # Errors
    /// When the disk refuses, or the file is a link.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RunDirError> {
        inside::replace(&self.path, name, bytes).map_err(at("write", &self.path.join(name)))
    }

    /// Writes a record of the run as JSON.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    ///
    /// # Panics
    /// If the record is nothing that JSON can say.
    pub fn put_json(&self, name: &str, record: &impl Serialize) -> Result<(), RunDirError> {
        self.put(name, &serde_json::to_vec_pretty(record).expect("a record is JSON"))
    }

    /// A record of the run, if it is there.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn json<T: serde::de::DeserializeOwned>(&self, name: &str, most: u64) -> Result<Option<T>, RunDirError> {
        let path = self.path.join(name);
        match inside::read(&self.path, name, most) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("read", &path)(error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| RunDirError::Json { path, source }),
        }
    }

    /// `metrics.jsonl` and the TensorBoard events, ready to go on after `step` steps (0 for a new run). Lines of later
    /// steps, from before an interruption, are removed.
    ///
    /// # Errors
    /// When a file cannot be written, or a line that stays is no metric.
    pub fn metrics(&self, step: u64) -> Result<MetricsLog, RunDirError> {
        let path = self.path.join(records::METRICS);
        let file = inside::append(&self.path, records::METRICS).map_err(at("open", &path))?;
        cut_after(&path, &file, step, true)?;
        let events = Events::create(&self.path, step).map_err(at("write events in", &self.path))?;
        Ok(MetricsLog { path, file, events, passed_on: None })
    }
}

/// Whether a run can be started in `path`, without trying: the names of what is there from a start that came to nothing.
///
/// # Errors
/// [`RunDirError::NoFolder`], [`RunDirError::Exists`] or [`RunDirError::Occupied`].
pub(crate) fn require_free(path: &Path) -> Result<Vec<String>, RunDirError> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(Vec::new());
    }
    if !path.is_dir() {
        return Err(RunDirError::NoFolder(path.into()));
    }
    let names = names(path).map_err(at("list", path))?;
    let Some(found) = names.iter().find(|name| !is_leftover(path, name)) else { return Ok(names) };
    match names.iter().any(|name| name == records::RECIPE) {
        true => Err(RunDirError::Exists(path.into())),
        false => Err(RunDirError::Occupied { path: path.into(), found: found.clone() }),
    }
}

/// Whether the entry `name` of `run` is of a run that has not made a step.
fn is_leftover(run: &Path, name: &str) -> bool {
    let path = run.join(name);
    let Ok(found) = fs::symlink_metadata(&path) else { return false };
    match name {
        CHECKPOINTS if found.is_dir() => {
            names(&path).is_ok_and(|names| names.iter().all(|name| name.starts_with(UNFINISHED)))
        }
        PICTURES if found.is_dir() => names(&path).is_ok_and(|names| names.is_empty()),
        _ if !found.is_file() => false,
        records::RECIPE => wrote_recipe(run),
        records::METRICS => has_no_step(run),
        LOCK | DATA | QUARANTINE | SPENT | UNFINISHED_RECIPE => true,
        _ => name.starts_with(UNFINISHED) || name.starts_with(events::PREFIX),
    }
}

/// Whether `recipe.toml` is one that a run writes, and not somebody's own.
fn wrote_recipe(run: &Path) -> bool {
    let text = inside::read(run, records::RECIPE, Recipe::MOST_BYTES).unwrap_or_default();
    read_recipe(run).is_ok_and(|recipe| recipe.to_toml().as_bytes() == text)
}

fn has_no_step(run: &Path) -> bool {
    let first = |file: File| {
        let mut line = Vec::new();
        BufReader::new(file).read_until(b'\n', &mut line).map(|_| line)
    };
    inside::open(run, records::METRICS).and_then(first).is_ok_and(|line| line.last() != Some(&b'\n'))
}

/// Whether locking failed since the file system knows no locks.
fn no_locks(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error().is_some_and(|code| {
            [libc::ENOSYS, libc::EOPNOTSUPP, libc::ENOTSUP, libc::ENOLCK, libc::EINVAL].contains(&code)
        })
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The resolved recipe of the run in `path`; takes no lock, so that a run may be looked at while it lasts.
///
/// # Errors
/// [`RunDirError::NoRun`] when there is none, [`RunDirError::Recipe`] when it cannot be used.
pub fn read_recipe(path: &Path) -> Result<Resolved, RunDirError> {
    Ok(written_recipe::<&str>(path, &[])?.resolve()?)
}

/// The recipe of the run in `path` with `key=value` settings on top.
///
/// # Errors
/// As [`read_recipe`].
pub fn written_recipe<S: AsRef<str>>(path: &Path, sets: &[S]) -> Result<Recipe, RunDirError> {
    let file = path.join(records::RECIPE);
    let bytes = inside::read(path, records::RECIPE, Recipe::MOST_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => RunDirError::NoRun { path: path.into(), startable: require_free(path).is_ok() },
        io::ErrorKind::NotADirectory => RunDirError::NoFolder(path.into()),
        _ => at("read", &file)(error),
    })?;
    let text = String::from_utf8(bytes).map_err(io::Error::other).map_err(at("read", &file))?;
    Ok(Recipe::parse(&file.display().to_string(), &text, sets)?)
}

/// The metrics of a run, as they come. Every line is written at once and whole.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    events: Events,
    /// Who gets every line too.
    passed_on: Option<Lines>,
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
        assert!(Stepped::of(&line).is_some(), "a record has a step");
        line.push(b'\n');
        self.file.write_all(&line).map_err(at("write", &self.path))?;
        if let Some(lines) = &self.passed_on {
            lines.send_line(line);
        }
        Ok(())
    }

    /// Passes every line on from now on.
    pub(crate) fn pass_on(&mut self, lines: Lines) {
        self.passed_on = Some(lines);
    }

    /// Goes back to `step` steps: forgets what was written of later ones, and what was measured at this one unless it counts
    /// as `measured`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn go_back(&mut self, step: u64, measured: bool) -> Result<(), RunDirError> {
        use io::Seek;
        self.file.rewind().map_err(at("read", &self.path))?;
        cut_after(&self.path, &self.file, step, measured)?;
        self.events.go_back(step).map_err(at("write events beside", &self.path))
    }

    /// Writes numbers for TensorBoard: each a tag, e.g. `train/loss`, and a value.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<(), RunDirError> {
        self.events.scalars(step, values).map_err(at("write events beside", &self.path))
    }

    /// Writes the settings of the run for TensorBoard's table of hyperparameters.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn hyperparameters(&mut self, recipe: &Resolved) -> Result<(), RunDirError> {
        self.events.hyperparameters(&recipe.settings()).map_err(at("write events beside", &self.path))
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
    #[serde(default)]
    kind: String,
}

impl Stepped {
    fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// Cuts the file before the first line of a step after `last`, or of a measurement at it unless that is `measured`.
fn cut_after(path: &Path, file: &File, last: u64, measured: bool) -> Result<(), RunDirError> {
    let keep = length_up_to(path, file, last, measured)?;
    file.set_len(keep).map_err(at("truncate", path))
}

/// Bytes before that line. Half a line at the end, from a crash, is not counted.
fn length_up_to(path: &Path, file: &File, last: u64, measured: bool) -> Result<u64, RunDirError> {
    let mut reader = BufReader::new(file);
    let (mut length, mut line) = (0, Vec::new());
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(at("read", path))?;
        if line.last() != Some(&b'\n') {
            break;
        }
        match Stepped::of(&line) {
            Some(Stepped { step, .. }) if step > last => break,
            Some(Stepped { step, kind }) if step == last && !measured && kind == "evaluate" => break,
            Some(_) => length += line.len() as u64,
            None => return Err(RunDirError::Metrics { path: path.into(), line: number }),
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::fingerprint::SetPrint;

    fn recipe(sets: &[&str]) -> Resolved {
        let text = "[model]\nname = 'atto'\n[pretrain]\nepochs = 2\nbatch = 4\nbase_lr = 1e-3\n";
        Recipe::parse("test", text, sets).unwrap().resolve().unwrap()
    }

    fn line(step: u64) -> serde_json::Value {
        serde_json::json!({ "kind": "train", "step": step, "loss": 0.5 })
    }

    fn data(samples: u64) -> Fingerprint {
        let train = SetPrint { samples, classes: 2, names: None, contents: samples.to_string() };
        Fingerprint { decoder: "a decoder".to_owned(), train, mixing: Mixing::default(), validation: None }
    }

    #[test]
    fn a_new_run_wants_a_new_place() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("run");
        let run = RunDir::create(&path, &recipe(&[]), None).unwrap();
        assert_eq!(read_recipe(&path).unwrap(), recipe(&[]));
        assert!(matches!(RunDir::create(&path, &recipe(&[]), None), Err(RunDirError::Locked(_))));
        run.metrics(0).unwrap().append(&line(1)).unwrap();
        drop(run);
        assert!(matches!(RunDir::create(&path, &recipe(&[]), None), Err(RunDirError::Exists(_))));
        fs::write(folder.path().join("something"), "").unwrap();
        let occupied = RunDir::create(folder.path(), &recipe(&[]), None);
        assert!(matches!(occupied, Err(RunDirError::Occupied { found, .. }) if found == "run"));
        let file = folder.path().join("something");
        for path in [file.clone(), file.join("run")] {
            assert!(matches!(RunDir::create(path, &recipe(&[]), None), Err(RunDirError::NoFolder(_))));
        }
    }

    #[test]
    fn a_start_that_came_to_nothing_can_be_made_again_and_resumed() {
        let folder = TempDir::new().unwrap();
        let left: [(&str, &[u8]); 6] = [
            ("run.lock", b""),
            ("recipe.tmp", b"half a rec"),
            (".tmp-data.json", b"{"),
            ("metrics.jsonl", b"{\"step\":1"),
            ("events.out.tfevents.1.2", b"x"),
            ("quarantine.tsv", b"3\t7\tbad\n"),
        ];
        for (name, bytes) in left {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        fs::create_dir_all(folder.path().join("checkpoints/.tmp-step-000000000001")).unwrap();
        assert!(matches!(read_recipe(folder.path()), Err(RunDirError::NoRun { startable: true, .. })));
        // Twice: the second time over a whole recipe and the fingerprint.
        for _ in 0..2 {
            drop(RunDir::create(folder.path(), &recipe(&[]), Some(&data(4))).unwrap());
            let names = names(folder.path()).unwrap();
            assert_eq!(names, ["checkpoints", "data.json", "recipe.toml", "run.lock"]);
        }
        drop(RunDir::resume(folder.path(), &recipe(&[]), Some(&data(4))).unwrap());
        fs::create_dir(folder.path().join("checkpoints/step-000000000001")).unwrap();
        assert!(matches!(RunDir::create(folder.path(), &recipe(&[]), None), Err(RunDirError::Exists(_))));
    }

    #[test]
    fn a_file_system_without_locks_is_told_from_a_lock_that_is_held() {
        for code in [libc::ENOSYS, libc::EOPNOTSUPP, libc::ENOLCK] {
            assert!(no_locks(&io::Error::from_raw_os_error(code)));
        }
        for code in [libc::EWOULDBLOCK, libc::EIO, libc::EACCES, libc::ENOSPC] {
            assert!(!no_locks(&io::Error::from_raw_os_error(code)));
        }
    }

    #[test]
    fn somebody_s_own_recipe_is_not_written_over() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("recipe.toml");
        let text = format!("# my notes\n{}", recipe(&[]).to_toml());
        fs::write(&path, &text).unwrap();
        assert!(RunDir::create(folder.path(), &recipe(&[]), None).is_err());
        assert_eq!(fs::read_to_string(path).unwrap(), text);
    }

    #[test]
    fn a_run_is_resumed_with_its_own_recipe_and_data() {
        let folder = TempDir::new().unwrap();
        assert!(matches!(RunDir::resume(folder.path(), &recipe(&[]), None), Err(RunDirError::NoRun { .. })));
        drop(RunDir::create(folder.path(), &recipe(&[]), Some(&data(4))).unwrap());

        let run = RunDir::resume(folder.path(), &recipe(&[]), None).unwrap();
        assert!(matches!(RunDir::resume(folder.path(), &recipe(&[]), None), Err(RunDirError::Locked(_))));
        drop(run);

        let faster = recipe(&["machine.threads=3"]);
        let run = RunDir::resume(folder.path(), &faster, None).unwrap();
        assert_eq!(read_recipe(folder.path()).unwrap(), recipe(&[]));
        run.adopt(&faster, None).unwrap();
        assert_eq!(read_recipe(folder.path()).unwrap(), faster);
        drop(run);

        let slower =
            recipe(&["machine.threads=3", "pretrain.base_lr=1e-4", "optimizer.clip=1", "optimizer.non_finite='skip'"]);
        let run = RunDir::resume(folder.path(), &slower, None).unwrap();
        let changes: Vec<String> = run.changes().iter().map(Difference::to_string).collect();
        let expected = [
            "optimizer.clip: 1.0, was absent",
            "optimizer.non_finite: \"skip\", was \"stop\"",
            "pretrain.base_lr: 0.0001, was 0.001",
        ];
        assert_eq!(changes, expected);
        drop(run);

        let other = RunDir::resume(folder.path(), &recipe(&["pretrain.epochs=3", "pretrain.base_lr=1"]), None);
        let Err(RunDirError::OtherRecipe { differences, .. }) = other else { panic!() };
        assert_eq!(differences, ["pretrain.epochs: 3, was 2"]);
        let other = RunDir::resume(folder.path(), &recipe(&[]), Some(&data(3)));
        let Err(RunDirError::OtherData { differences, .. }) = other else { panic!() };
        assert_eq!(differences, ["3 samples, was 4"]);
    }

    /// Each file of a run is a link to a file outside, a folder, or a pipe: nothing is written there, and nobody waits.
    #[test]
    fn nothing_is_reached_through_links() {
        let outside = TempDir::new().unwrap();
        let victim = outside.path().join("victim");
        for name in ["run.lock", "recipe.toml", "data.json", "metrics.jsonl", "spent.json", "checkpoints"] {
            for kind in ["link", "folder", "pipe"] {
                let folder = TempDir::new().unwrap();
                drop(RunDir::create(folder.path(), &recipe(&[]), Some(&data(4))).unwrap());
                let path = folder.path().join(name);
                let _ = fs::remove_file(&path);
                fs::write(&victim, "precious").unwrap();
                match kind {
                    "link" => std::os::unix::fs::symlink(&victim, &path).unwrap(),
                    "folder" => fs::create_dir(&path).unwrap(),
                    _ => assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
                }
                let go_on = || {
                    let run = RunDir::resume(folder.path(), &recipe(&[]), Some(&data(4)))?;
                    run.spent()?;
                    run.checkpoints(Keep { last: 1, best: None })?;
                    run.metrics(0)?.append(&line(1))
                };
                let fine = (name, kind) == ("checkpoints", "folder");
                assert_eq!(go_on().is_ok(), fine, "{name} as a {kind}");
                assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{name} as a {kind}");
            }
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }

    #[test]
    fn metrics_after_the_checkpoint_are_cut_off() {
        let folder = TempDir::new().unwrap();
        let run = RunDir::create(folder.path(), &recipe(&[]), None).unwrap();
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
    fn going_back_forgets_later_steps_in_the_same_files() {
        let folder = TempDir::new().unwrap();
        let run = RunDir::create(folder.path(), &recipe(&[]), None).unwrap();
        let mut metrics = run.metrics(0).unwrap();
        let measured = |step: u64| serde_json::json!({ "kind": "evaluate", "step": step });
        for line in [line(1), measured(1), line(2), measured(2), line(3)] {
            metrics.append(&line).unwrap();
        }
        let lines = || fs::read_to_string(folder.path().join(records::METRICS)).unwrap().lines().count();
        metrics.go_back(2, true).unwrap();
        assert_eq!(lines(), 4);
        metrics.go_back(2, false).unwrap();
        assert_eq!(lines(), 3);
        metrics.append(&measured(2)).unwrap();
        assert_eq!(lines(), 4);
        let events = |name: &&String| name.starts_with(events::PREFIX);
        assert_eq!(names(folder.path()).unwrap().iter().filter(events).count(), 1);
    }

    #[test]
    fn half_a_line_is_cut_off_and_a_strange_one_is_not() {
        let folder = TempDir::new().unwrap();
        let run = RunDir::create(folder.path(), &recipe(&[]), None).unwrap();
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
        let run = RunDir::create(folder.path(), &recipe(&[]), None).unwrap();
        run.metrics(0).unwrap().scalars(1, &[("train/loss", 0.5)]).unwrap();
        let names = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        assert_eq!(names.filter(|name| name.starts_with("events.out.tfevents.")).count(), 1);
    }
}
