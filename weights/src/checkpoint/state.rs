//! Where a run stands: `state.json` of a checkpoint.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{error::CheckpointError, files::read_json, manifest::STATE, metric};

/// Where a run stands, beside its tensors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Optimiser steps taken, skipped ones included: what the schedule goes by.
    pub step: u64,
    /// Updates made: what Adam's bias correction goes by.
    pub updates: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Samples consumed since the start of the run: the next one to read.
    pub position: u64,
    /// Seed of every random decision.
    pub seed: u64,
    /// The variant's name.
    pub model: String,
    /// SHA-256 of the resolved recipe, in hexadecimal.
    pub recipe: String,
    /// Validation metric (accuracy or loss) at this step, if it was measured: by [`Store::record_metric`](super::Store::record_metric), or before the
    /// checkpoint was written. Finite.
    pub metric: Option<f64>,
    /// Running sums that the run wants back, e.g. the loss so far in this epoch. Finite numbers only.
    pub counters: BTreeMap<String, f64>,
}

impl RunState {
    /// No training comes near this: sums and products of what is below it do not wrap.
    const MOST: u64 = 1 << 48;

    fn checked(self) -> Result<Self, String> {
        let counts =
            [("step", self.step), ("updates", self.updates), ("epoch", self.epoch), ("position", self.position)];
        match counts.into_iter().find(|&(_, count)| count > Self::MOST) {
            Some((name, count)) => Err(format!("{name} {count} is more than any training's")),
            None => Ok(self),
        }
    }

    /// What the checkpoint `directory` says of its run.
    pub(super) fn read(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(STATE);
        let text = read_json(&path)?;
        let state = serde_json::from_slice(&text).map_err(|error| error.to_string()).and_then(Self::checked);
        let mut state = state.map_err(|reason| CheckpointError::State { path, reason })?;
        let measured = metric::read(directory).map(|measured| measured.metric);
        state.metric = measured.or(state.metric).filter(|metric| metric.is_finite());
        Ok(state)
    }
}
