//! The loss on images that were held out.

use std::sync::Arc;

use convnext_core::plan::Plan;
use convnext_data::ShardSet;

use super::{Masked, Masking, reconstruct::masked_loss};
use crate::{
    input::Input,
    interrupt,
    records::{Better, Confusion, Evaluation, MetricKind, Unit, Weights},
    tasks::{Measure, Task},
    trainer::{Inference, ModelError},
};

/// Mean squared error on the removed patches of held-out images.
pub const RECONSTRUCTION_LOSS: MetricKind = MetricKind {
    name: "reconstruction_loss",
    title: "reconstruction loss",
    better: Better::Lower,
    unit: Unit::Number,
    curve: Some((
        "Reconstruction of held-out images",
        "Mean squared error of the removed patches' pixels; each image has the same mask at every measurement.",
    )),
};

/// Measures a model on every image of `shards` once. An image's mask depends on its place in the set alone.
///
/// # Errors
/// [`ModelError::Stopped`] when a signal comes, [`ModelError::NotFinite`], and what the input or the device say.
pub(super) fn measure(
    plan: &Plan,
    model: &mut dyn Inference,
    shards: &Arc<ShardSet>,
    how: Measure<'_>,
) -> Result<Evaluation, ModelError> {
    let masking = Masking::new(plan)?;
    let input = Input { plan, data: how.data, workers: how.workers };
    let mut stream = input.evaluation(shards.clone(), how.batch, how.view, Masked.samples(plan))?;
    let (mut total, mut samples) = (0.0, 0);
    while let Some(batch) = stream.next() {
        if interrupt::asked() {
            return Err(ModelError::Stopped);
        }
        let mut batch = batch?;
        let targets = masking.pixels(&batch.images, &batch.masks)?;
        let masks = batch.masks.clone();
        let predictions = model.outputs(&mut batch)?;
        let loss = masked_loss(&predictions, &targets, &masks);
        if !loss.is_finite() {
            let (first, last) = (samples, samples + batch.samples as u64 - 1);
            let image = format!("samples {first} to {last}");
            return Err(ModelError::NotFinite { image, what: format!("the loss is {loss}") });
        }
        total += loss * batch.samples as f64;
        samples += batch.samples as u64;
        stream.recycle(batch);
    }
    let metrics = RECONSTRUCTION_LOSS.of(total / samples.max(1) as f64).into();
    let (classes, confusion, mistakes) = (Vec::new(), Confusion::default(), Vec::new());
    Ok(Evaluation { samples, metrics, weights: Weights::Model, classes, confusion, mistakes })
}
