//! Prediction: what a classifier says about image files.

use std::path::{Path, PathBuf};

use convnext_core::{nn::Entry, plan::Plan};
use convnext_weights::checkpoint::{Taken, View, Which};
use image::{RgbImage, imageops};
use rayon::prelude::*;

use super::{Classifier, evaluate::load, tally::not_finite};
use crate::{
    device::Device,
    input::InputError,
    interrupt, pictures,
    settings::{Data, Precision},
    stream::Batch,
    tasks::loader::Loader,
    trainer::{Inference, ModelError},
};

/// Pixels to a side of the largest thumbnail.
const THUMBNAIL: u32 = 128;

/// What the classifier says about one image.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Prediction {
    /// The file.
    pub image: String,
    /// The likeliest classes, the likeliest first: label and softmax probability.
    pub classes: Vec<(usize, f32)>,
    /// What the head's linear layer looks at, `[D]`; empty unless asked for.
    #[serde(skip)]
    pub features: Vec<f32>,
    /// The image as the model sees it, small; only if asked for.
    #[serde(skip)]
    pub picture: Option<RgbImage>,
}

/// What is asked about images.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Classes of each image.
    pub top: usize,
    /// Whether features are wanted.
    pub features: bool,
    /// Whether pictures are wanted.
    pub pictures: bool,
}

/// A classifier that is asked about image files.
pub struct Predictor<'a> {
    plan: &'a Plan,
    entry: &'a Entry,
    data: &'a Data,
    view: View,
    classifier: Classifier,
    /// Mean and deviation of each channel.
    normalisation: (Vec<f32>, Vec<f32>),
    taken: Taken,
}

/// Logits `[CLASSES]` and features `[D]` of an image.
type Answered = (Vec<f32>, Vec<f32>);

impl<'a> Predictor<'a> {
    /// With the weights at `weights` (a run, a checkpoint, a `.safetensors` file), for up to `batch` images at once, which are
    /// looked at by `view`.
    ///
    /// # Errors
    /// [`ModelError`]: weights that do not fit, a device that refuses.
    pub fn new(
        entry: &'a Entry,
        weights: (&Path, Which),
        data: &'a Data,
        view: View,
        batch: usize,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let mut classifier = Classifier::new(entry, device, batch, Precision::F32)?;
        let taken = load(&mut classifier, weights)?;
        // What can be wrong with the input is said before any image is read.
        Loader::new(entry, data, view)?;
        let normalisation = data.normalisation(entry.plan.channels).map_err(InputError::Normalisation)?;
        Ok(Self { plan: &entry.plan, entry, data, view, classifier, normalisation, taken })
    }

    /// Which weights it has.
    pub fn taken(&self) -> &Taken {
        &self.taken
    }

    /// Classifies up to as many image files as it was made for; for each what it is, or why that cannot be said.
    ///
    /// # Errors
    /// What concerns all of them: [`ModelError::Stopped`] after a signal, a device that refuses.
    pub fn predict(
        &mut self,
        paths: &[PathBuf],
        question: Question,
    ) -> Result<Vec<Result<Prediction, ModelError>>, ModelError> {
        if interrupt::asked() {
            return Err(ModelError::Stopped);
        }
        let (entry, data, view) = (self.entry, self.data, self.view);
        let loader = || Loader::new(entry, data, view);
        let load = |ready: &mut Option<Loader>, path: &PathBuf| match ready {
            Some(ready) => ready.load(path),
            None => loader()?.load(path),
        };
        let loaded: Vec<_> = paths.par_iter().map_init(|| loader().ok(), load).collect();
        let read: Vec<&[f32]> = loaded.iter().flatten().map(Vec::as_slice).collect();
        let (images, samples) = (read.concat(), read.len());
        let mut answers = self.answers(images, samples, question.features)?.into_iter();
        let one = |(path, pixels): (&PathBuf, Result<Vec<f32>, ModelError>)| {
            let (pixels, image) = (pixels?, path.display().to_string());
            let (logits, features) = answers.next().expect("an answer for each image that was read");
            if let Some(what) = not_finite(&logits) {
                return Err(ModelError::NotFinite { image, what });
            }
            let picture = question.pictures.then(|| self.picture(&pixels)).transpose()?;
            Ok(Prediction { image, classes: likeliest(&logits, question.top), features, picture })
        };
        Ok(paths.iter().zip(loaded).map(one).collect())
    }

    /// What is said about each image.
    fn answers(&mut self, images: Vec<f32>, samples: usize, features: bool) -> Result<Vec<Answered>, ModelError> {
        if samples == 0 {
            return Ok(Vec::new());
        }
        let mut batch = Batch { samples, images, ..Batch::default() };
        let (logits, features) = match features {
            true => self.classifier.outputs_and_features(&mut batch)?,
            false => (self.classifier.outputs(&mut batch)?, Vec::new()),
        };
        let (classes, dim) = (logits.len() / samples, features.len() / samples);
        let of =
            |sample: usize| (logits[sample * classes..][..classes].to_vec(), features[sample * dim..][..dim].to_vec());
        Ok((0..samples).map(of).collect())
    }

    /// An image `[H, W, C]` as the model sees it, small.
    fn picture(&self, pixels: &[f32]) -> Result<RgbImage, ModelError> {
        let Plan { height, width, channels, .. } = *self.plan;
        let (mean, std) = &self.normalisation;
        let bytes = pictures::to_u8(pixels, mean, std, channels);
        let picture = pictures::picture(&bytes, height, width, pictures::shown_channels(channels))?;
        let (width, height) = picture.dimensions();
        Ok(match width.max(height) > THUMBNAIL {
            true => {
                let factor = f64::from(THUMBNAIL) / f64::from(width.max(height));
                let side = |side: u32| ((f64::from(side) * factor).round() as u32).max(1);
                imageops::thumbnail(&picture, side(width), side(height))
            }
            false => picture,
        })
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
