//! Prediction: what a classifier says about single images.

use std::path::Path;

use convnext_core::nn::Entry;
use convnext_weights::checkpoint::{Taken, View, Which};

use super::{Classifier, evaluate::load, tally::not_finite};
use crate::{
    device::Device,
    interrupt,
    settings::{Data, Precision},
    stream::Batch,
    tasks::loader::Loader,
    trainer::{Inference, ModelError},
};

/// What the classifier says about one image.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Prediction {
    /// The file.
    pub image: String,
    /// The likeliest classes, the likeliest first: label and softmax probability.
    pub classes: Vec<(usize, f32)>,
}

/// A classifier that is asked about image files, one after another.
pub struct Predictor {
    classifier: Classifier,
    loader: Loader,
    taken: Taken,
}

impl Predictor {
    /// With the weights at `weights` (a run, a checkpoint, a `.safetensors` file), for images looked at by `view`.
    ///
    /// # Errors
    /// [`ModelError`]: weights that do not fit, a device that refuses.
    pub fn new(
        entry: &Entry,
        weights: (&Path, Which),
        data: &Data,
        view: View,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let mut classifier = Classifier::new(entry, device, 1, Precision::F32)?;
        let taken = load(&mut classifier, weights)?;
        Ok(Self { classifier, loader: Loader::new(entry, data, view)?, taken })
    }

    /// Which weights it has.
    pub fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Classifies an image file; keeps the `top` likeliest classes.
    ///
    /// # Errors
    /// [`ModelError::is_of_one_image`] tells whether to go on with the next. [`ModelError::Stopped`] after a signal.
    pub fn predict(&mut self, path: &Path, top: usize) -> Result<Prediction, ModelError> {
        if interrupt::asked() {
            return Err(ModelError::Stopped);
        }
        let mut batch = Batch { samples: 1, images: self.loader.load(path)?, ..Batch::default() };
        let logits = self.classifier.outputs(&mut batch)?;
        let image = path.display().to_string();
        match not_finite(&logits) {
            Some(what) => Err(ModelError::NotFinite { image, what }),
            None => Ok(Prediction { image, classes: likeliest(&logits, top) }),
        }
    }
}

/// Label and softmax probability of the likeliest classes, of logits that are finite.
fn likeliest(logits: &[f32], top: usize) -> Vec<(usize, f32)> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    let mut classes: Vec<_> = logits.iter().map(|logit| (logit - largest).exp() / total).enumerate().collect();
    classes.sort_by(|a, b| b.1.total_cmp(&a.1));
    classes.truncate(top);
    classes
}
