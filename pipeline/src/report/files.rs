//! The files of a run directory, read for a page: none is needed, none is trusted.
//!
//! What is not there is left out. What cannot be read - a link, a pipe, a folder, more than such a file can have - is
//! left out too, and noted for the page. See [`crate::inside`].

use std::{
    io::{self, BufReader, Read},
    path::Path,
};

use serde::de::DeserializeOwned;

use super::ReportError;
use crate::{
    inside,
    records::{self, History, RecordError},
};

/// Bytes of a file that hold more than any run writes.
const SMALL: u64 = 1 << 20;
const EVALUATION: u64 = 16 << 20;
const PICTURE: u64 = 32 << 20;
/// Bytes of `metrics.jsonl` that are read: a million records.
const METRICS: u64 = 256 << 20;
/// Bytes of `quarantine.tsv` that are read.
const QUARANTINE: u64 = 64 << 10;

/// A run directory, and what was found wrong in it.
#[derive(Debug)]
pub(super) struct Files<'a> {
    run: &'a Path,
    pub(super) notes: Vec<String>,
}

impl<'a> Files<'a> {
    pub(super) fn of(run: &'a Path) -> Self {
        Self { run, notes: Vec::new() }
    }

    pub(super) fn recipe(&mut self) -> Option<String> {
        self.read(records::RECIPE, SMALL).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) fn record<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReportError> {
        self.json(records::RUN, SMALL)
    }

    pub(super) fn evaluation<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ReportError> {
        self.json(records::EVALUATION, EVALUATION)
    }

    pub(super) fn picture(&mut self, name: &str) -> Option<Vec<u8>> {
        self.read(name, PICTURE)
    }

    /// The records of `metrics.jsonl`; of a longer file than any run writes, the first ones.
    pub(super) fn history(&mut self) -> Option<History> {
        let read = |run| {
            let file = inside::open(run, records::METRICS)?;
            let is_cut = file.metadata()?.len() > METRICS;
            History::read(BufReader::new(file.take(METRICS))).map(|history| (history, is_cut))
        };
        let (history, is_cut) = self.noted(records::METRICS, read(self.run))?;
        if is_cut {
            let most = METRICS >> 20;
            self.notes.push(format!("{} is longer than {most} MiB; its first {most} MiB are shown", records::METRICS));
        }
        Some(history)
    }

    /// The first lines of `quarantine.tsv`, and whether there are more.
    pub(super) fn quarantine(&mut self, lines: usize) -> (Vec<String>, bool) {
        let read = |run| {
            let mut bytes = Vec::new();
            inside::open(run, crate::run_dir::QUARANTINE)?.take(QUARANTINE).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = self.noted(crate::run_dir::QUARANTINE, read(self.run)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let mut all = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned);
        let first = all.by_ref().take(lines).collect();
        (first, all.next().is_some())
    }

    fn json<T: DeserializeOwned>(&mut self, name: &str, most: u64) -> Result<Option<T>, ReportError> {
        let Some(bytes) = self.read(name, most) else { return Ok(None) };
        let wrong = |source| RecordError::Parse { path: self.run.join(name), source };
        Ok(Some(serde_json::from_slice(&bytes).map_err(wrong)?))
    }

    fn read(&mut self, name: &str, most: u64) -> Option<Vec<u8>> {
        self.noted(name, inside::read(self.run, name, most))
    }

    fn noted<T>(&mut self, name: &str, read: io::Result<T>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
            Err(error) => {
                self.notes.push(format!("{name} is left out: {error}"));
                None
            }
        }
    }
}
