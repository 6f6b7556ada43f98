//! Weights alone, wherever they lie: one file written, or one found, opened and read.

use std::{
    io::BufWriter,
    path::{Path, PathBuf},
};

use convnext_core::optim::Layout;

use super::{
    error::{CheckpointError, Skipped},
    files::at,
    find::{Found, find},
    safetensors::{Part, write},
    tensors::{TensorFile, named},
    usage::Usage,
    which::{Taken, Which},
};
use crate::pytorch::Section;

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
    let written = convnext_files::replace(path, |file| {
        write(&mut BufWriter::new(file), layout, &[Part { prefix: "", values }], usage)
    });
    written.map_err(at("write", path))
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
/// When the file is damaged, or is not one of weights.
pub fn read_header(path: impl AsRef<Path>, which: Which) -> Result<Header, CheckpointError> {
    Ok(Source::open(path.as_ref(), which, None)?.into_header())
}
