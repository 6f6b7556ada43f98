//! Weights in training: the optimiser's step on a model's tensors.

use std::borrow::Cow;

use convnext_core::{
    dfdx::tensor::{Cpu, Gradients},
    nn::{Error, Flat},
    optim::{self, GroupError, Layout, NonFinite, Optimizer},
    plan::Plan,
};

use super::{State, parameters};
use crate::settings::Run;

/// What steps need beside the model and its gradients.
#[derive(Debug)]
pub(super) struct Learner {
    layout: Layout,
    optimizer: Optimizer,
    clip: Option<f64>,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// The parameters moved; the norm is the gradient's, before clipping.
    Updated {
        /// Euclidean norm over all parameters.
        norm: f64,
    },
    /// A gradient was not finite; nothing moved.
    NonFinite(Option<NonFinite>),
    /// The update would have left a number that is not finite in this tensor, its moments or its average; nothing moved.
    Overflow(String),
}

impl Learner {
    /// For a model as it is now.
    ///
    /// # Errors
    /// [`GroupError`] when the plan is that of another model.
    pub(super) fn new<M: Flat + ?Sized>(model: &M, plan: &Plan, run: &Run) -> Result<Self, GroupError> {
        let layout = model.layout();
        let rules = optim::rules(&layout, plan, run.layer_decay)?;
        let optimizer = Optimizer::new(run.adamw, rules, run.ema, &parameters(model));
        Ok(Self { layout, optimizer, clip: run.clip })
    }

    /// Takes the accumulated `gradients` of `batches` batches, which are zero afterwards, and makes one step with them.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn update<M: Flat + ?Sized>(
        &mut self,
        model: &mut M,
        gradients: &mut Gradients<f32, Cpu>,
        batches: usize,
        lr: f64,
    ) -> Result<Outcome, Error> {
        let gradients = model.take_gradients(gradients)?;
        let mean = 1.0 / batches as f32;
        let sum = optim::global_norm(&gradients);
        let norm = sum * f64::from(mean);
        if !norm.is_finite() {
            return Ok(Outcome::NonFinite(optim::first_non_finite(&self.layout, &gradients)));
        }
        let scale = mean * self.clip.map_or(1.0, |clip| optim::clip_scale(norm, clip));
        let before = model.reader();
        let read = |tensor: usize, into: &mut [f32]| before.read(tensor, into);
        if let Some(tensor) = self.optimizer.overflow(&gradients, read, sum, lr, scale) {
            return Ok(Outcome::Overflow(self.layout.segments()[tensor].name.clone()));
        }
        let after = self.optimizer.step_tensors(gradients, read, lr, scale);
        model.replace(after)?;
        Ok(Outcome::Updated { norm })
    }

    /// Puts back a state, into the model too.
    pub(super) fn restore<M: Flat + ?Sized>(&mut self, model: &mut M, state: State<'static>) {
        let State { parameters, m, v, average, updates } = state;
        self.optimizer.restore(m.into_owned(), v.into_owned(), average.map(Cow::into_owned), updates);
        model.write(&parameters);
    }

    /// Which range of a flat buffer is which tensor.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The optimiser: its moments, its average of the parameters.
    pub(super) fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }
}
