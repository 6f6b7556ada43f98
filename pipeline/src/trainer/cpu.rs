//! Training on the CPU: a model's operations and the optimiser, on flat buffers.

use std::collections::VecDeque;

use convnext_core::{
    nn::Flat,
    optim::{GroupError, Layout},
    plan::Plan,
    simd::Precision,
};

use super::{
    Inference, ModelError, Objective, Outcome, State, Trainer,
    error::describe,
    learner::{self, Learner},
};
use crate::{records::Weights, settings::Run, stream::Batch};

/// Trains on the CPU. A step is made when its last batch is submitted.
pub struct CpuTrainer<O: Objective> {
    objective: O,
    model: O::Model,
    learner: Learner,
    accumulation: usize,
    /// Losses of the batches of the step under way.
    losses: f64,
    batches: usize,
    made: VecDeque<Outcome>,
}

impl<O: Objective> CpuTrainer<O> {
    /// For a model as it is now, whose products have this precision.
    ///
    /// # Errors
    /// [`GroupError`] when the plan is that of another model.
    pub fn new(
        objective: O,
        module: &O::Module,
        precision: Precision,
        plan: &Plan,
        run: &Run,
    ) -> Result<Self, GroupError> {
        let (model, learner) = (O::model(module, precision), Learner::new(module, plan, run)?);
        let (made, accumulation) = (VecDeque::new(), run.accumulation);
        Ok(Self { objective, model, learner, accumulation, losses: 0.0, batches: 0, made })
    }

    /// Adds the gradients of a batch, and returns its mean loss.
    fn add(&mut self, batch: &mut Batch) -> Result<f32, ModelError> {
        let targets = self.objective.targets(batch)?;
        let (weights, gradients) = self.learner.buffers();
        Ok(self.objective.step(&mut self.model, weights, batch, targets, gradients))
    }

    /// Makes the step, unless something is not finite.
    fn update(&mut self, loss: f64, lr: f64) -> Outcome {
        if !loss.is_finite() {
            self.learner.drop_gradients();
            return Outcome::NonFinite { loss, what: format!("the loss is {loss}") };
        }
        match self.learner.update(self.accumulation, lr) {
            learner::Outcome::Updated { norm } => Outcome::Updated { loss, norm },
            learner::Outcome::NonFinite(fault) => Outcome::NonFinite { loss, what: describe(fault) },
            learner::Outcome::Overflow(name) => Outcome::NonFinite {
                loss,
                what: format!("the update of `{name}` overflows at the learning rate {lr:e}"),
            },
        }
    }
}

/// The loss of a batch, and the gradients of all parameters in the order of the model's layout: a step without its update,
/// in f32.
///
/// # Errors
/// Targets that make no sense.
pub fn gradients<O: Objective>(
    objective: &O,
    module: &O::Module,
    batch: &mut Batch,
) -> Result<(f32, Vec<f32>), ModelError> {
    let targets = objective.targets(batch)?;
    let (mut model, weights) = (O::model(module, Precision::F32), module.values());
    let mut gradients = vec![0.0; weights.len()];
    let loss = objective.step(&mut model, &weights, batch, targets, &mut gradients);
    Ok((loss, gradients))
}

/// A model that is lent for a measurement.
pub(super) struct Lent<'a, O: Objective> {
    objective: &'a O,
    model: O::Frozen<'a>,
}

impl<'a, O: Objective> Lent<'a, O> {
    pub(super) fn new(objective: &'a O, model: &'a O::Model, weights: &'a [f32]) -> Self {
        Self { objective, model: objective.freeze(model, weights) }
    }
}

impl<O: Objective> Inference for Lent<'_, O> {
    fn outputs(&mut self, batch: &mut Batch) -> Result<Vec<f32>, ModelError> {
        self.objective.outputs(&self.model, batch)
    }
}

impl<O: Objective> Trainer for CpuTrainer<O> {
    fn layout(&self) -> &Layout {
        self.learner.layout()
    }

    fn submit(&mut self, batch: &mut Batch, lr: f64) -> Result<(), ModelError> {
        self.losses += f64::from(self.add(batch)?);
        self.batches += 1;
        if self.batches == self.accumulation {
            let loss = self.losses / self.accumulation as f64;
            (self.batches, self.losses) = (0, 0.0);
            let made = self.update(loss, lr);
            self.made.push_back(made);
        }
        Ok(())
    }

    fn collect(&mut self, in_flight: usize) -> Result<Option<Outcome>, ModelError> {
        Ok(if self.made.len() > in_flight { self.made.pop_front() } else { None })
    }

    fn lag(&self) -> usize {
        0
    }

    fn state(&mut self) -> Result<State<'_>, ModelError> {
        let optimizer = self.learner.optimizer();
        Ok(State {
            parameters: self.learner.parameters().into(),
            m: optimizer.m().into(),
            v: optimizer.v().into(),
            average: optimizer.ema().map(Into::into),
            updates: optimizer.updates(),
        })
    }

    fn restore(&mut self, state: State<'static>) -> Result<(), ModelError> {
        self.made.clear();
        self.learner.restore(state);
        Ok(())
    }

    fn averages(&self) -> bool {
        self.learner.optimizer().ema().is_some()
    }

    fn measure(
        &mut self,
        weights: Weights,
        measurement: &mut dyn FnMut(&mut dyn Inference) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let Self { objective, model, learner, .. } = self;
        let weights = match weights {
            Weights::Ema => learner.optimizer().ema().ok_or(ModelError::NoAverage)?,
            Weights::Model => learner.parameters(),
        };
        measurement(&mut Lent::new(objective, model, weights))
    }
}
