//! One variant per way a checkpoint can be wrong.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

use crate::pytorch::PytorchError;

/// Why a checkpoint could not be written or read. Every message names the file and says what to do.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{}: could not {action}: {source}", path.display())]
    Io {
        /// What was tried, e.g. `write`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory without a manifest: not a checkpoint, or one that was never finished.
    #[error("{}: no manifest.json; not a finished checkpoint. Give a directory such as checkpoints/step-000000001000", .0.display())]
    NoManifest(PathBuf),
    /// The manifest is not the JSON we write.
    #[error("{}: not a manifest ({reason}); take another checkpoint", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// The manifest is of a format this program does not know.
    #[error("{}: checkpoint format {found}, this program reads {known}; use the program that wrote it", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// Format in the file.
        found: u32,
        /// Format of this program.
        known: u32,
    },
    /// The manifest names a file that is not one of a checkpoint's.
    #[error("{}: the manifest lists `{file}`, which is not a file of a checkpoint; do not trust this directory", path.display())]
    UnknownFile {
        /// The manifest.
        path: PathBuf,
        /// The name.
        file: String,
    },
    /// A file that a checkpoint needs is not in the manifest.
    #[error("{}: the manifest does not list {file}; take another checkpoint", path.display())]
    Unlisted {
        /// The manifest.
        path: PathBuf,
        /// The name.
        file: &'static str,
    },
    /// A file of the manifest is not there.
    #[error("{}: missing, though the manifest lists it; take another checkpoint", .0.display())]
    FileMissing(PathBuf),
    /// A file is longer or shorter than the manifest says.
    #[error("{}: {found} bytes where the manifest says {expected}; damaged, take another checkpoint", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes according to the manifest.
        expected: u64,
        /// Bytes on the disk.
        found: u64,
    },
    /// A file's SHA-256 is not the manifest's.
    #[error("{}: sha256 {found} where the manifest says {expected}; damaged, take another checkpoint", path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// Hash according to the manifest.
        expected: String,
        /// Hash of the file.
        found: String,
    },
    /// `state.json` is not the JSON we write.
    #[error("{}: not a checkpoint's state ({reason}); take another checkpoint", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// A file ends before its header does.
    #[error("{}: {found} bytes, too short for a safetensors file; copied only in part?", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length.
        found: u64,
    },
    /// A header that claims more memory than any model's needs.
    #[error("{}: a header of {claimed} bytes, more than the {allowed} allowed; not a file to trust", path.display())]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// Length that the file claims.
        claimed: u64,
        /// Length of the longest that is read.
        allowed: u64,
    },
    /// The header is no valid safetensors header.
    #[error("{}: not a safetensors header ({reason}); is this really a .safetensors file?", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What the safetensors library said.
        reason: String,
    },
    /// An index of several files is not what their program writes, or they are not what it says.
    #[error("{}: not an index of weights ({reason})", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The data are longer or shorter than the header says.
    #[error("{}: {found} bytes of tensors where the header says {expected}; copied only in part?", path.display())]
    DataLength {
        /// The file.
        path: PathBuf,
        /// Bytes according to the header.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// A file that holds something other than weights.
    #[error("{}: is {what}: {advice}", path.display())]
    NotWeights {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// A `.pt` file that holds no tensors, or wants more than to be read.
    #[error(transparent)]
    Pytorch(#[from] PytorchError),
    /// The tensors are not the model's.
    #[error("{}: not the tensors of this model:{problems}\nis it of another variant? `convnext summary` shows what each one has", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong, not only the first.
        problems: TensorProblems,
    },
    /// A weight is NaN or infinite: nothing computed from it means anything.
    #[error(
        "{}: `{name}` is {value} at element {element}: the training that wrote it had diverged, or the file is damaged; take \
         earlier weights, of a run those of one step, `RUN@step-...`", path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The first such element of it, in row-major order.
        element: usize,
        /// What it is.
        value: f32,
    },
    /// A checkpoint was about to be written with values that are NaN or infinite.
    #[error("{}: not saved, since `{name}` is {value} at element {element} of the {part}; older checkpoints are as they were", path.display())]
    Diverged {
        /// The folder of checkpoints.
        path: PathBuf,
        /// `weights`, `moving average` or `optimizer state`.
        part: &'static str,
        /// The tensor.
        name: String,
        /// The first such element of it, in row-major order.
        element: usize,
        /// What it is.
        value: f32,
    },
    /// Something is a link, a pipe or a device where a plain file or a folder is needed.
    #[error("{}: {found}, not {wanted}; nothing is written through it, read from it without end, or removed behind it", path.display())]
    NotPlain {
        /// Where.
        path: PathBuf,
        /// What it is, e.g. `a symbolic link`.
        found: &'static str,
        /// What it should be: `a file` or `a folder`.
        wanted: &'static str,
    },
    /// The checkpoint lacks a part that was asked for.
    #[error("{}: holds no {part}; it can be loaded as weights, not resumed as this run", path.display())]
    NoPart {
        /// The checkpoint.
        path: PathBuf,
        /// `optimizer state` or `moving average`.
        part: &'static str,
    },
    /// There are checkpoints, and none of them verifies.
    #[error("{}: none of the checkpoints can be used:{}", path.display(), list(skipped))]
    NoneVerifies {
        /// The folder of checkpoints.
        path: PathBuf,
        /// Each with its reason, newest first.
        skipped: Vec<Skipped>,
    },
    /// A run has no checkpoint of the name that was asked for.
    #[error("{}: has no checkpoint `{word}`; {}", path.display(), names(there))]
    NoneSo {
        /// The run, or folder of checkpoints.
        path: PathBuf,
        /// The name.
        word: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// A checkpoint was asked for of what is no run.
    #[error("{}: is no run, so that `@{word}` means nothing; leave it out", path.display())]
    NotSeveral {
        /// What it is.
        path: PathBuf,
        /// What was asked for.
        word: String,
    },
    /// No checkpoint at all.
    #[error("{}: no checkpoint here; give a run that has saved one, a checkpoint, or a file of weights", .0.display())]
    Empty(PathBuf),
}

/// A checkpoint that was passed over, and why.
#[derive(Debug)]
pub struct Skipped {
    /// The checkpoint.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: Box<CheckpointError>,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The reason names the file.
        write!(f, "{}", self.reason)
    }
}

fn names(there: &[String]) -> String {
    match there {
        [] => "it has none yet".to_owned(),
        there => format!("it has {}", there.join(", ")),
    }
}

fn list(skipped: &[Skipped]) -> String {
    skipped.iter().map(|skipped| format!("\n  {skipped}")).collect()
}

/// How a file's tensors differ from a layout's.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TensorProblems {
    /// Tensors that the model has and the file has not.
    pub missing: Vec<String>,
    /// Tensors that the file has and the model has not.
    pub extra: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
    /// Tensors that are not f32: name and type.
    pub mistyped: Vec<(String, String)>,
}

/// A tensor of another shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshapen {
    /// Its name.
    pub name: String,
    /// Shape in the model.
    pub expected: Vec<usize>,
    /// Shape in the file.
    pub found: Vec<usize>,
}

impl TensorProblems {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

impl fmt::Display for TensorProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.missing {
            write!(f, "\n  missing: {name}")?;
        }
        for name in &self.extra {
            write!(f, "\n  unknown: {name}")?;
        }
        for Misshapen { name, expected, found } in &self.misshapen {
            write!(f, "\n  shape:   {name} is {found:?}, the model has {expected:?}")?;
        }
        for (name, dtype) in &self.mistyped {
            write!(f, "\n  type:    {name} is {dtype}, a floating-point type is needed")?;
        }
        Ok(())
    }
}
