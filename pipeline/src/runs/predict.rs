//! Prediction: what a classifier says about single images.

use std::path::Path;

use convnext_core::nn::Entry;
use convnext_data::{Decoder, Draw, Example, Scratch};
use convnext_weights::checkpoint::{Taken, Which};

use super::{RunError, evaluate::load};
use crate::{
    bounded,
    device::Device,
    input::{Input, InputError, View},
    interrupt,
    recipe::{Data, Precision},
    stream::StreamError,
    trainer::{AnyClassifier, Classifier},
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
    classifier: AnyClassifier,
    loader: Loader,
    taken: Taken,
}

impl Predictor {
    /// With the weights at `weights` (a run, a checkpoint, a `.safetensors` file), for images looked at by `view`.
    ///
    /// # Errors
    /// [`RunError`]: weights that do not fit, a device that refuses.
    pub fn new(
        entry: &Entry,
        weights: (&Path, Which),
        data: &Data,
        view: View,
        device: &Device,
    ) -> Result<Self, RunError> {
        let mut classifier = AnyClassifier::new(entry, device, 1, Precision::F32)?;
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
    /// [`RunError::is_of_one_image`] tells whether to go on with the next. [`RunError::Stopped`] after a signal.
    pub fn predict(&mut self, path: &Path, top: usize) -> Result<Prediction, RunError> {
        if interrupt::asked() {
            return Err(RunError::Stopped);
        }
        let logits = self.classifier.logits(self.loader.load(path)?, 1)?;
        let image = path.display().to_string();
        match logits.iter().enumerate().find(|(_, logit)| !logit.is_finite()) {
            Some((class, &value)) => Err(RunError::NonFiniteLogit { image, class, value }),
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

/// Image files as a model's input.
pub(crate) struct Loader {
    decoder: Decoder,
    chain: convnext_data::Chain,
    table: convnext_data::Normalise,
    example: Example,
    scratch: Scratch,
}

impl Loader {
    pub(crate) fn new(entry: &Entry, data: &Data, view: View) -> Result<Self, InputError> {
        let input = Input { plan: &entry.plan, data, workers: 1 };
        Ok(Self {
            decoder: input.decoder()?,
            chain: input.evaluation_chain(view)?,
            table: input.table()?,
            example: Example::default(),
            scratch: Scratch::default(),
        })
    }

    /// One image `[H, W, C]`, normalised.
    pub(crate) fn load(&mut self, path: &Path) -> Result<Vec<f32>, RunError> {
        let bytes =
            bounded::read(path, bounded::PICTURE).map_err(|source| RunError::Read { path: path.to_owned(), source })?;
        self.decode(&bytes).map_err(|source| RunError::Image { path: path.to_owned(), source: Box::new(source) })
    }

    /// One image `[H, W, C]` from encoded bytes, normalised.
    pub(crate) fn decode(&mut self, bytes: &[u8]) -> Result<Vec<f32>, convnext_data::Error> {
        self.decoder.decode_into(bytes, &mut self.example.image)?;
        self.chain.apply(&mut self.example, &Draw { seed: 0, epoch: 0, sample: 0 }, &mut self.scratch)?;
        let image = self.example.image.view();
        let mut pixels = vec![0.0; image.pixels.len()];
        self.table.run(image, &mut pixels)?;
        Ok(pixels)
    }
}

impl From<convnext_data::Error> for RunError {
    fn from(error: convnext_data::Error) -> Self {
        Self::Stream(StreamError::Sample(error))
    }
}
