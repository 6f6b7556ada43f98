//! Training on the processor: a typed model on dfdx's tape, and the optimiser on its tensors.

use std::collections::VecDeque;

use convnext_core::{
    dfdx::tensor::{Cpu, Gradients},
    nn::{AutoencoderModule, ClassifierModule, Flat},
    optim::{GroupError, Layout},
    plan::Plan,
};

use super::{
    Aim, Classifier, Outcome, State, Trainer,
    classifier::{OnCpu, pass},
};
use crate::{
    ImageSize,
    learner::{self, Learner},
    recipe::Run,
    records::Weights,
    runs::{RunError, describe},
    stream::Batch,
};

/// Trains on the processor. A step is made when its last batch is submitted.
pub struct CpuTrainer {
    model: Model,
    device: Cpu,
    /// Images of one pass that measures.
    pass: usize,
    size: ImageSize,
    learner: Learner,
    accumulation: usize,
    /// Gradients and losses of the batches of the step under way.
    gradients: Gradients<f32, Cpu>,
    losses: f64,
    batches: usize,
    made: VecDeque<Outcome>,
}

/// What is trained.
pub enum Model {
    /// A classifier.
    Classifier(Box<dyn ClassifierModule>),
    /// A masked autoencoder.
    Autoencoder(Box<dyn AutoencoderModule>),
}

impl Model {
    fn flat(&mut self) -> &mut dyn Flat {
        match self {
            Self::Classifier(model) => &mut **model,
            Self::Autoencoder(model) => &mut **model,
        }
    }
}

impl CpuTrainer {
    /// For a model as it is now.
    ///
    /// # Errors
    /// [`GroupError`] when the plan is that of another model.
    pub fn new(mut model: Model, device: Cpu, plan: &Plan, run: &Run) -> Result<Self, GroupError> {
        let learner = Learner::new(model.flat(), plan, run)?;
        let size = ImageSize { height: plan.height, width: plan.width, channels: plan.channels };
        let (gradients, made) = (Gradients::leaky(), VecDeque::new());
        let accumulation = run.accumulation;
        let pass = pass(plan);
        Ok(Self { model, device, pass, size, learner, accumulation, gradients, losses: 0.0, batches: 0, made })
    }

    /// Adds the gradients of a batch, and returns its mean loss.
    fn add(&mut self, batch: &mut Batch, aim: Aim) -> Result<f32, RunError> {
        let (device, samples) = (&self.device, batch.samples);
        let gradients = std::mem::replace(&mut self.gradients, Gradients::leaky());
        let (loss, added) = match (&mut self.model, aim) {
            (Model::Autoencoder(model), Aim::Masked(visible)) => {
                model.step(device, &batch.images, &visible, gradients)?
            }
            (Model::Classifier(model), Aim::Labelled { targets, mixing, drop_path_keys }) => {
                mixing.apply(&mut batch.images, samples, self.size);
                model.set_drop_path_keys(&drop_path_keys);
                model.step(device, &batch.images, targets, samples, gradients)?
            }
            _ => unreachable!("a task's batches fit its model"),
        };
        self.gradients = added;
        Ok(loss)
    }

    /// Makes the step, unless something is not finite.
    fn update(&mut self, loss: f64, lr: f64) -> Result<Outcome, RunError> {
        if !loss.is_finite() {
            self.gradients = Gradients::leaky();
            return Ok(Outcome::NonFinite { loss, what: format!("the loss is {loss}") });
        }
        let updated = self.learner.update(self.model.flat(), &mut self.gradients, self.accumulation, lr)?;
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

impl Trainer for CpuTrainer {
    fn layout(&self) -> &Layout {
        self.learner.layout()
    }

    fn submit(&mut self, batch: &mut Batch, aim: Aim, lr: f64) -> Result<(), RunError> {
        self.losses += f64::from(self.add(batch, aim)?);
        self.batches += 1;
        if self.batches == self.accumulation {
            let loss = self.losses / self.accumulation as f64;
            (self.batches, self.losses) = (0, 0.0);
            let made = self.update(loss, lr)?;
            self.made.push_back(made);
        }
        Ok(())
    }

    fn collect(&mut self, in_flight: usize) -> Result<Option<Outcome>, RunError> {
        Ok(if self.made.len() > in_flight { self.made.pop_front() } else { None })
    }

    fn lag(&self) -> usize {
        0
    }

    fn state(&mut self) -> Result<State<'_>, RunError> {
        let optimizer = self.learner.optimizer();
        Ok(State {
            parameters: self.learner.parameters(self.model.flat()).into(),
            m: optimizer.m().into(),
            v: optimizer.v().into(),
            average: optimizer.ema().map(Into::into),
            updates: optimizer.updates(),
        })
    }

    fn restore(&mut self, state: State<'static>) -> Result<(), RunError> {
        self.made.clear();
        self.learner.restore(self.model.flat(), state);
        Ok(())
    }

    fn averages(&self) -> bool {
        self.learner.optimizer().ema().is_some()
    }

    fn measure(
        &mut self,
        weights: Weights,
        measurement: &mut dyn FnMut(&mut dyn Classifier) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let Self { model: Model::Classifier(model), device, pass, learner, .. } = self else {
            unreachable!("an autoencoder has no logits")
        };
        if weights != Weights::Ema {
            return measurement(&mut OnCpu { model: &**model, device, pass: *pass });
        }
        let parameters = learner.parameters(&**model);
        model.write(learner.optimizer().ema().expect("the caller knows that there is an average"));
        let measured = measurement(&mut OnCpu { model: &**model, device, pass: *pass });
        model.write(&parameters);
        measured
    }
}
