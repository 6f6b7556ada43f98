//! One self-contained HTML page about one or several runs: no script, and nothing fetched from anywhere.
//!
//! `run` reads a run directory by way of `files`, `curves` draws, `training`, `confusion` and `run_section` are parts of the page and
//! `page` puts them together. A missing part is replaced by a line that says how to get it. Every string goes through
//! `maud`, which escapes it.

mod confusion;
mod curves;
mod embed;
mod files;
mod format;
mod glance;
mod output;
mod page;
mod run;
mod run_section;
mod table;
mod training;

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::records::RecordError;
pub use glance::{Glance, Measured};
pub use run::Run;

/// Why a report could not be written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// Not one run directory was given.
    #[error("no run to report on; give at least one run directory")]
    NoRuns,
    /// A directory holds none of the files of a run.
    #[error(
        "{}: not a run directory; it has no run.json, metrics.jsonl, evaluation.json or pictures that can be read. \
         Give the directory that was --out of a run{}{notes}",
        path.display(),
        if notes.is_empty() { "" } else { ". " }
    )]
    NotARun {
        /// Which directory.
        path: PathBuf,
        /// What is there and could not be read; may be empty.
        notes: String,
    },
    /// A file of a run could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A chart could not be drawn.
    #[error("chart `{chart}` could not be drawn: {reason}")]
    Draw {
        /// Title of the chart.
        chart: &'static str,
        /// What the drawing library said.
        reason: String,
    },
    /// The page could not be written.
    #[error("{}: could not be written: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The page's place cannot be a file.
    #[error("{}: {why}", path.display())]
    Place {
        /// Which file.
        path: PathBuf,
        /// Why not, and what to do.
        why: &'static str,
    },
}

/// Writes one page about `runs`, which are run directories, to the file `output`.
///
/// Runs of the same kind share their charts; the order of the page is that of `runs`. An earlier page is replaced, any
/// other file is not.
///
/// # Errors
/// There are no runs, a directory is not a run's, one of its files cannot be parsed, or `output` cannot be written.
pub fn write(runs: &[impl AsRef<Path>], output: &Path) -> Result<(), ReportError> {
    write_refreshing(&read(runs)?, output, None)
}

/// As [`write()`], for runs that have been read; with `every` the page loads itself anew after so many seconds.
///
/// # Errors
/// As [`write()`].
pub fn write_refreshing(runs: &[Run], output: &Path, every: Option<u64>) -> Result<(), ReportError> {
    output::write(output, &page::page(runs, every)?.into_string(), "<!DOCTYPE html>")
}

/// Writes the numbers of `runs` to the file `output`, as comma-separated values: a row for each record of training and of
/// measurement, columns called as TensorBoard's tags are. An earlier table is replaced, any other file is not.
///
/// # Errors
/// As [`write()`].
pub fn write_table(runs: &[impl AsRef<Path>], output: &Path) -> Result<(), ReportError> {
    let table = table::table(&read(runs)?)
        .map_err(|error| ReportError::Write { path: output.to_owned(), source: io::Error::other(error) })?;
    output::write(output, &table, table::BEGINNING)
}

/// Reads run directories; those of one name are told apart by more of their paths.
///
/// # Errors
/// There are none, a directory is not a run's, or one of its files cannot be parsed.
pub fn read(runs: &[impl AsRef<Path>]) -> Result<Vec<Run>, ReportError> {
    match runs {
        [] => Err(ReportError::NoRuns),
        paths => {
            let runs = paths.iter().map(|path| Run::read(path.as_ref())).collect::<Result<Vec<_>, _>>()?;
            Ok(run::tell_apart(runs))
        }
    }
}

/// The page about `runs`, as HTML.
///
/// # Errors
/// There are no runs, or a chart cannot be drawn.
pub fn render(runs: &[Run]) -> Result<String, ReportError> {
    if runs.is_empty() {
        return Err(ReportError::NoRuns);
    }
    Ok(page::page(runs, None)?.into_string())
}

#[cfg(test)]
mod tests;
