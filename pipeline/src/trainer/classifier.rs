//! A classifier that is measured or asked, on either device.

use convnext_core::{
    cuda::{network::Sizes, predictor::Predictor},
    dfdx::tensor::Cpu,
    nn::{ClassifierModule, Entry},
    optim::Layout,
};

use crate::{device::Device, recipe::Precision, runs::RunError};

/// What gives logits.
pub trait Classifier {
    /// Logits `[N, CLASSES]` of `samples` images `[N, H, W, C]`.
    ///
    /// # Errors
    /// [`RunError`] when memory runs out, or the device refuses.
    fn logits(&mut self, images: Vec<f32>, samples: usize) -> Result<Vec<f32>, RunError>;
}

/// A classifier on the processor.
pub(super) struct OnCpu<'a> {
    pub(super) model: &'a dyn ClassifierModule,
    pub(super) device: &'a Cpu,
}

impl Classifier for OnCpu<'_> {
    fn logits(&mut self, images: Vec<f32>, samples: usize) -> Result<Vec<f32>, RunError> {
        Ok(self.model.logits(self.device, images, samples)?)
    }
}

impl Classifier for Predictor {
    fn logits(&mut self, images: Vec<f32>, _: usize) -> Result<Vec<f32>, RunError> {
        Ok(Self::logits(self, &images)?)
    }
}

/// A classifier with weights of its own.
pub enum AnyClassifier {
    /// On the processor.
    Cpu(Box<dyn ClassifierModule>, Cpu),
    /// On a GPU.
    Cuda(Box<Predictor>, Layout),
}

impl AnyClassifier {
    /// The variant's, for passes of up to `batch` images; weights are to be [written](Self::write) first.
    ///
    /// # Errors
    /// [`RunError`] when memory runs out, or the device refuses.
    pub fn new(entry: &Entry, device: &Device, batch: usize, precision: Precision) -> Result<Self, RunError> {
        let cpu = Cpu::default();
        let model = entry.classifier(&cpu)?;
        match device {
            Device::Cpu => Ok(Self::Cpu(model, cpu)),
            Device::Cuda(device) => {
                let (layout, sizes) = (model.layout(), Sizes { samples: batch, real: precision.element() });
                let tf32 = precision == Precision::Tf32;
                let predictor = Predictor::new(device, &entry.plan, layout.clone(), sizes, tf32)?;
                Ok(Self::Cuda(Box::new(predictor), layout))
            }
        }
    }

    /// Names, shapes and places of the weights.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Cpu(model, _) => model.layout(),
            Self::Cuda(_, layout) => layout.clone(),
        }
    }

    /// Sets the weights.
    ///
    /// # Errors
    /// [`RunError`] when the device refuses.
    pub fn write(&mut self, weights: &[f32]) -> Result<(), RunError> {
        match self {
            Self::Cpu(model, _) => model.write(weights),
            Self::Cuda(predictor, _) => predictor.write(weights)?,
        }
        Ok(())
    }
}

impl Classifier for AnyClassifier {
    fn logits(&mut self, images: Vec<f32>, samples: usize) -> Result<Vec<f32>, RunError> {
        match self {
            Self::Cpu(model, device) => OnCpu { model: &**model, device }.logits(images, samples),
            Self::Cuda(predictor, _) => Classifier::logits(&mut **predictor, images, samples),
        }
    }
}
