//! One checkpoint: what it is written from, and what is read of it.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use convnext_core::optim::Layout;

use super::{
    error::{CheckpointError, Skipped},
    manifest::{EMA, Manifest, OPTIMIZER, STATE, WEIGHTS},
    metric::{self, Better, Measured},
    safetensors::{Part, write},
    state::RunState,
    tensors::{TensorFile, named},
    usage::Usage,
    which::WhichValues,
};
use crate::pytorch::Section;

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
    pub state: &'a RunState,
    /// How the model is to be used: written beside its weights, and beside their average.
    pub usage: Option<&'a Usage>,
}

pub(super) fn write_snapshot(directory: &Path, snapshot: &Snapshot<'_>) -> Result<(), CheckpointError> {
    let Snapshot { layout, weights, moments, ema, state, usage } = *snapshot;
    let mut manifest = Manifest::new();
    let part = |prefix, values| Part { prefix, values };
    manifest.add(directory, WEIGHTS, |out| write(out, layout, &[part("", weights)], usage))?;
    if let Some((m, v)) = moments {
        manifest.add(directory, OPTIMIZER, |out| write(out, layout, &[part("m.", m), part("v.", v)], None))?;
    }
    if let Some(ema) = ema {
        manifest.add(directory, EMA, |out| write(out, layout, &[part("", ema)], usage))?;
    }
    let json = serde_json::to_vec_pretty(state).expect("plain numbers and names are JSON");
    manifest.add(directory, STATE, |out| out.write_all(&json))?;
    manifest.finish(directory)
}

/// Everything a run needs to go on.
#[derive(Debug)]
pub struct Loaded {
    /// The checkpoint this is from.
    pub path: PathBuf,
    /// Newer checkpoints that were passed over, with their reasons: tell the user.
    pub skipped: Vec<Skipped>,
    /// Where the run stood.
    pub state: RunState,
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
    state: RunState,
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
        Ok(Self { path: path.into(), manifest, state: RunState::read(path)? })
    }

    /// As [`Self::open`], but looks only at lengths.
    pub(super) fn open_unverified(path: &Path) -> Result<Self, CheckpointError> {
        let manifest = Manifest::read(path)?;
        manifest.check_lengths(path)?;
        Ok(Self { path: path.into(), manifest, state: RunState::read(path)? })
    }

    /// As [`Self::open`], for the name of the file that holds `values`: no other tensors need to be there.
    pub(super) fn open_values(path: &Path, values: WhichValues) -> Result<(Self, &'static str), CheckpointError> {
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
        Ok((Self { path: path.into(), manifest, state: RunState::read(path)? }, file))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the run stood.
    pub fn state(&self) -> &RunState {
        &self.state
    }

    /// Reads everything. The tensors must be exactly those of `layout`.
    ///
    /// # Errors
    /// [`CheckpointError::Tensors`] with all missing, unknown and misshapen tensors; [`CheckpointError::NotFinite`].
    pub fn load(&self, layout: &Layout) -> Result<Loaded, CheckpointError> {
        let moments = self.manifest.has(OPTIMIZER).then(|| read_moments(&self.path.join(OPTIMIZER), layout));
        let ema = self.manifest.has(EMA).then(|| read_weights(&self.path.join(EMA), layout));
        Ok(Loaded {
            path: self.path.clone(),
            skipped: Vec::new(),
            state: self.state.clone(),
            weights: read_weights(&self.path.join(WEIGHTS), layout)?,
            moments: moments.transpose()?,
            ema: ema.transpose()?,
        })
    }
}

/// Name of the tensors that only a classifier has.
const HEAD: &str = "head.linear.";

/// The validation metric of the checkpoint in `path`, sound or not. A number that is not finite is none, and neither is
/// one in the state of a pre-training, which has no head: it once stood for the last batch's loss.
pub(super) fn validation(path: &Path) -> Option<Measured> {
    let metric = RunState::read(path).ok()?.metric?;
    if let Some(measured) = metric::read(path) {
        return Some(measured);
    }
    let has_head = |file: TensorFile| file.shapes().iter().any(|(name, _)| name.starts_with(HEAD));
    // Of a damaged file it cannot be told: it is said to be damaged when it is opened.
    let has_head = TensorFile::open(&path.join(WEIGHTS), Section::Best).map_or(true, has_head);
    has_head.then_some(Measured { metric, better: Better::Higher })
}

pub(super) fn read_weights(path: &Path, layout: &Layout) -> Result<Vec<f32>, CheckpointError> {
    let mut file = TensorFile::open(path, Section::Best)?;
    file.check(named("", layout), |_| true)?;
    file.read_all("", layout)
}

fn read_moments(path: &Path, layout: &Layout) -> Result<(Vec<f32>, Vec<f32>), CheckpointError> {
    let mut file = TensorFile::open(path, Section::Best)?;
    file.check(named("m.", layout).chain(named("v.", layout)), |_| true)?;
    Ok((file.read_all("m.", layout)?, file.read_all("v.", layout)?))
}
