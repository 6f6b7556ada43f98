//! Evaluation: a classifier measured on every sample once.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use convnext_core::{
    checkpoint::{Which, WhichValues},
    convert,
    nn::Entry,
    optim::Layout,
};
use convnext_data::{Image, ShardSet};

use super::{RunError, train::write_json, warn_of};
use crate::{
    device::Device,
    input::{Input, View},
    pictures,
    recipe::{Data, EvaluatedWeights, Precision},
    records::{self, Evaluation, Mistake, Weights},
    stream::Batch,
    trainer::{AnyClassifier, Classifier},
};

/// Mistakes that are kept with a picture.
const MISTAKES: usize = 24;

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
/// Writes `evaluation.json` and the pictures of the mistakes into `out`.
///
/// # Errors
/// [`RunError`].
pub fn evaluate(
    entry: &Entry,
    weights: &Path,
    which: EvaluatedWeights,
    shards: &Arc<ShardSet>,
    measure: Measure<'_>,
    out: &Path,
    device: &Device,
) -> Result<Evaluation, RunError> {
    let mut classifier = AnyClassifier::new(entry, device, measure.batch, Precision::F32)?;
    let (values, kind) = classifier_weights(&classifier.layout(), weights, which)?;
    classifier.write(&values)?;
    let mut evaluation = measure_classifier(entry, &mut classifier, shards, measure)?;
    evaluation.weights = kind;
    save_mistakes(entry, shards, measure, &mut evaluation, out)?;
    write_json(&out.join(records::EVALUATION), &evaluation)?;
    Ok(evaluation)
}

/// Reads a classifier's weights, and says which they are.
pub(crate) fn classifier_weights(
    layout: &Layout,
    path: &Path,
    which: EvaluatedWeights,
) -> Result<(Vec<f32>, Weights), RunError> {
    let wanted = match which {
        EvaluatedWeights::Raw => WhichValues::Raw,
        EvaluatedWeights::Ema => WhichValues::Ema,
        EvaluatedWeights::Best => WhichValues::AverageIfThere,
    };
    let loaded = convert::load(path, layout, Which::from(wanted))?;
    warn_of(&loaded.skipped);
    Ok((loaded.values, if loaded.taken.average { Weights::Ema } else { Weights::Model }))
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
pub(crate) fn measure_classifier(
    entry: &Entry,
    classifier: &mut dyn Classifier,
    shards: &Arc<ShardSet>,
    measure: Measure<'_>,
) -> Result<Evaluation, RunError> {
    check_classes(entry, shards)?;
    let input = Input { plan: &entry.plan, data: measure.data, workers: measure.workers };
    let mut stream = input.evaluation(shards.clone(), measure.batch, measure.view)?;
    let mut tally = Tally::new(entry.plan.classes);
    while let Some(batch) = stream.next() {
        let mut batch = batch?;
        let images = std::mem::take(&mut batch.images);
        let logits = classifier.logits(images, batch.samples)?;
        tally.add(&batch, &logits);
        stream.recycle(batch);
    }
    Ok(tally.finish(shards))
}

/// Counts of an evaluation in progress.
struct Tally {
    classes: usize,
    samples: u64,
    loss: f64,
    top1: u64,
    top5: u64,
    confusion: BTreeMap<(usize, usize), u64>,
    mistakes: Vec<(f64, u64, usize, usize)>,
}

impl Tally {
    fn new(classes: usize) -> Self {
        let (confusion, mistakes) = (BTreeMap::new(), Vec::new());
        Self { classes, samples: 0, loss: 0.0, top1: 0, top5: 0, confusion, mistakes }
    }

    fn add(&mut self, batch: &Batch, logits: &[f32]) {
        for (n, row) in logits.chunks_exact(self.classes).enumerate() {
            let label = batch.labels[n].map_or(0, |label| label as usize);
            self.add_sample(batch.ids[n], label, row);
        }
    }

    fn add_sample(&mut self, id: u64, label: usize, logits: &[f32]) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        let probability = |class: usize| f64::from(logits[class] - largest).exp() / total;
        let predicted =
            (0..self.classes).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
        // Ties go against the label: a constant output is not an answer.
        let ahead = (0..self.classes).filter(|&class| class != label && logits[class] >= logits[label]).count();
        self.samples += 1;
        self.loss -= probability(label).ln();
        self.top1 += u64::from(ahead < 1);
        self.top5 += u64::from(ahead < 5);
        *self.confusion.entry((label, predicted)).or_default() += 1;
        if predicted != label {
            self.mistakes.push((probability(predicted), id, label, predicted));
        }
    }

    fn finish(mut self, shards: &ShardSet) -> Evaluation {
        self.mistakes.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        self.mistakes.truncate(MISTAKES);
        let share = |count: u64| count as f64 / self.samples.max(1) as f64;
        Evaluation {
            samples: self.samples,
            loss: self.loss / self.samples.max(1) as f64,
            top1: share(self.top1),
            top5: share(self.top5),
            weights: Weights::Model,
            classes: shards.class_names().map(<[String]>::to_vec).unwrap_or_default(),
            confusion: self
                .confusion
                .into_iter()
                .map(|((label, predicted), count)| (label, predicted, count))
                .collect(),
            mistakes: self
                .mistakes
                .iter()
                .map(|&(probability, id, label, predicted)| Mistake {
                    key: shards.sample(id).map(|sample| sample.key()).unwrap_or_else(|_| id.to_string()),
                    label,
                    predicted,
                    probability,
                    picture: Some(id.to_string()),
                })
                .collect(),
        }
    }
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
    let (mut bytes, mut image, mut scratch) = (Vec::new(), Image::default(), convnext_data::Scratch::default());
    for (number, mistake) in evaluation.mistakes.iter_mut().enumerate() {
        let Some(id) = mistake.picture.take().and_then(|id| id.parse().ok()) else { continue };
        let sample = shards.sample(id)?;
        let prepared = sample.decode_into(&mut decoder, &mut bytes, &mut image).and_then(|()| {
            Ok(chain.apply(&mut image, &convnext_data::Draw { seed: 0, epoch: 0, sample: id }, &mut scratch)?)
        });
        prepared.map_err(crate::stream::StreamError::from)?;
        let name = format!("pictures/mistake-{number:02}.png");
        let picture = pictures::picture(&image.pixels, image.height, image.width, image.channels)?;
        pictures::save(&picture, &out.join(&name))?;
        mistake.picture = Some(name);
    }
    Ok(())
}
