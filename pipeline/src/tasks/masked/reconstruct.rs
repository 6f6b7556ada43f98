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
    events::{self, Picture},
    input::InputError,
    pictures::{self, Reconstruction},
    records,
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
/// the target was normalised, a prediction says nothing of its patch's mean and deviation: those of the visible patches stand
/// in for them in the third column, and the original patch's own are put back in the last.
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
    let shape = masking.shape(&visible);
    let targets = masked_mse::targets(&shape, &images);
    let loss = masked_loss(&predictions, &targets, &masks);
    let mut blind = predictions.clone();
    of_visible(&targets, &masks, masking.patches.count()).restore(&mut blind);
    targets.restore(&mut predictions);
    let [restored, blind] = [predictions, blind].map(|patches| masked_mse::patches_to_images(&shape, &patches));
    let (mean, deviation) = data.normalisation(plan.channels).map_err(InputError::Normalisation)?;
    let shown = |pixels: &[f32]| pictures::to_u8(pixels, &mean, &deviation, plan.channels);
    let picture = draw(plan, masking.patches, [&images, &restored, &blind].map(|pixels| shown(pixels)), &masks, out)?;
    if let Some(run) = run_of(out) {
        events::show(run, loaded.taken.from.step().unwrap_or(0), vec![picture]);
    }
    Ok((Reconstructed { images: samples, loss }, loaded.taken))
}

/// The same targets, each patch with the mean and the deviation that an image's visible patches have on average.
fn of_visible(targets: &Targets, masks: &[u8], patches: usize) -> Targets {
    let mut seen = targets.clone();
    let images = seen.mean.chunks_exact_mut(patches).zip(seen.deviation.chunks_exact_mut(patches));
    for ((means, deviations), mask) in images.zip(masks.chunks_exact(patches)) {
        let average = |values: &[f32], power: i32| {
            let visible = values.iter().zip(mask).filter(|(_, removed)| **removed == 0);
            let (sum, count) =
                visible.fold((0.0, 0.0), |(sum, count), (&value, _)| (sum + value.powi(power), count + 1.0));
            sum / f32::max(count, 1.0)
        };
        let (mean, deviation) = (average(means, 1), average(deviations, 2).sqrt());
        means.fill(mean);
        deviations.fill(deviation);
    }
    seen
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
    [originals, restored, blind]: [Vec<u8>; 3],
    masks: &[u8],
    out: &Path,
) -> Result<Picture, ModelError> {
    let channels = pictures::shown_channels(plan.channels);
    let length = plan.height * plan.width * channels;
    let rows: Vec<_> = originals
        .chunks_exact(length)
        .zip(restored.chunks_exact(length))
        .zip(blind.chunks_exact(length))
        .zip(masks.chunks_exact(patches.count()))
        .map(|(((original, prediction), blind), mask)| Reconstruction {
            original,
            prediction,
            blind,
            mask,
            height: plan.height,
            width: plan.width,
            channels,
            patch: plan.height / patches.high,
        })
        .collect();
    let picture = pictures::reconstruction_grid(&rows)?;
    pictures::save(&picture, out)?;
    Ok(Picture { tag: "reconstruction".to_owned(), size: picture.dimensions(), png: pictures::png(&picture)? })
}

/// The run whose picture `out` is, if it lies where a report looks for it.
fn run_of(out: &Path) -> Option<&Path> {
    let picture = Path::new(records::RECONSTRUCTION);
    out.ends_with(picture).then(|| out.ancestors().nth(picture.components().count())).flatten()
}

/// The pre-training loss, from whole predictions `[N, L, P * P * C]`.
pub(super) fn masked_loss(predictions: &[f32], targets: &Targets, masks: &[u8]) -> f64 {
    let values = predictions.len() / masks.len();
    let patches = predictions.chunks_exact(values).zip(targets.values.chunks_exact(values)).zip(masks);
    let error = |(prediction, target): (&[f32], &[f32])| {
        prediction.iter().zip(target).map(|(&p, &t)| f64::from(p - t).powi(2)).sum::<f64>() / values as f64
    };
    let removed: Vec<f64> = patches.filter(|(_, mask)| **mask == 1).map(|(pair, _)| error(pair)).collect();
    removed.iter().sum::<f64>() / removed.len().max(1) as f64
}
