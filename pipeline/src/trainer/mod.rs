//! What trains a model: the processor, or a GPU. The training loop knows no more of them than this.

mod classifier;
mod cpu;
mod cuda;

use std::{borrow::Cow, sync::Arc};

use convnext_core::{optim::Layout, visibility::Visibility};
use convnext_weights::checkpoint::{CheckpointError, Loaded};

pub(crate) use classifier::pass;
pub use classifier::{AnyClassifier, Classifier};
pub use cpu::{CpuTrainer, Model};
pub use cuda::{CudaTrainer, Design, Kind};

use crate::{Mixing, records::Weights, runs::RunError, stream::Batch};

/// What a batch is trained for.
#[derive(Debug, Clone)]
pub enum Aim {
    /// To fill in the patches that a mask removes.
    Masked(Arc<Visibility>),
    /// To tell classes apart.
    Labelled {
        /// `[N, CLASSES]`, mixed.
        targets: Vec<f32>,
        /// How the images are mixed, which has not been done yet.
        mixing: Mixing,
        /// One random key a sample, which its drop paths follow from.
        drop_path_keys: Arc<[u64]>,
    },
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The parameters moved.
    Updated {
        /// Mean loss of its batches.
        loss: f64,
        /// Euclidean norm of the gradient over all parameters, before clipping.
        norm: f64,
    },
    /// The loss, a gradient or what the update would have left was not finite; nothing moved.
    NonFinite {
        /// Mean loss of its batches.
        loss: f64,
        /// What was not finite.
        what: String,
    },
}

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

/// What trains a model.
pub trait Trainer {
    /// Which range of a flat buffer is which tensor.
    fn layout(&self) -> &Layout;

    /// Takes a batch; with the last batch of a step makes the step, at the learning rate `lr`. May return before it is made.
    ///
    /// What the batch holds is of no use afterwards.
    ///
    /// # Errors
    /// [`RunError`] when memory runs out, or the device refuses.
    fn submit(&mut self, batch: &mut Batch, aim: Aim, lr: f64) -> Result<(), RunError>;

    /// What the oldest step did that has not been asked for, if more than `in_flight` have not; waits until it is made.
    ///
    /// # Errors
    /// [`RunError`] when the device refuses.
    fn collect(&mut self, in_flight: usize) -> Result<Option<Outcome>, RunError>;

    /// Steps that may be in flight while the next is submitted, so that nobody waits for nothing; 0 where a step is made
    /// when it is submitted.
    fn lag(&self) -> usize;

    /// Parameters and the optimiser's state after all steps so far.
    ///
    /// # Errors
    /// [`RunError`] when the device refuses.
    fn state(&mut self) -> Result<State<'_>, RunError>;

    /// Puts back a state, and forgets the steps that have not been asked for.
    ///
    /// # Errors
    /// [`RunError`] when the device refuses.
    fn restore(&mut self, state: State<'static>) -> Result<(), RunError>;

    /// Whether a moving average of the parameters is kept.
    fn averages(&self) -> bool;

    /// Lends a classifier with these weights after all steps so far.
    ///
    /// # Errors
    /// [`RunError`] of the measurement, or when the device refuses.
    ///
    /// # Panics
    /// If what is trained is no classifier, or there is no average of its weights.
    fn measure(
        &mut self,
        weights: Weights,
        measurement: &mut dyn FnMut(&mut dyn Classifier) -> Result<(), RunError>,
    ) -> Result<(), RunError>;
}
