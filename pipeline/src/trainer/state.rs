//! What a checkpoint keeps of a trainer.

use std::borrow::Cow;

use convnext_weights::checkpoint::{CheckpointError, Loaded};

/// Parameters and the optimiser's state, each in the layout of the model.
#[derive(Debug, Clone)]
pub struct State<'a> {
    /// The parameters.
    pub parameters: Cow<'a, [f32]>,
    /// First moments.
    pub m: Cow<'a, [f32]>,
    /// Second moments.
    pub v: Cow<'a, [f32]>,
    /// The moving average of the parameters, if one is kept.
    pub average: Option<Cow<'a, [f32]>>,
    /// Updates made.
    pub updates: u64,
}

impl State<'static> {
    /// What a checkpoint held; `averaged` says whether the run keeps a moving average.
    pub(crate) fn of(mut loaded: Loaded, averaged: bool) -> Result<Self, CheckpointError> {
        let (m, v) = loaded.take_moments()?;
        let average = averaged.then(|| loaded.take_ema()).transpose()?;
        let updates = loaded.state.updates;
        Ok(Self {
            parameters: loaded.weights.into(),
            m: m.into(),
            v: v.into(),
            average: average.map(Cow::from),
            updates,
        })
    }
}
