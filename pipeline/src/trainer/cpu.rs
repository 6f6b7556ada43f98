//! Training on the processor: a typed model on dfdx's tape, and the optimiser on its tensors.

use std::collections::VecDeque;

use convnext_core::{
    dfdx::tensor::{Cpu, Gradients},
    nn::Flat,
    optim::{GroupError, Layout},
    plan::Plan,
};

use super::{
    Inference, ModelError, Objective, Outcome, State, Trainer,
    error::describe,
    learner::{self, Learner},
    parameters,
};
use crate::{records::Weights, settings::Run, stream::Batch};

/// Trains on the processor. A step is made when its last batch is submitted.
pub struct CpuTrainer<O: Objective> {
    objective: O,
    model: Box<O::Model>,
    cpu: Cpu,
    learner: Learner,
    accumulation: usize,
    /// Gradients and losses of the batches of the step under way.
    gradients: Gradients<f32, Cpu>,
    losses: f64,
    batches: usize,
    made: VecDeque<Outcome>,
}

impl<O: Objective> CpuTrainer<O> {
    /// For a model as it is now.
    ///
    /// # Errors
    /// [`GroupError`] when the plan is that of another model.
    pub fn new(objective: O, model: Box<O::Model>, cpu: Cpu, plan: &Plan, run: &Run) -> Result<Self, GroupError> {
        let learner = Learner::new(&*model, plan, run)?;
        let (gradients, made, accumulation) = (Gradients::leaky(), VecDeque::new(), run.accumulation);
        Ok(Self { objective, model, cpu, learner, accumulation, gradients, losses: 0.0, batches: 0, made })
    }

    /// Adds the gradients of a batch, and returns its mean loss.
    fn add(&mut self, batch: &mut Batch) -> Result<f32, ModelError> {
        let targets = self.objective.targets(batch)?;
        let gradients = std::mem::replace(&mut self.gradients, Gradients::leaky());
        let (loss, added) = self.objective.step(&mut *self.model, &self.cpu, batch, targets, gradients)?;
        self.gradients = added;
        Ok(loss)
    }

    /// Makes the step, unless something is not finite.
    fn update(&mut self, loss: f64, lr: f64) -> Result<Outcome, ModelError> {
        if !loss.is_finite() {
            self.gradients = Gradients::leaky();
            return Ok(Outcome::NonFinite { loss, what: format!("the loss is {loss}") });
        }
        let updated = self.learner.update(&mut *self.model, &mut self.gradients, self.accumulation, lr)?;
        Ok(match updated {
            learner::Outcome::Updated { norm } => Outcome::Updated { loss, norm },
            learner::Outcome::NonFinite(fault) => Outcome::NonFinite { loss, what: describe(fault) },
            learner::Outcome::Overflow(name) => Outcome::NonFinite {
                loss,
                what: format!("the update of `{name}` overflows at the learning rate {lr:e}"),
            },
        })
    }
}

/// The loss of a batch, and the gradients of all parameters in the order of the model's layout: a step without its update.
///
/// # Errors
/// When memory runs out.
pub fn gradients<O: Objective>(
    objective: &O,
    model: &mut O::Model,
    batch: &mut Batch,
) -> Result<(f32, Vec<f32>), ModelError> {
    let targets = objective.targets(batch)?;
    let (loss, mut gradients) = objective.step(model, &Cpu::default(), batch, targets, Gradients::leaky())?;
    Ok((loss, model.take_gradients(&mut gradients)?.concat()))
}

/// A model that is lent for a measurement.
struct Lent<'a, O: Objective> {
    objective: &'a O,
    model: &'a O::Model,
    cpu: &'a Cpu,
}

impl<O: Objective> Inference for Lent<'_, O> {
    fn outputs(&mut self, batch: &mut Batch) -> Result<Vec<f32>, ModelError> {
        self.objective.outputs(self.model, self.cpu, batch)
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
            let made = self.update(loss, lr)?;
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
            parameters: parameters(&*self.model).into(),
            m: optimizer.m().into(),
            v: optimizer.v().into(),
            average: optimizer.ema().map(Into::into),
            updates: optimizer.updates(),
        })
    }

    fn restore(&mut self, state: State<'static>) -> Result<(), ModelError> {
        self.made.clear();
        self.learner.restore(&mut *self.model, state);
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
        let Self { objective, model, cpu, learner, .. } = self;
        if weights != Weights::Ema {
            return measurement(&mut Lent { objective, model: &**model, cpu });
        }
        let trained = parameters(&**model);
        model.write(learner.optimizer().ema().ok_or(ModelError::NoAverage)?);
        let measured = measurement(&mut Lent { objective, model: &**model, cpu });
        model.write(&trained);
        measured
    }
}
