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
mod output;
mod page;
mod run;
mod run_section;
mod training;

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::records::RecordError;
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
    let runs = runs.iter().map(|path| Run::read(path.as_ref())).collect::<Result<Vec<_>, _>>()?;
    output::write(output, &render(&runs)?)
}

/// The page about `runs`, as HTML.
///
/// # Errors
/// There are no runs, or a chart cannot be drawn.
pub fn render(runs: &[Run]) -> Result<String, ReportError> {
    if runs.is_empty() {
        return Err(ReportError::NoRuns);
    }
    Ok(page::page(runs)?.into_string())
}

#[cfg(test)]
mod tests;
