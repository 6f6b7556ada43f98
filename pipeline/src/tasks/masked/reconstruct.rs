//! Reconstruction: what a masked autoencoder makes of images whose patches were removed.

use std::{path::Path, sync::Arc};

use convnext_core::{
    dfdx::tensor::Cpu,
    nn::Entry,
    ops::masked_mse::{self, Targets},
    plan::{Patches, Plan},
};
use convnext_data::ShardSet;
use convnext_weights::{
    checkpoint::{Taken, View, Which},
    convert,
};

use super::{Masking, autoencoder, draw_masks};
use crate::{
    input::InputError,
    pictures::{self, Reconstruction},
    settings::Data,
    tasks::{self, loader::Loader},
    trainer::ModelError,
};

/// Most images of one picture.
pub const MOST: usize = 256;

/// Which images are reconstructed.
#[derive(Debug, Clone)]
pub enum Subject {
    /// So many samples of shards, spread evenly over them.
    Shards(Arc<ShardSet>, usize),
    /// Image files.
    Files(Vec<std::path::PathBuf>),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Reconstructed {
    /// Images.
    pub images: usize,
    /// The pre-training loss on them: mean squared error on removed patches.
    pub loss: f64,
}

/// Masks images, reconstructs them with the weights at `weights`, and writes a picture of them to `out`.
///
/// Each row holds the original, what the model saw, what it predicts, and that with the visible patches put back. Where
/// the target was normalised, each predicted patch takes the original patch's mean and variance.
///
/// # Errors
/// [`ModelError`]: no pre-training part, weights that do not fit, images that cannot be read.
pub fn reconstruct(
    entry: &Entry,
    weights: (&Path, Which),
    data: &Data,
    view: View,
    subject: &Subject,
    seed: u64,
    out: &Path,
) -> Result<(Reconstructed, Taken), ModelError> {
    let plan = &entry.plan;
    let masking = Masking::new(plan)?;
    let fcmae = plan.fcmae.ok_or(ModelError::NoFcmae(plan.name))?;
    let mut model = autoencoder(entry, &Cpu::default())?;
    let loaded = convert::load(weights.0, &model.layout(), weights.1)?;
    tasks::warn_of(&loaded.skipped);
    model.write(&loaded.values);

    // ---- images and masks ------------------------------------------------------------------------------------------
    let images = load(entry, data, view, subject)?;
    let samples = images.len() / (plan.height * plan.width * plan.channels);
    let masks = draw_masks(masking.patches, samples, seed, 0);
    let visible = masking.visibility(&masks)?;

    // ---- predictions, and back to pixels ---------------------------------------------------------------------------
    let mut predictions = masking.predictions(&model.plain(), &model.values(), &images, &masks)?;
    check_finite(&predictions, predictions.len() / samples.max(1))?;
    let shape = masked_mse::Shape {
        visible: &visible,
        stride: plan.stride(),
        side: fcmae.patch / plan.stride(),
        channels: plan.channels,
        dim: fcmae.decoder_dim,
        normalised: fcmae.normalised,
    };
    let targets = masked_mse::targets(&shape, &images);
    let loss = masked_loss(&predictions, &targets, &masks);
    targets.restore(&mut predictions);
    let restored = masked_mse::patches_to_images(&shape, &predictions);
    let (mean, deviation) = data.normalisation(plan.channels).map_err(InputError::Normalisation)?;
    let shown = |pixels: &[f32]| pictures::to_u8(pixels, &mean, &deviation, plan.channels);
    draw(plan, masking.patches, &shown(&images), &shown(&restored), &masks, out)?;
    Ok((Reconstructed { images: samples, loss }, loaded.taken))
}

/// Refuses predictions, `values` an image, that are not finite.
fn check_finite(predictions: &[f32], values: usize) -> Result<(), ModelError> {
    match predictions.iter().position(|value| !value.is_finite()) {
        Some(at) => {
            let what = format!("the prediction is {}", predictions[at]);
            Err(ModelError::NotFinite { image: format!("image {}", at / values), what })
        }
        None => Ok(()),
    }
}

fn load(entry: &Entry, data: &Data, view: View, subject: &Subject) -> Result<Vec<f32>, ModelError> {
    let mut loader = Loader::new(entry, data, view)?;
    let mut images = Vec::new();
    match subject {
        Subject::Files(files) => {
            few(files.len())?;
            for file in files {
                images.extend(loader.load(file)?);
            }
        }
        Subject::Shards(shards, count) => {
            let count = (*count as u64).min(shards.len());
            few(count as usize)?;
            let mut scratch = Vec::new();
            for number in 0..count {
                let sample = shards.sample(number * shards.len() / count)?;
                images.extend(loader.decode(sample.verified(&mut scratch)?)?);
            }
        }
    }
    Ok(images)
}

/// All images and what is made of them are held at once.
fn few(images: usize) -> Result<(), ModelError> {
    if images > MOST { Err(ModelError::TooManyImages { images, most: MOST }) } else { Ok(()) }
}

fn draw(
    plan: &Plan,
    patches: Patches,
    originals: &[u8],
    restored: &[u8],
    masks: &[u8],
    out: &Path,
) -> Result<(), ModelError> {
    let channels = pictures::shown_channels(plan.channels);
    let length = plan.height * plan.width * channels;
    let rows: Vec<_> = originals
        .chunks_exact(length)
        .zip(restored.chunks_exact(length))
        .zip(masks.chunks_exact(patches.count()))
        .map(|((original, prediction), mask)| Reconstruction {
            original,
            prediction,
            mask,
            height: plan.height,
            width: plan.width,
            channels,
            patch: plan.height / patches.high,
        })
        .collect();
    Ok(pictures::save(&pictures::reconstruction_grid(&rows)?, out)?)
}

/// The pre-training loss, from whole predictions `[N, L, P * P * C]`.
fn masked_loss(predictions: &[f32], targets: &Targets, masks: &[u8]) -> f64 {
    let values = predictions.len() / masks.len();
    let patches = predictions.chunks_exact(values).zip(targets.values.chunks_exact(values)).zip(masks);
    let error = |(prediction, target): (&[f32], &[f32])| {
        prediction.iter().zip(target).map(|(&p, &t)| f64::from(p - t).powi(2)).sum::<f64>() / values as f64
    };
    let removed: Vec<f64> = patches.filter(|(_, mask)| **mask == 1).map(|(pair, _)| error(pair)).collect();
    removed.iter().sum::<f64>() / removed.len().max(1) as f64
}
