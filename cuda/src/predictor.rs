//! A classifier's forward pass on a device.

use bytemuck::cast_slice;
use convnext_core::{
    launch::{element::Element, operation::BatchShape, schedule::ScheduleError},
    optim::Layout,
    plan::Plan,
};
use half::bf16;

use crate::{
    cache::Cache,
    detect::Device,
    error::ExecuteError,
    executor::Executor,
    trainer::narrowed,
    training::{Inference, inference},
};

/// Logits of batches of up to a fixed number of images.
pub struct Predictor {
    executor: Executor,
    inference: Inference,
    layout: Layout,
    samples: usize,
}

/// Why a predictor cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// The batch cannot be scheduled.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The device refuses.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

impl Predictor {
    /// Compiles and loads the forward pass of a variant; `layout` is the model's. Its parameters are to be
    /// [written](Self::write) before anything else.
    ///
    /// # Errors
    /// [`PredictError`].
    pub fn new(
        device: &Device,
        plan: &Plan,
        layout: Layout,
        batch: BatchShape,
        tf32: bool,
    ) -> Result<Self, PredictError> {
        let inference = inference(plan, batch)?;
        let mut executor = Executor::new(device, &inference.schedule, Cache::of_user().as_ref(), tf32)?;
        executor.write(&inference.images, &vec![0; inference.images.length * inference.images.element.bytes()])?;
        Ok(Self { executor, inference, layout, samples: batch.samples })
    }

    /// Sets the parameters, in the model's layout.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    pub fn write(&mut self, flat: &[f32]) -> Result<(), ExecuteError> {
        let values = self.inference.layout.spread(&self.layout, flat);
        self.executor.write(&self.inference.parameters, cast_slice(&values))?;
        match self.inference.mirror {
            Some(mirror) => self.executor.write(&mirror, &narrowed(&values)),
            None => Ok(()),
        }
    }

    /// Starts a pass over the images that are on the device.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    pub fn start(&mut self) -> Result<(), ExecuteError> {
        self.executor.replay(0..self.inference.schedule.steps().len())
    }

    /// Waits until everything that was started has finished.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    pub fn finish(&self) -> Result<(), ExecuteError> {
        self.executor.finish()
    }

    /// Logits `[N, CLASSES]` of images `[N, H, W, C]`.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    ///
    /// # Panics
    /// If there are more images than the batch has, or they are of another size.
    pub fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>, ExecuteError> {
        let (view, logits) = (self.inference.images, self.inference.logits);
        let (pixels, classes) = (view.length / self.samples, logits.length / self.samples);
        assert!(images.len().is_multiple_of(pixels), "images of another size");
        // What the rest of a batch holds changes nothing: samples do not know of each other.
        self.executor.write(&view.part(0, images.len()), cast_slice(images))?;
        self.start()?;
        let bytes = self.executor.read(&logits.part(0, images.len() / pixels * classes))?;
        Ok(match logits.element {
            Element::Bf16 => bytes.as_chunks::<2>().0.iter().map(|two| bf16::from_le_bytes(*two).to_f32()).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
        })
    }
}
