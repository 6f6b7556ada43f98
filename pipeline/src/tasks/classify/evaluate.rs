//! A classifier measured on every sample of a set once.

use std::{fs, path::Path, sync::Arc};

use convnext_core::{nn::Entry, plan::Plan};
use convnext_data::{Draw, Example, Image, Scratch, ShardSet};
use convnext_weights::{
    checkpoint::{Taken, Which},
    convert,
};

use super::{Classifier, Classify, check_classes, tally::Tally};
use crate::{
    device::Device,
    events::{self, Picture},
    input::Input,
    inside, interrupt, pictures,
    records::{self, Evaluation, Weights},
    settings::Precision,
    stream::StreamError,
    tasks::{self, Measure, Task},
    trainer::{Inference, ModelError},
};

/// Evaluates the weights at `weights` (a run, a checkpoint, a `.safetensors` file) on `shards`, in f32.
///
/// Writes `evaluation.json` and the pictures of the mistakes into `out`, which is made if it is not there. Says which
/// weights were taken.
///
/// # Errors
/// [`ModelError`]; then `out` is as it was.
pub fn evaluate(
    entry: &Entry,
    weights: (&Path, Which),
    shards: &Arc<ShardSet>,
    how: Measure<'_>,
    out: &Path,
    device: &Device,
) -> Result<(Evaluation, Taken), ModelError> {
    let mut classifier = Classifier::new(entry, device, how.batch, Precision::F32)?;
    let taken = load(&mut classifier, weights)?;
    let made = Made::folder(out)?;
    let (mut evaluation, mistaken) = measure(&entry.plan, &mut classifier, shards, how)?;
    evaluation.weights = if taken.average { Weights::Ema } else { Weights::Model };
    made.keep();
    let shown = save_mistakes(&entry.plan, shards, how, &mistaken, &mut evaluation, out)?;
    events::show(out, taken.from.step().unwrap_or(0), shown);
    let json = serde_json::to_vec_pretty(&evaluation).map_err(std::io::Error::other);
    let written = json.and_then(|json| inside::replace(out, records::EVALUATION, &json));
    written.map_err(|source| ModelError::Write { path: out.join(records::EVALUATION), source })?;
    Ok((evaluation, taken))
}

/// Puts weights into a classifier, and returns which they are.
pub(super) fn load(classifier: &mut Classifier, (path, which): (&Path, Which)) -> Result<Taken, ModelError> {
    let loaded = convert::load(path, &classifier.layout(), which)?;
    tasks::warn_of(&loaded.skipped);
    classifier.write(&loaded.values)?;
    Ok(loaded.taken)
}

/// A folder for results: made first, so that hours of measuring are not lost to a place that cannot be written, and taken
/// away again if they come to nothing.
struct Made<'a>(Option<&'a Path>);

impl<'a> Made<'a> {
    fn folder(path: &'a Path) -> Result<Self, ModelError> {
        let new = !path.exists();
        fs::create_dir_all(path).map_err(|source| ModelError::Write { path: path.to_owned(), source })?;
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

/// Measures a classifier with the weights it has; also returns the sample of each of its mistakes.
///
/// # Errors
/// [`ModelError::Stopped`] when a signal comes, [`ModelError::NotFinite`], [`ModelError::Incomplete`], and what the input
/// or the device say.
pub(super) fn measure(
    plan: &Plan,
    model: &mut dyn Inference,
    shards: &Arc<ShardSet>,
    how: Measure<'_>,
) -> Result<(Evaluation, Vec<u64>), ModelError> {
    check_classes(plan, shards)?;
    let input = Input { plan, data: how.data, workers: how.workers };
    let mut stream = input.evaluation(shards.clone(), how.batch, how.view, Classify.samples(plan))?;
    let mut tally = Tally::new(shards, plan.classes);
    while let Some(batch) = stream.next() {
        if interrupt::asked() {
            return Err(ModelError::Stopped);
        }
        let mut batch = batch?;
        let logits = model.outputs(&mut batch)?;
        tally.add(&batch, &logits)?;
        stream.recycle(batch);
    }
    tally.finish()
}

/// Writes a picture of the sample of each mistake, as the model saw it but for normalisation, and returns them.
fn save_mistakes(
    plan: &Plan,
    shards: &ShardSet,
    how: Measure<'_>,
    mistaken: &[u64],
    evaluation: &mut Evaluation,
    out: &Path,
) -> Result<Vec<Picture>, ModelError> {
    let input = Input { plan, data: how.data, workers: 1 };
    let mut shown = Vec::new();
    let chain = input.evaluation_chain(how.view)?;
    let mut decoder = input.decoder()?;
    let (mut bytes, mut example, mut scratch) = (Vec::new(), Example::default(), Scratch::default());
    for (number, (mistake, &id)) in evaluation.mistakes.iter_mut().zip(mistaken).enumerate() {
        let sample = shards.sample(id)?;
        let mut prepare = || -> Result<(), convnext_data::Error> {
            sample.decode_into(&mut decoder, &mut bytes, &mut example.image)?;
            Ok(chain.apply(&mut example, &Draw { seed: 0, epoch: 0, sample: id }, &mut scratch)?)
        };
        prepare().map_err(StreamError::from)?;
        let name = format!("pictures/mistake-{number:02}.png");
        let Image { height, width, channels, pixels } = &example.image;
        let picture = pictures::picture(pixels, *height, *width, *channels)?;
        let png = pictures::png(&picture)?;
        let written = inside::folder(out, "pictures").and_then(|_| inside::replace(out, &name, &png));
        written.map_err(|source| ModelError::Write { path: out.join(&name), source })?;
        mistake.picture = Some(name);
        shown.push(Picture { tag: format!("mistakes/{number:02}"), size: picture.dimensions(), png });
    }
    Ok(shown)
}
