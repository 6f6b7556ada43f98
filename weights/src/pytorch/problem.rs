//! What can be wrong with a PyTorch file, sorted by what its owner can do about it.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

use super::Dtype;

pub(super) const RESAVE: &str = "In a Python that you trust with the file, save the tensors alone: \
    torch.save(model.state_dict(), \"weights.pt\"), \
    or safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")";

/// Why a PyTorch file could not be read. The message names the file and the part of it, and says what is wrong there and
/// what to do.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct PytorchError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// One variant per thing to do about it. In most of them `at` is the part of the file, and `what` says what is wrong with
/// that part: together they make a sentence.
#[derive(Debug, Error)]
pub enum Problem {
    /// The operating system refused.
    #[error("could not {action}: {source}")]
    Io {
        /// What was tried, e.g. `read`.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Neither a zip archive nor a file of the older format.
    #[error("neither of the two formats that torch.save writes; is it really a .pt or .pth file? {RESAVE}")]
    NotPytorch,
    /// A zip archive of something else.
    #[error("a zip archive that torch.save did not write; {what}")]
    OtherArchive {
        /// What it holds, and what to do with that.
        what: String,
    },
    /// The file ends too early, or lacks what it refers to.
    #[error("{at} {what}; copied only in part?")]
    #[expect(missing_docs, reason = "as the enum says")]
    CutOff { at: Part, what: String },
    /// The file contradicts itself in a way that a damaged disk explains.
    #[error("{at} {what}; damaged, take another copy")]
    #[expect(missing_docs, reason = "as the enum says")]
    Damaged { at: Part, what: String },
    /// The file contradicts itself in a way that only intent explains.
    #[error("{at} {what}. torch.save never writes this: do not trust the file")]
    #[expect(missing_docs, reason = "as the enum says")]
    Forged { at: Part, what: String },
    /// More than any checkpoint needs, of something that costs memory.
    #[error("{at} {what}; not a file to trust")]
    #[expect(missing_docs, reason = "as the enum says")]
    TooLarge { at: Part, what: String },
    /// Something that torch saves, and that is more than named tensors.
    #[error("{at} {what}. {RESAVE}")]
    #[expect(missing_docs, reason = "as the enum says")]
    Unsupported { at: Part, what: String },
    /// An entry that is compressed.
    #[error("{at} is compressed ({method}); torch.save stores. Pack the archive anew with `zip -0`, or: {RESAVE}")]
    Compressed {
        /// The entry.
        at: Part,
        /// The compression method, e.g. `Deflated`.
        method: String,
    },
    /// An entry that is encrypted.
    #[error("{at} is encrypted. Decrypt the file first, or: {RESAVE}")]
    Encrypted {
        /// The entry.
        at: Part,
    },
    /// The dict of tensors that was asked for is not there.
    #[error("has no {wanted}; its dicts of tensors are {}", listed(found))]
    NoSection {
        /// What was asked for.
        wanted: String,
        /// Keys of the outermost dict under which there are tensors.
        found: Vec<String>,
    },
    /// A tensor whose elements are too far apart, or the same again and again.
    #[error("{at} {what}. Call .contiguous() on it before it is saved")]
    #[expect(missing_docs, reason = "as the enum says")]
    NotContiguous { at: Part, what: String },
    /// A tensor that is not of floating-point numbers.
    #[error("{at} is {dtype}; float32, float16, bfloat16 and float64 are read. Call .float() on it before it is saved")]
    NotFloat {
        /// The tensor.
        at: Part,
        /// Its type.
        dtype: Dtype,
    },
    /// A tensor that is not in the file, or not as long as the caller's memory.
    #[error("{at} {what}; is it of another model?")]
    #[expect(missing_docs, reason = "as the enum says")]
    OtherModel { at: Part, what: String },
}

/// Part of a PyTorch file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The zip archive that files are since torch 1.6.
    Archive,
    /// An entry of it, by its name.
    Entry(String),
    /// One of the pickles of older files that is not the object.
    Header(&'static str),
    /// The pickle.
    Pickle,
    /// The pickle's instruction that starts at this byte.
    Byte(u64),
    /// What the pickle builds.
    Object,
    /// The elements of tensors, by their key.
    Storage(String),
    /// A tensor, by its name.
    Tensor(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive => f.write_str("the zip archive"),
            Self::Entry(name) => write!(f, "entry `{name}`"),
            Self::Header(name) => write!(f, "the {name}"),
            Self::Pickle => f.write_str("the pickle"),
            Self::Byte(byte) => write!(f, "the pickle, at byte {byte},"),
            Self::Object => f.write_str("the saved object"),
            Self::Storage(key) => write!(f, "storage `{key}`"),
            Self::Tensor(name) => write!(f, "`{name}`"),
        }
    }
}

impl Part {
    /// An entry, its name made safe to print.
    pub(super) fn entry(name: &str) -> Self {
        Self::Entry(shown(name))
    }

    /// A storage, its key made safe to print.
    pub(super) fn storage(key: &str) -> Self {
        Self::Storage(shown(key))
    }

    /// A tensor, its name made safe to print.
    pub(super) fn tensor(name: &str) -> Self {
        Self::Tensor(shown(name))
    }

    pub(super) fn cut_off(self, what: impl Into<String>) -> Problem {
        Problem::CutOff { at: self, what: what.into() }
    }

    pub(super) fn damaged(self, what: impl Into<String>) -> Problem {
        Problem::Damaged { at: self, what: what.into() }
    }

    pub(super) fn forged(self, what: impl Into<String>) -> Problem {
        Problem::Forged { at: self, what: what.into() }
    }

    pub(super) fn too_large(self, what: impl Into<String>) -> Problem {
        Problem::TooLarge { at: self, what: what.into() }
    }

    pub(super) fn unsupported(self, what: impl Into<String>) -> Problem {
        Problem::Unsupported { at: self, what: what.into() }
    }

    pub(super) fn not_contiguous(self, what: impl Into<String>) -> Problem {
        Problem::NotContiguous { at: self, what: what.into() }
    }

    pub(super) fn of_other_model(self, what: impl Into<String>) -> Problem {
        Problem::OtherModel { at: self, what: what.into() }
    }
}

impl Problem {
    /// Adds the byte, where nothing more is said than that the pickle is wrong.
    pub(super) fn at_byte(mut self, byte: u64) -> Self {
        if let Self::CutOff { at, .. }
        | Self::Damaged { at, .. }
        | Self::Forged { at, .. }
        | Self::TooLarge { at, .. }
        | Self::Unsupported { at, .. } = &mut self
            && *at == Part::Pickle
        {
            *at = Part::Byte(byte);
        }
        self
    }
}

/// Puts what was tried on an I/O error.
pub(super) fn io(action: &'static str) -> impl Fn(io::Error) -> Problem {
    move |source| Problem::Io { action, source }
}

/// As [`io`] for a read that the file may be too short for.
pub(super) fn cut(at: Part) -> impl FnOnce(io::Error) -> Problem {
    move |source| match source.kind() {
        io::ErrorKind::UnexpectedEof => at.cut_off("ends too early"),
        _ => io("read")(source),
    }
}

fn listed(keys: &[String]) -> String {
    const MOST: usize = 8;
    let shown: Vec<_> = keys.iter().take(MOST).map(|key| format!("`{key}`")).collect();
    match keys.len() {
        0 => "none; the whole file is one".into(),
        len if len > MOST => format!("{} and {} more", shown.join(", "), len - MOST),
        _ => shown.join(", "),
    }
}

/// A text from a file, made safe to print: no control characters, no great length.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    text.escape_debug().take(LONGEST).collect()
}
