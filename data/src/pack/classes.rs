//! The classes of a set, where a file says what they are.

use std::path::{Path, PathBuf};

use super::{PackError, read_text};
use crate::shard::{ClassDifference, ShardError, checked_names, numbers};

/// A file of class names is read whole: this many bytes and no more.
const MOST: u64 = 16 << 20;

/// Names of classes, class 0 first, in Unicode's composed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    pub(super) names: Vec<String>,
    pub(super) path: PathBuf,
}

impl Classes {
    /// Reads a file of names, one a line.
    ///
    /// # Errors
    /// It cannot be read, is longer than 16 MiB, has no names, an empty one or one twice.
    pub fn read(path: &Path) -> Result<Self, PackError> {
        let text = read_text(path, "a file of class names", MOST)?;
        let text = text.trim_start_matches('\u{feff}').trim_end();
        let names = checked_names(text.lines(), path).map_err(ShardError::from)?;
        if names.is_empty() {
            return Err(PackError::NoNames { path: path.to_owned() });
        }
        Ok(Self { names, path: path.to_owned() })
    }

    /// The names, class 0 first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of each of `folders`.
    pub(super) fn numbers(&self, root: &Path, folders: &[String]) -> Result<Vec<u32>, PackError> {
        numbers(folders, &self.names).map_err(|difference| match difference {
            ClassDifference::Names { unknown, absent, .. } => {
                PackError::Classes { path: root.to_owned(), list: self.path.clone(), unknown, absent }
            }
            // The list was checked when it was read.
            other => PackError::List { path: self.path.clone(), line: 0, why: other.to_string() },
        })
    }
}
