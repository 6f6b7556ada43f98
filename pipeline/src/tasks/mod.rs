//! What a model is trained for.

pub mod classify;

use crate::records::MetricKind;

/// Every metric that a task measures, each name once.
pub fn metrics() -> Vec<&'static MetricKind> {
    classify::METRICS.iter().collect()
}
