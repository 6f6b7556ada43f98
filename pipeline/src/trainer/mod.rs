//! What trains a model: the CPU, or a GPU. The training loop knows no more of them than [`Trainer`], and they know no
//! more of what is trained than [`Objective`].

mod cpu;
mod cuda;
mod error;
mod learner;
mod state;

use convnext_core::{nn::Flat, optim::Layout, plan::Plan, simd};
use convnext_cuda::{
    detect,
    predictor::Predictor,
    trainer::BatchTargets,
    training::{Options, TrainingStep},
};

pub use cpu::{CpuTrainer, gradients};
pub use cuda::{CudaTrainer, element};
pub use error::ModelError;
pub use state::State;

use crate::{
    device::Device,
    records::Weights,
    settings::{Data, Precision, Run},
    stream::Batch,
};

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

/// What trains a model.
pub trait Trainer {
    /// Which range of a flat buffer is which tensor.
    fn layout(&self) -> &Layout;

    /// Takes a batch; with the last batch of a step makes the step, at the learning rate `lr`. May return before it is made.
    ///
    /// What the batch holds is of no use afterwards.
    ///
    /// # Errors
    /// [`ModelError`] when memory runs out, or the device refuses.
    fn submit(&mut self, batch: &mut Batch, lr: f64) -> Result<(), ModelError>;

    /// What the oldest step did that has not been asked for, if more than `in_flight` have not; waits until it is made.
    ///
    /// # Errors
    /// [`ModelError`] when the device refuses.
    fn collect(&mut self, in_flight: usize) -> Result<Option<Outcome>, ModelError>;

    /// Steps that may be in flight while the next is submitted, so that the device never waits for the loop; 0 where a step
    /// is made when it is submitted.
    fn lag(&self) -> usize;

    /// Parameters and the optimiser's state after all steps so far.
    ///
    /// # Errors
    /// [`ModelError`] when the device refuses.
    fn state(&mut self) -> Result<State<'_>, ModelError>;

    /// Puts back a state, and forgets the steps that have not been asked for.
    ///
    /// # Errors
    /// [`ModelError`] when the device refuses.
    fn restore(&mut self, state: State<'static>) -> Result<(), ModelError>;

    /// Whether a moving average of the parameters is kept.
    fn averages(&self) -> bool;

    /// Lends the model with these weights after all steps so far.
    ///
    /// # Errors
    /// [`ModelError`] of the measurement, or when the device refuses; [`ModelError::Unmeasured`] if the trainer was made
    /// without a pass that measures; [`ModelError::NoAverage`].
    fn measure(
        &mut self,
        weights: Weights,
        measurement: &mut dyn FnMut(&mut dyn Inference) -> Result<(), ModelError>,
    ) -> Result<(), ModelError>;
}

/// A model that is measured or asked.
pub trait Inference {
    /// What it makes of the images of a batch, which are of no use afterwards: logits `[N, CLASSES]` of a classifier,
    /// predictions `[N, L, P * P * C]` of a masked autoencoder.
    ///
    /// # Errors
    /// [`ModelError`] when memory runs out, the device refuses, or a signal comes.
    fn outputs(&mut self, batch: &mut Batch) -> Result<Vec<f32>, ModelError>;
}

/// What a model learns: the part of a task that differs from step to step, the same for every device.
pub trait Objective {
    /// The typed model.
    type Module: Flat + ?Sized;

    /// Its operations on plain buffers, which the CPU runs.
    type Model;

    /// The same with weights that stay as they are, to be measured.
    type Frozen<'a>;

    /// What a batch is trained towards.
    type Targets;

    /// The task, for messages.
    fn task(&self) -> &'static str;

    /// What a batch is trained towards.
    ///
    /// # Errors
    /// Targets that make no sense.
    fn targets(&self, batch: &Batch) -> Result<Self::Targets, ModelError>;

    /// The operations of a model, with its settings as they are now, and products of this precision.
    fn model(module: &Self::Module, precision: simd::Precision) -> Self::Model;

    /// Adds the gradients of a batch on the CPU, and returns its mean loss. `weights` and `gradients` are in the order of the
    /// model's layout. The images of the batch may be changed.
    fn step(
        &self,
        model: &mut Self::Model,
        weights: &[f32],
        batch: &mut Batch,
        targets: Self::Targets,
        gradients: &mut [f32],
    ) -> f32;

    /// The model with these weights, on the CPU.
    fn freeze<'a>(&self, model: &'a Self::Model, weights: &'a [f32]) -> Self::Frozen<'a>;

    /// See [`Inference::outputs`], on the CPU.
    ///
    /// # Errors
    /// As there.
    fn outputs(&self, model: &Self::Frozen<'_>, batch: &mut Batch) -> Result<Vec<f32>, ModelError>;

    /// A step of `batches` batches on a GPU.
    ///
    /// # Errors
    /// A batch that is too large; [`ModelError::CpuOnly`] unless there is one.
    fn schedule(&self, options: &Options, batches: usize) -> Result<TrainingStep, ModelError> {
        let _ = (options, batches);
        Err(ModelError::CpuOnly(self.task()))
    }

    /// The targets of a batch as a GPU takes them, and how it mixes the images of the batch.
    ///
    /// # Errors
    /// [`ModelError::CpuOnly`] for a task without a [`schedule`](Self::schedule).
    fn on_device<'a>(&self, targets: &'a Self::Targets) -> Result<(BatchTargets<'a>, [f32; 5]), ModelError> {
        let _ = targets;
        Err(ModelError::CpuOnly(self.task()))
    }

    /// Drop-path rate of the last block.
    fn drop_path(&self) -> f32 {
        0.0
    }

    /// What measures the model on a GPU, in passes of `samples` images; `None` for a task that is not measured.
    ///
    /// # Errors
    /// When the device refuses.
    fn predictor(&self, pass: &Pass<'_>) -> Result<Option<Predictor>, ModelError> {
        let _ = pass;
        Ok(None)
    }
}

/// A pass over images on a GPU.
pub struct Pass<'a> {
    /// The GPU.
    pub device: &'a detect::Device,
    /// The model's parameters.
    pub layout: &'a Layout,
    /// Images of it.
    pub samples: usize,
    /// In which precision products are computed.
    pub precision: Precision,
}

/// Where and how a model is trained.
#[derive(Debug, Clone, Copy)]
pub struct Workplace<'a> {
    /// Where.
    pub device: &'a Device,
    /// The variant.
    pub plan: &'a Plan,
    /// The optimiser and the batches.
    pub run: &'a Run,
    /// In which precision products are computed.
    pub precision: Precision,
    /// How pixels are normalised.
    pub data: &'a Data,
    /// Images of one pass when it is measured, if it is measured on the way.
    pub measured: Option<usize>,
}

/// A trainer of `model`, as it is now, towards `objective`.
///
/// # Errors
/// [`ModelError`]: a batch that is too large, or what the device refuses.
pub fn trainer<O: Objective + 'static>(
    objective: O,
    model: &O::Module,
    place: &Workplace<'_>,
) -> Result<Box<dyn Trainer>, ModelError> {
    Ok(match place.device {
        Device::Cpu => Box::new(CpuTrainer::new(objective, model, products(place.precision), place.plan, place.run)?),
        Device::Cuda(device) => Box::new(CudaTrainer::new(objective, device, model, place)?),
    })
}

/// The precision of products on a CPU.
pub fn products(precision: Precision) -> simd::Precision {
    match precision {
        Precision::F32 | Precision::Tf32 => simd::Precision::F32,
        Precision::Bf16 => simd::Precision::Bf16,
    }
}

/// Images of a pass that takes a fraction of a second on a slow core.
pub(crate) fn pass(plan: &Plan) -> usize {
    /// Of one pass.
    const MULTIPLY_ADDS: u64 = 8 << 30;
    (MULTIPLY_ADDS / plan.classifier().multiply_adds().max(1)).clamp(1, 1 << 16) as usize
}
