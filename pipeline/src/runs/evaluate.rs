//! Evaluation: a classifier measured on every sample once.

use std::{fs, path::Path, sync::Arc};

use convnext_core::nn::Entry;
use convnext_data::{Example, Image, ShardSet};
use convnext_weights::{
    checkpoint::{Taken, Which},
    convert,
};

use super::{RunError, tally::Tally, warn_of};
use crate::{
    device::Device,
    input::{Input, View},
    inside, interrupt, pictures,
    recipe::{Data, Precision},
    records::{self, Evaluation, Weights},
    trainer::{AnyClassifier, Classifier},
};

/// What is evaluated, and how.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// How pixels are normalised.
    pub data: &'a Data,
    /// How evaluation looks at an image.
    pub view: View,
    /// Images of one forward pass.
    pub batch: usize,
    /// Worker threads of the pipeline; 0 for one a core.
    pub workers: usize,
}

/// Evaluates the weights at `weights` (a run, a checkpoint, a `.safetensors` file) on `shards`, in f32.
///
/// Writes `evaluation.json` and the pictures of the mistakes into `out`, which is made if it is not there. Says which
/// weights were taken.
///
/// # Errors
/// [`RunError`]; then `out` is as it was.
pub fn evaluate(
    entry: &Entry,
    weights: (&Path, Which),
    shards: &Arc<ShardSet>,
    measure: Measure<'_>,
    out: &Path,
    device: &Device,
) -> Result<(Evaluation, Taken), RunError> {
    let mut classifier = AnyClassifier::new(entry, device, measure.batch, Precision::F32)?;
    let taken = load(&mut classifier, weights)?;
    let made = Made::folder(out)?;
    let mut evaluation = measure_classifier(entry, &mut classifier, shards, measure)?;
    evaluation.weights = if taken.average { Weights::Ema } else { Weights::Model };
    made.keep();
    save_mistakes(entry, shards, measure, &mut evaluation, out)?;
    let json = serde_json::to_vec_pretty(&evaluation).map_err(std::io::Error::other);
    let written = json.and_then(|json| inside::replace(out, records::EVALUATION, &json));
    written.map_err(|source| RunError::Write { path: out.join(records::EVALUATION), source })?;
    Ok((evaluation, taken))
}

/// Puts weights into a classifier, and returns which they are.
pub(crate) fn load(classifier: &mut AnyClassifier, (path, which): (&Path, Which)) -> Result<Taken, RunError> {
    let loaded = convert::load(path, &classifier.layout(), which)?;
    warn_of(&loaded.skipped);
    classifier.write(&loaded.values)?;
    Ok(loaded.taken)
}

/// A folder for results: made first, so that hours of measuring are not lost to a place that cannot be written, and taken
/// away again if they come to nothing.
struct Made<'a>(Option<&'a Path>);

impl<'a> Made<'a> {
    fn folder(path: &'a Path) -> Result<Self, RunError> {
        let new = !path.exists();
        fs::create_dir_all(path).map_err(|source| RunError::Write { path: path.to_owned(), source })?;
        Ok(Self(new.then_some(path)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // Only if it is empty; and if it stays, nothing is lost.
            let _ = fs::remove_dir(path);
        }
    }
}

/// Checks that every label has a class, and that labels mean something.
pub(crate) fn check_classes(entry: &Entry, shards: &ShardSet) -> Result<(), RunError> {
    shards.check_class_names()?;
    let classes = entry.plan.classes;
    match shards.classes() {
        found if found as usize > classes => {
            Err(RunError::Classes { model: entry.plan.name, classes, largest: found - 1 })
        }
        _ => Ok(()),
    }
}

/// Measures a classifier with the weights it has.
///
/// # Errors
/// [`RunError::Stopped`] when a signal comes, [`RunError::NonFiniteLogit`], [`RunError::Incomplete`], and what the input
/// or the device say.
pub(crate) fn measure_classifier(
    entry: &Entry,
    classifier: &mut dyn Classifier,
    shards: &Arc<ShardSet>,
    measure: Measure<'_>,
) -> Result<Evaluation, RunError> {
    check_classes(entry, shards)?;
    let input = Input { plan: &entry.plan, data: measure.data, workers: measure.workers };
    let mut stream = input.evaluation(shards.clone(), measure.batch, measure.view)?;
    let mut tally = Tally::new(shards, entry.plan.classes);
    while let Some(batch) = stream.next() {
        if interrupt::asked() {
            return Err(RunError::Stopped);
        }
        let mut batch = batch?;
        let images = std::mem::take(&mut batch.images);
        let logits = classifier.logits(images, batch.samples)?;
        tally.add(&batch, &logits)?;
        stream.recycle(batch);
    }
    tally.finish()
}

/// Writes a picture for each mistake, as the model saw it but for normalisation; `picture` holds the sample's id before
/// and the file's name after.
fn save_mistakes(
    entry: &Entry,
    shards: &ShardSet,
    measure: Measure<'_>,
    evaluation: &mut Evaluation,
    out: &Path,
) -> Result<(), RunError> {
    let input = Input { plan: &entry.plan, data: measure.data, workers: 1 };
    let chain = input.evaluation_chain(measure.view)?;
    let mut decoder = input.decoder()?;
    let (mut bytes, mut example, mut scratch) = (Vec::new(), Example::default(), convnext_data::Scratch::default());
    for (number, mistake) in evaluation.mistakes.iter_mut().enumerate() {
        let Some(id) = mistake.picture.take().and_then(|id| id.parse().ok()) else { continue };
        let sample = shards.sample(id)?;
        let mut prepare = || -> Result<(), convnext_data::Error> {
            sample.decode_into(&mut decoder, &mut bytes, &mut example.image)?;
            Ok(chain.apply(&mut example, &convnext_data::Draw { seed: 0, epoch: 0, sample: id }, &mut scratch)?)
        };
        prepare().map_err(crate::stream::StreamError::from)?;
        let name = format!("pictures/mistake-{number:02}.png");
        let Image { height, width, channels, pixels } = &example.image;
        let picture = pictures::picture(pixels, *height, *width, *channels)?;
        let png = pictures::png(&picture)?;
        let written = inside::folder(out, "pictures").and_then(|_| inside::replace(out, &name, &png));
        written.map_err(|source| RunError::Write { path: out.join(&name), source })?;
        mistake.picture = Some(name);
    }
    Ok(())
}
