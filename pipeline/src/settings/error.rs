//! What can be wrong with a recipe, said so that it can be put right.

use std::{fmt, io, path::PathBuf};

use thiserror::Error;

/// Why a recipe cannot be used.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{}: could not read the recipe: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text is not TOML, or has a key or a type that no recipe has. Names the line, and what was likely meant.
    #[error("{name}: {message}")]
    Syntax {
        /// The recipe.
        name: String,
        /// What the parser said, with the line, and a suggestion.
        message: String,
    },
    /// A `--set` that does not fit.
    #[error("--set {set}: {message}")]
    Set {
        /// What was given.
        set: String,
        /// What is wrong, and a suggestion.
        message: String,
    },
    /// Values that cannot be: all of them, not only the first.
    #[error("the recipe cannot be used:{}", list(problems))]
    Invalid {
        /// What is wrong.
        problems: Vec<Problem>,
    },
}

/// One value that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted name, as `--set` takes it; a section if it is about one.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
