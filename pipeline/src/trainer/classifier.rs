//! A classifier that is measured or asked, on either device.

use convnext_core::{
    dfdx::tensor::Cpu,
    launch::operation::BatchShape,
    nn::{ClassifierModule, Entry},
    optim::Layout,
    plan::Plan,
};
use convnext_cuda::predictor::Predictor;

use crate::{device::Device, interrupt, recipe::Precision, runs::RunError};

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
    /// Images of one pass: a signal is looked for between passes.
    pub(super) pass: usize,
}

/// Images of a pass that takes a fraction of a second on a slow core.
pub(crate) fn pass(plan: &Plan) -> usize {
    /// Of one pass.
    const MULTIPLY_ADDS: u64 = 8 << 30;
    (MULTIPLY_ADDS / plan.classifier().multiply_adds().max(1)).clamp(1, 1 << 16) as usize
}

impl Classifier for OnCpu<'_> {
    fn logits(&mut self, images: Vec<f32>, samples: usize) -> Result<Vec<f32>, RunError> {
        if samples <= self.pass {
            return Ok(self.model.logits(self.device, images, samples)?);
        }
        let image = images.len() / samples;
        let mut logits = Vec::new();
        for images in images.chunks(self.pass * image) {
            if interrupt::asked() {
                return Err(RunError::Stopped);
            }
            logits.extend(self.model.logits(self.device, images.to_vec(), images.len() / image)?);
        }
        Ok(logits)
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
    Cpu {
        /// The model.
        model: Box<dyn ClassifierModule>,
        /// Its device.
        device: Cpu,
        /// Images of one pass.
        pass: usize,
    },
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
            Device::Cpu => Ok(Self::Cpu { model, device: cpu, pass: pass(&entry.plan) }),
            Device::Cuda(device) => {
                let (layout, batch) = (model.layout(), BatchShape { samples: batch, real: precision.element() });
                let tf32 = precision == Precision::Tf32;
                let predictor = Predictor::new(device, &entry.plan, layout.clone(), batch, tf32)?;
                Ok(Self::Cuda(Box::new(predictor), layout))
            }
        }
    }

    /// Names, shapes and places of the weights.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Cpu { model, .. } => model.layout(),
            Self::Cuda(_, layout) => layout.clone(),
        }
    }

    /// Sets the weights.
    ///
    /// # Errors
    /// [`RunError`] when the device refuses.
    pub fn write(&mut self, weights: &[f32]) -> Result<(), RunError> {
        match self {
            Self::Cpu { model, .. } => model.write(weights),
            Self::Cuda(predictor, _) => predictor.write(weights)?,
        }
        Ok(())
    }
}

impl Classifier for AnyClassifier {
    fn logits(&mut self, images: Vec<f32>, samples: usize) -> Result<Vec<f32>, RunError> {
        match self {
            Self::Cpu { model, device, pass } => OnCpu { model: &**model, device, pass: *pass }.logits(images, samples),
            Self::Cuda(predictor, _) => Classifier::logits(&mut **predictor, images, samples),
        }
    }
}

#[cfg(test)]
mod tests {
    use convnext_core::{Variant, convnext};

    use super::*;

    convnext! {
        pub model Dot { input: 16 x 16 x 1, stem: 2, head: 5, stages: [8 x 1 kernel 3, 16 x 2 kernel 3] }
    }

    /// How many images go through at a time changes no bit.
    #[test]
    fn a_pass_of_any_size_gives_the_same_logits() {
        let device = Cpu::seed_from_u64(7);
        let model = Dot::entry().classifier(&device).unwrap();
        let images: Vec<f32> = (0..13 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
        let logits = |pass| OnCpu { model: &*model, device: &device, pass }.logits(images.clone(), 13).unwrap();
        let together = logits(13);
        assert_eq!(together.len(), 13 * 5);
        for pass in [1, 2, 5, 12] {
            assert!(logits(pass) == together, "passes of {pass}");
        }
    }
}
