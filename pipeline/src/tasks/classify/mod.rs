//! Classification: a label for each image.

pub mod metrics;
mod mix;
pub(crate) mod tally;

pub use mix::{ImageSize, Mix, Mixing};

use crate::records::MetricKind;

/// What a classifier is measured by; the first decides which checkpoint is the best.
pub const METRICS: [MetricKind; 3] = [metrics::TOP1, metrics::TOP5, metrics::LOSS];
