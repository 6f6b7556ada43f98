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

mod error;
mod manifest;
mod metric;
mod shards;
mod sniff;
mod store;
mod tensors;
#[cfg(test)]
mod tests;
mod usage;
mod which;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub use error::{CheckpointError, Misshapen, Skipped, TensorProblems};
pub use store::{Better, Keep, Saved, Store};
pub use tensors::HEADER_CAP;
pub use usage::{Usage, View};
pub use which::{Origin, Taken, Which, WhichCheckpoint, WhichValues};

use error::at;
use manifest::{EMA, Manifest, OPTIMIZER, STATE, WEIGHTS, read_json, sync_directory};
use tensors::{Part, TensorFile};
use which::{Found, find};

use crate::{durable::directory_of, pytorch::Section};
use convnext_core::optim::Layout;

/// Where a run stands, beside its tensors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Optimiser steps taken, skipped ones included: what the schedule goes by.
    pub step: u64,
    /// Updates made: what Adam's bias correction goes by.
    pub updates: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Samples consumed since the start of the run: the next one to read.
    pub position: u64,
    /// Seed of every random decision.
    pub seed: u64,
    /// The variant's name.
    pub model: String,
    /// SHA-256 of the resolved recipe, in hexadecimal.
    pub recipe: String,
    /// Validation metric (accuracy or loss) at this step, if it was measured: by [`Store::record_metric`], or before the
    /// checkpoint was written. Finite.
    pub metric: Option<f64>,
    /// Running sums that the run wants back, e.g. the loss so far in this epoch. Finite numbers only.
    pub counters: BTreeMap<String, f64>,
}

impl State {
    /// No training comes near this: sums and products of what is below it do not wrap.
    const MOST: u64 = 1 << 48;

    fn checked(self) -> Result<Self, String> {
        let counts =
            [("step", self.step), ("updates", self.updates), ("epoch", self.epoch), ("position", self.position)];
        match counts.into_iter().find(|&(_, count)| count > Self::MOST) {
            Some((name, count)) => Err(format!("{name} {count} is more than any training's")),
            None => Ok(self),
        }
    }
}

/// Everything a checkpoint is written from.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot<'a> {
    /// Which range of each buffer is which tensor.
    pub layout: &'a Layout,
    /// The parameters.
    pub weights: &'a [f32],
    /// First and second moments.
    pub moments: Option<(&'a [f32], &'a [f32])>,
    /// The moving average of the parameters.
    pub ema: Option<&'a [f32]>,
    /// Where the run stands.
    pub state: &'a State,
    /// How the model is to be used: written beside its weights, and beside their average.
    pub usage: Option<&'a Usage>,
}

/// Everything a run needs to go on.
#[derive(Debug)]
pub struct Loaded {
    /// The checkpoint this is from.
    pub path: PathBuf,
    /// Newer checkpoints that were passed over, with their reasons: tell the user.
    pub skipped: Vec<Skipped>,
    /// Where the run stood.
    pub state: State,
    /// The parameters.
    pub weights: Vec<f32>,
    /// First and second moments.
    pub moments: Option<(Vec<f32>, Vec<f32>)>,
    /// The moving average of the parameters.
    pub ema: Option<Vec<f32>>,
}

impl Loaded {
    /// The moments, or an error that says that this checkpoint cannot be resumed.
    ///
    /// # Errors
    /// [`CheckpointError::NoPart`] when the checkpoint holds none.
    pub fn take_moments(&mut self) -> Result<(Vec<f32>, Vec<f32>), CheckpointError> {
        let no = || CheckpointError::NoPart { path: self.path.clone(), part: "optimizer state" };
        self.moments.take().ok_or_else(no)
    }

    /// The moving average, or an error that says that this checkpoint holds none.
    ///
    /// # Errors
    /// [`CheckpointError::NoPart`] when the checkpoint holds none.
    pub fn take_ema(&mut self) -> Result<Vec<f32>, CheckpointError> {
        let no = || CheckpointError::NoPart { path: self.path.clone(), part: "moving average" };
        self.ema.take().ok_or_else(no)
    }
}

/// A checkpoint that has been opened and checked.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
    state: State,
}

impl Checkpoint {
    /// Opens the checkpoint `path` and verifies every file of it against the manifest.
    ///
    /// # Errors
    /// A variant of [`CheckpointError`] for each way the directory can be wrong.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let manifest = Manifest::read(path)?;
        manifest.verify(path)?;
        Ok(Self { path: path.into(), manifest, state: read_state(path)? })
    }

    /// As [`Self::open`], but looks only at lengths.
    fn open_unverified(path: &Path) -> Result<Self, CheckpointError> {
        let manifest = Manifest::read(path)?;
        manifest.check_lengths(path)?;
        Ok(Self { path: path.into(), manifest, state: read_state(path)? })
    }

    /// As [`Self::open`], for the name of the file that holds `values`: no other tensors need to be there.
    fn open_values(path: &Path, values: WhichValues) -> Result<(Self, &'static str), CheckpointError> {
        let manifest = Manifest::read(path)?;
        let file = match values {
            WhichValues::Raw => WEIGHTS,
            WhichValues::Ema | WhichValues::AverageIfThere if manifest.has(EMA) => EMA,
            WhichValues::AverageIfThere => WEIGHTS,
            WhichValues::Ema => {
                return Err(CheckpointError::NoPart { path: path.into(), part: "moving average" });
            }
        };
        manifest.verify_files(path, &[file, STATE])?;
        Ok((Self { path: path.into(), manifest, state: read_state(path)? }, file))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the run stood.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether a moving average is in it.
    pub fn has_ema(&self) -> bool {
        self.manifest.has(EMA)
    }

    /// Reads everything. The tensors must be exactly those of `layout`.
    ///
    /// # Errors
    /// [`CheckpointError::Tensors`] with all missing, unknown and misshapen tensors; [`CheckpointError::NotFinite`].
    pub fn load(&self, layout: &Layout) -> Result<Loaded, CheckpointError> {
        let moments = self.manifest.has(OPTIMIZER).then(|| read_moments(&self.path.join(OPTIMIZER), layout));
        let ema = self.has_ema().then(|| read_weights(&self.path.join(EMA), layout));
        Ok(Loaded {
            path: self.path.clone(),
            skipped: Vec::new(),
            state: self.state.clone(),
            weights: read_weights(&self.path.join(WEIGHTS), layout)?,
            moments: moments.transpose()?,
            ema: ema.transpose()?,
        })
    }

    /// The metric by which checkpoints are compared; see [`validation`].
    fn validation(&self) -> Option<f64> {
        validation(&self.path)
    }
}

/// Name of the tensors that only a classifier has.
const HEAD: &str = "head.linear.";

/// The validation metric of the checkpoint in `path`, sound or not. A number that is not finite is none, and neither is
/// that of a pre-training, which has no head: it once stood for the last batch's loss.
fn validation(path: &Path) -> Option<f64> {
    let metric = read_state(path).ok()?.metric?;
    let has_head = |file: TensorFile| file.shapes().iter().any(|(name, _)| name.starts_with(HEAD));
    // Of a damaged file it cannot be told: it is said to be damaged when it is opened.
    TensorFile::open(&path.join(WEIGHTS), Section::Best).map_or(true, has_head).then_some(metric)
}

fn read_state(path: &Path) -> Result<State, CheckpointError> {
    let file = path.join(STATE);
    let text = read_json(&file)?;
    let state = serde_json::from_slice(&text).map_err(|error| error.to_string()).and_then(State::checked);
    let mut state = state.map_err(|reason| CheckpointError::State { path: file, reason })?;
    state.metric = metric::read(path).or(state.metric).filter(|metric| metric.is_finite());
    Ok(state)
}

/// Writes weights as one `.safetensors` file, with what is known of their use: under a temporary name, synced, then renamed
/// over `path`.
///
/// # Errors
/// [`CheckpointError::Io`] when the disk refuses; a file that was at `path` is then as it was.
///
/// # Panics
/// If `values` has another length than the layout.
pub fn save_weights(
    path: impl AsRef<Path>,
    layout: &Layout,
    values: &[f32],
    usage: Option<&Usage>,
) -> Result<(), CheckpointError> {
    let path = path.as_ref();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!(".tmp-{name}"));
    let write = || {
        let mut out = BufWriter::new(create_own(&unfinished)?);
        tensors::write(&mut out, layout, &[Part { prefix: "", values }], usage)?;
        out.get_ref().sync_all()?;
        fs::rename(&unfinished, path)
    };
    if let Err(error) = write() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&unfinished);
        return Err(at("write", path)(error));
    }
    sync_directory(directory_of(path))
}

/// Creates a file anew: never what a link at its place leads to.
fn create_own(path: &Path) -> io::Result<File> {
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        fs::remove_file(path)?;
    }
    File::create_new(path)
}

/// What a file of weights holds, and where it is.
#[derive(Debug)]
pub struct Header {
    /// The file.
    pub path: PathBuf,
    /// What that is of the run or checkpoint: tell the user.
    pub taken: Taken,
    /// Better or newer checkpoints that were passed over: tell the user.
    pub skipped: Vec<Skipped>,
    /// Name and shape of each tensor.
    pub tensors: Vec<(String, Vec<usize>)>,
    /// What the file says about the use of the weights.
    pub usage: Option<Usage>,
    /// Whether `tensors` are only those below the key that was asked for, without it in their names.
    pub(crate) keyed: bool,
}

/// Weights that have been found and opened. A run may go on and remove them: they stay as they are.
pub(crate) struct Source {
    header: Header,
    file: TensorFile,
}

impl Source {
    /// Opens the weights that `path` means, as [`read_header`] says.
    pub(crate) fn open(path: &Path, which: Which, key: Option<&str>) -> Result<Self, CheckpointError> {
        let section = key.map_or(which.values.section(), Section::Key);
        let (Found { path, mut taken, skipped }, file) = find(path, which, section)?;
        let (tensors, usage) = (file.shapes(), file.usage());
        let keyed = file.section().is_some();
        if let Some(section) = file.section() {
            taken = Taken { section: Some(section.into()), average: file.is_average(), ..taken };
        }
        Ok(Self { header: Header { path, taken, skipped, tensors, usage, keyed }, file })
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn into_header(self) -> Header {
        self.header
    }

    /// Reads the tensors of `layout`; no other tensors that `ours` accepts may be in the file.
    pub(crate) fn load(&mut self, layout: &Layout, ours: impl Fn(&str) -> bool) -> Result<Vec<f32>, CheckpointError> {
        self.file.check(named("", layout), ours)?;
        self.file.read_all("", layout)
    }
}

/// Reads what is in the weights that `path` means, not the weights. `path` is a file of tensors, the index of several, a
/// checkpoint, a folder of checkpoints, a run directory with one named `checkpoints`, or a folder of transformers; from a
/// folder of checkpoints, the best or newest that verifies is taken.
///
/// # Errors
/// When the file is damaged or is none.
pub fn read_header(path: impl AsRef<Path>, which: Which) -> Result<Header, CheckpointError> {
    Ok(Source::open(path.as_ref(), which, None)?.into_header())
}

fn read_weights(path: &Path, layout: &Layout) -> Result<Vec<f32>, CheckpointError> {
    let mut file = TensorFile::open(path, Section::Best)?;
    file.check(named("", layout), |_| true)?;
    file.read_all("", layout)
}

fn read_moments(path: &Path, layout: &Layout) -> Result<(Vec<f32>, Vec<f32>), CheckpointError> {
    let mut file = TensorFile::open(path, Section::Best)?;
    file.check(named("m.", layout).chain(named("v.", layout)), |_| true)?;
    Ok((file.read_all("m.", layout)?, file.read_all("v.", layout)?))
}

fn named<'a>(prefix: &'a str, layout: &'a Layout) -> impl Iterator<Item = (String, &'a [usize])> {
    layout.segments().iter().map(move |segment| (format!("{prefix}{}", segment.name), &segment.shape[..]))
}
