//! What a classifier is measured by.

use crate::records::{Better, MetricKind, Unit};

/// Share of images whose label has the highest logit.
pub const TOP1: MetricKind = MetricKind {
    name: "top1",
    title: "top-1",
    better: Better::Higher,
    unit: Unit::Share,
    curve: Some(("Top-1 on held-out data", "Share of images whose label is ranked first.")),
};

/// Share of images whose label is among the five highest logits.
pub const TOP5: MetricKind =
    MetricKind { name: "top5", title: "top-5", better: Better::Higher, unit: Unit::Share, curve: None };

/// Mean cross-entropy.
pub const LOSS: MetricKind = MetricKind {
    name: "loss",
    title: "loss",
    better: Better::Lower,
    unit: Unit::Number,
    curve: Some(("Loss on held-out data", "Cross-entropy.")),
};
