//! What to do with a sample that cannot be used.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use super::StreamError;

/// What happens to a bad sample: truncated, of a wrong checksum, not an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// The run ends with the sample's error. Evaluation's default.
    Fail,
    /// Another sample, chosen by the seed, stands in; the bad one is listed in a file.
    Substitute(Bounds),
}

/// When substitution gives up: whichever bound is met first.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Most substitutions of a run.
    pub count: u64,
    /// Largest share of substituted samples, in `(0, 1]`, looked at after the first thousand samples.
    pub rate: f64,
    /// The list of bad samples: one line each, tab-separated: position, sample, error.
    pub list: PathBuf,
}

/// Samples before which the rate is not judged.
const RATE_AFTER: u64 = 1000;

/// Counts substitutions, in the order of positions, and writes the list.
#[derive(Debug)]
pub(crate) struct Quarantine {
    bounds: Option<Bounds>,
    file: Option<File>,
    seen: u64,
    substituted: u64,
}

impl Quarantine {
    pub(crate) fn new(policy: &Policy) -> Self {
        let bounds = match policy {
            Policy::Fail => None,
            Policy::Substitute(bounds) => Some(bounds.clone()),
        };
        Self { bounds, file: None, seen: 0, substituted: 0 }
    }

    /// Notes a sample in its turn, with the faults of those it stands in for.
    pub(crate) fn note(&mut self, position: u64, faults: &[(u64, String)]) -> Result<(), StreamError> {
        self.seen += 1;
        for (id, fault) in faults {
            self.substituted += 1;
            self.write(position, *id, fault)?;
        }
        if faults.is_empty() { Ok(()) } else { self.judge(&faults[0].1) }
    }

    fn judge(&self, example: &str) -> Result<(), StreamError> {
        let Some(bounds) = &self.bounds else { return Ok(()) };
        let rate = self.substituted as f64 / self.seen as f64;
        if self.substituted <= bounds.count && (self.seen < RATE_AFTER || rate <= bounds.rate) {
            return Ok(());
        }
        Err(StreamError::TooManyBad {
            substituted: self.substituted,
            seen: self.seen,
            list: bounds.list.clone(),
            example: example.to_owned(),
        })
    }

    fn write(&mut self, position: u64, id: u64, fault: &str) -> Result<(), StreamError> {
        let Some(bounds) = &self.bounds else { return Ok(()) };
        let failed = |source| StreamError::List { path: bounds.list.clone(), source };
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(append(&bounds.list).map_err(failed)?),
        };
        writeln!(file, "{position}\t{id}\t{}", fault.replace(['\n', '\t'], " ")).map_err(failed)
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
