//! The validation metric of a checkpoint, in a file of its own.
//!
//! A checkpoint is written before it is measured, so that a signal during the measurement costs nothing, and what its
//! manifest lists never changes. The metric is added by one rename. A file that cannot be read is a measurement that is to
//! be made again, and no reason to refuse the weights.

use std::{io::Write, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    error::CheckpointError,
    files::{at, read_json},
};

const METRIC: &str = "metric.json";
const UNFINISHED: &str = ".tmp-metric.json";

/// What may be in a checkpoint beside the files of its manifest.
pub(super) const FILES: [&str; 2] = [METRIC, UNFINISHED];

/// Whether a lower or a higher metric is better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A loss.
    Lower,
    /// An accuracy.
    #[default]
    Higher,
}

impl Better {
    /// Whether files need not say so.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `a` is better than `b` by more than `delta`.
    pub fn is_better_by(self, a: f64, b: f64, delta: f64) -> bool {
        match self {
            Self::Lower => self.is_better(a + delta, b),
            Self::Higher => self.is_better(a - delta, b),
        }
    }

    /// Whether `a` is better than `b`. What is not finite is better than nothing, and every finite number better than it.
    pub fn is_better(self, a: f64, b: f64) -> bool {
        match self {
            _ if !a.is_finite() || !b.is_finite() => a.is_finite() && !b.is_finite(),
            Self::Lower => a < b,
            Self::Higher => a > b,
        }
    }
}

/// A metric, and whether more or less of it is better: more, unless the file says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) metric: f64,
    #[serde(default, skip_serializing_if = "Better::is_default")]
    pub(super) better: Better,
}

impl Measured {
    /// A number that is the higher the better the metric.
    pub(super) fn merit(&self) -> f64 {
        match self.better {
            Better::Higher => self.metric,
            Better::Lower => -self.metric,
        }
    }
}

/// What the checkpoint `directory` was measured to be.
pub(super) fn read(directory: &Path) -> Option<Measured> {
    let text = read_json(&directory.join(METRIC)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Adds the metric, or replaces it; one that is not finite is not written.
pub(super) fn write(directory: &Path, measured: Measured) -> Result<(), CheckpointError> {
    if !measured.metric.is_finite() {
        return Ok(());
    }
    let path = directory.join(METRIC);
    let json = serde_json::to_vec_pretty(&measured).expect("a number is JSON");
    convnext_files::replace(&path, |file| file.write_all(&json)).map_err(at("write", &path))
}
