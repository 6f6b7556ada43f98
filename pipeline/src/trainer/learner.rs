//! Weights in training: parameters, gradients and the optimiser's state on flat buffers, and the step that moves them.

use convnext_core::{
    nn::Flat,
    optim::{self, GroupError, Layout, NonFinite, Optimizer},
    plan::Plan,
};

use super::state::State;
use crate::settings::Run;

/// The parameters of a model in training, and what steps need beside its gradients.
#[derive(Debug)]
pub(super) struct Learner {
    layout: Layout,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
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
    /// Starts from the parameters that a model has now.
    ///
    /// # Errors
    /// [`GroupError`] when the plan is that of another model.
    pub(super) fn new(model: &(impl Flat + ?Sized), plan: &Plan, run: &Run) -> Result<Self, GroupError> {
        let (layout, parameters) = (model.layout(), model.values());
        let rules = optim::rules(&layout, plan, run.layer_decay)?;
        let optimizer = Optimizer::new(run.adamw, rules, run.ema, &parameters);
        let gradients = vec![0.0; parameters.len()];
        Ok(Self { layout, parameters, gradients, optimizer, clip: run.clip })
    }

    /// The parameters, and the gradients to which a pass adds its own.
    pub(super) fn buffers(&mut self) -> (&[f32], &mut [f32]) {
        (&self.parameters, &mut self.gradients)
    }

    /// Makes one step with the gradients of `batches` batches, which are zero afterwards.
    pub(super) fn update(&mut self, batches: usize, lr: f64) -> Outcome {
        let outcome = self.step(batches, lr);
        self.drop_gradients();
        outcome
    }

    fn step(&mut self, batches: usize, lr: f64) -> Outcome {
        let Self { layout, parameters, gradients, optimizer, clip } = self;
        let tensors: Vec<_> = layout.segments().iter().map(|segment| &gradients[segment.range.clone()]).collect();
        let mean = 1.0 / batches as f32;
        let sum = optim::global_norm(&tensors);
        let norm = sum * f64::from(mean);
        if !norm.is_finite() {
            return Outcome::NonFinite(optim::first_non_finite(layout, &tensors));
        }
        let scale = mean * clip.map_or(1.0, |clip| optim::clip_scale(norm, clip));
        if let Some(tensor) = optimizer.overflow(parameters, gradients, sum, lr, scale) {
            return Outcome::Overflow(layout.segments()[tensor].name.clone());
        }
        optimizer.step(parameters, gradients, lr, scale);
        Outcome::Updated { norm }
    }

    /// Sets the gradients to zero.
    pub(super) fn drop_gradients(&mut self) {
        optim::clear(&mut self.gradients);
    }

    /// Puts back a state.
    ///
    /// # Panics
    /// If it is that of another model.
    pub(super) fn restore(&mut self, state: State<'static>) {
        let State { parameters, m, v, average, updates } = state;
        self.parameters.copy_from_slice(&parameters);
        self.optimizer.restore(m.into_owned(), v.into_owned(), average.map(|average| average.into_owned()), updates);
    }

    /// Which range of a flat buffer is which tensor.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The parameters, as one flat buffer.
    pub(super) fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The optimiser: its moments, its average of the parameters.
    pub(super) fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }
}
