//! Why a model could not be exported.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

/// Why no ONNX file was written. Every message says what is wrong, where, and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// A plan whose numbers make no model.
    #[error("the variant `{variant}` cannot be exported: {problem}; take the plan that its declaration made")]
    Plan {
        /// The variant.
        variant: String,
        /// What is wrong with its numbers.
        problem: String,
    },
    /// The tensors are not those of the plan's classifier.
    #[error(
        "not the tensors of the classifier `{variant}`:{}\npass the layout of this variant's classifier",
        list(problems)
    )]
    Tensors {
        /// The variant.
        variant: String,
        /// Everything that is wrong, not only the first.
        problems: Vec<TensorProblem>,
    },
    /// A buffer that is not in the layout.
    #[error("a buffer of {found} values where the layout has {expected}; pass the weights that belong to the layout")]
    Length {
        /// Values in the layout.
        expected: usize,
        /// Values in the buffer.
        found: usize,
    },
    /// A path without a file's name, or with one that an ONNX file cannot refer to.
    #[error("{}: no file name in Unicode; give the model a path such as model.onnx", .0.display())]
    FileName(PathBuf),
    /// The operating system refused.
    #[error("{}: could not {action}: {source}; an older file there is as it was", path.display())]
    Io {
        /// What was tried, e.g. `write`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The files are in their places, but a power cut may still undo that.
    #[error("{}: written, but the folder could not be synced: {source}; export again to be sure", path.display())]
    Sync {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// How a tensor of the layout differs from the plan's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorProblem {
    /// The plan has it and the layout has not.
    Missing(String),
    /// The layout has it and the plan has not.
    Unknown(String),
    /// It has another shape.
    Shape {
        /// Its name.
        name: String,
        /// Shape that the plan gives it.
        expected: Vec<usize>,
        /// Shape in the layout.
        found: Vec<usize>,
    },
}

impl fmt::Display for TensorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "missing: {name}"),
            Self::Unknown(name) => write!(f, "unknown: {name}"),
            Self::Shape { name, expected, found } => {
                write!(f, "shape:   {name} is {found:?}, the model has {expected:?}")
            }
        }
    }
}

fn list(problems: &[TensorProblem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Puts the action and the path on an I/O error.
pub(super) fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> OnnxError + 'a {
    move |source| OnnxError::Io { action, path: path.into(), source }
}
