//! The validation metric of a checkpoint, in a file of its own.
//!
//! A checkpoint is written before it is measured, so that a signal during the measurement costs nothing, and what its
//! manifest lists never changes. The metric is added by one rename. A file that cannot be read is a measurement that is to
//! be made again, and no reason to refuse the weights.

use std::{fs, io::Write, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    error::CheckpointError,
    files::{at, create_own, read_json, sync_directory},
};

const METRIC: &str = "metric.json";
const UNFINISHED: &str = ".tmp-metric.json";

/// What may be in a checkpoint beside the files of its manifest.
pub(super) const FILES: [&str; 2] = [METRIC, UNFINISHED];

#[derive(Serialize, Deserialize)]
struct Measured {
    metric: f64,
}

/// What the checkpoint `directory` was measured to be.
pub(super) fn read(directory: &Path) -> Option<f64> {
    let text = read_json(&directory.join(METRIC)).ok()?;
    let measured: Measured = serde_json::from_slice(&text).ok()?;
    Some(measured.metric)
}

/// Adds the metric, or replaces it; one that is not finite is not written.
pub(super) fn write(directory: &Path, metric: f64) -> Result<(), CheckpointError> {
    if !metric.is_finite() {
        return Ok(());
    }
    let (path, unfinished) = (directory.join(METRIC), directory.join(UNFINISHED));
    let json = serde_json::to_vec_pretty(&Measured { metric }).expect("a number is JSON");
    let write = || {
        let mut file = create_own(&unfinished)?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    if let Err(error) = write() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&unfinished);
        return Err(at("write", &path)(error));
    }
    sync_directory(directory)
}
