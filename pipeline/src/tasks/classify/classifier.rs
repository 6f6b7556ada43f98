//! A classifier that is measured or asked, on either device.

use convnext_core::{
    dfdx::tensor::Cpu,
    launch::operation::BatchShape,
    nn::{Entry, FrozenClassifier},
    optim::Layout,
};
use convnext_cuda::predictor::Predictor;

use crate::{
    device::Device,
    interrupt,
    settings::Precision,
    stream::Batch,
    trainer::{Inference, ModelError, element, pass, products},
};

/// Logits `[N, CLASSES]` of a batch on the CPU, in passes of up to `pass` images: a signal is looked for between
/// them.
pub(super) fn logits(classifier: &FrozenClassifier, pass: usize, batch: &mut Batch) -> Result<Vec<f32>, ModelError> {
    let (images, samples) = (std::mem::take(&mut batch.images), batch.samples);
    if samples <= pass {
        return Ok(classifier.logits(&images, samples));
    }
    let image = images.len() / samples;
    let mut logits = Vec::new();
    for images in images.chunks(pass * image) {
        if interrupt::asked() {
            return Err(ModelError::Stopped);
        }
        logits.extend(classifier.logits(images, images.len() / image));
    }
    Ok(logits)
}

/// As [`logits`], with features `[N, D]`.
fn logits_and_features(
    classifier: &FrozenClassifier,
    pass: usize,
    batch: &mut Batch,
) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
    let (images, samples) = (std::mem::take(&mut batch.images), batch.samples);
    let image = images.len() / samples.max(1);
    let (mut logits, mut features) = (Vec::new(), Vec::new());
    for images in images.chunks((pass * image).max(1)) {
        if interrupt::asked() {
            return Err(ModelError::Stopped);
        }
        let (more, pooled) = classifier.logits_and_features(images, images.len() / image);
        logits.extend(more);
        features.extend(pooled);
    }
    Ok((logits, features))
}

/// A classifier with weights of its own.
pub enum Classifier {
    /// On the CPU.
    Cpu {
        /// The model.
        classifier: FrozenClassifier,
        /// Names, shapes and places of the weights.
        layout: Layout,
        /// Images of one pass.
        pass: usize,
    },
    /// On a GPU.
    Cuda(Box<Predictor>, Layout),
}

impl Classifier {
    /// The variant's, for passes of up to `batch` images; weights are to be [written](Self::write) first.
    ///
    /// # Errors
    /// [`ModelError`] when memory runs out, or the device refuses.
    pub fn new(entry: &Entry, device: &Device, batch: usize, precision: Precision) -> Result<Self, ModelError> {
        let mut model = entry.classifier(&Cpu::default())?;
        let layout = model.layout();
        match device {
            Device::Cpu => {
                model.set_precision(products(precision));
                let classifier = model.plain().freeze(model.values());
                Ok(Self::Cpu { classifier, layout, pass: pass(&entry.plan) })
            }
            Device::Cuda(device) => {
                let batch = BatchShape { samples: batch, real: element(precision) };
                let tf32 = precision == Precision::Tf32;
                let predictor = Predictor::new(device, &entry.plan, layout.clone(), batch, tf32)?;
                Ok(Self::Cuda(Box::new(predictor), layout))
            }
        }
    }

    /// Names, shapes and places of the weights.
    pub fn layout(&self) -> Layout {
        match self {
            Self::Cpu { layout, .. } | Self::Cuda(_, layout) => layout.clone(),
        }
    }

    /// Sets the weights.
    ///
    /// # Errors
    /// [`ModelError`] when the device refuses.
    pub fn write(&mut self, weights: &[f32]) -> Result<(), ModelError> {
        match self {
            Self::Cpu { classifier, .. } => classifier.write(weights),
            Self::Cuda(predictor, _) => predictor.write(weights)?,
        }
        Ok(())
    }

    /// Logits `[N, CLASSES]` of a batch, and features `[N, D]`: what the head's linear layer looks at.
    ///
    /// # Errors
    /// [`ModelError::NoFeatures`] on a GPU; [`ModelError::Stopped`] after a signal.
    pub fn outputs_and_features(&mut self, batch: &mut Batch) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
        match self {
            Self::Cpu { classifier, pass, .. } => logits_and_features(classifier, *pass, batch),
            Self::Cuda(..) => Err(ModelError::NoFeatures),
        }
    }
}

impl Inference for Classifier {
    fn outputs(&mut self, batch: &mut Batch) -> Result<Vec<f32>, ModelError> {
        match self {
            Self::Cpu { classifier, pass, .. } => logits(classifier, *pass, batch),
            Self::Cuda(predictor, _) => predictor.outputs(batch),
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
        let model = Dot::entry().classifier(&Cpu::seed_from_u64(7)).unwrap();
        let classifier = model.plain().freeze(model.values());
        let images: Vec<f32> = (0..13 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
        let batch = || Batch { images: images.clone(), samples: 13, ..Batch::default() };
        let logits = |pass| logits(&classifier, pass, &mut batch()).unwrap();
        let together = logits(13);
        assert_eq!(together.len(), 13 * 5);
        // The features are what the last layer makes logits of, in f64 by its definition.
        let (_, features) = logits_and_features(&classifier, 5, &mut batch()).unwrap();
        let layout = model.layout();
        let tensor = |name: &str| {
            let segment = layout.segments().iter().find(|segment| segment.name == name).unwrap();
            model.values()[segment.range.clone()].iter().map(|&value| f64::from(value)).collect::<Vec<_>>()
        };
        let (weight, bias) = (tensor("head.linear.weight"), tensor("head.linear.bias"));
        for (at, logit) in together.iter().enumerate() {
            let (features, class) = (&features[at / 5 * 16..][..16], at % 5);
            let sum: f64 = features.iter().enumerate().map(|(d, &z)| f64::from(z) * weight[d * 5 + class]).sum();
            assert!((sum + bias[class] - f64::from(*logit)).abs() < 1e-6, "{at}");
        }
        for pass in [1, 2, 5, 12] {
            assert!(logits(pass) == together, "passes of {pass}");
            assert!(logits_and_features(&classifier, pass, &mut batch()).unwrap().0 == together, "passes of {pass}");
        }
    }
}
