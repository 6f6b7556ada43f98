//! Counts of an evaluation in progress.

use std::collections::BTreeMap;

use convnext_data::ShardSet;

use super::metrics::{LOSS, TOP1, TOP5};
use crate::{
    records::{Evaluation, Mistake, Weights},
    stream::Batch,
    trainer::ModelError,
};

/// Mistakes that are kept with a picture.
const MISTAKES: usize = 24;

/// What is known of the samples so far.
pub(super) struct Tally<'a> {
    shards: &'a ShardSet,
    classes: usize,
    samples: u64,
    loss: f64,
    top1: u64,
    top5: u64,
    /// By label and answer.
    confusion: BTreeMap<(usize, usize), u64>,
    mistakes: Vec<Wrong>,
}

/// A wrong answer.
struct Wrong {
    probability: f64,
    id: u64,
    label: usize,
    predicted: usize,
}

impl<'a> Tally<'a> {
    /// Of a classifier that tells `classes` apart, on `shards`.
    pub(super) fn new(shards: &'a ShardSet, classes: usize) -> Self {
        let (confusion, mistakes) = (BTreeMap::new(), Vec::new());
        Self { shards, classes, samples: 0, loss: 0.0, top1: 0, top5: 0, confusion, mistakes }
    }

    /// Counts the `logits [N, CLASSES]` of a batch.
    ///
    /// # Errors
    /// A logit is not finite, a label is not a class, or a sample has no logits.
    pub(super) fn add(&mut self, batch: &Batch, logits: &[f32]) -> Result<(), ModelError> {
        if logits.len() != batch.samples * self.classes {
            return Err(ModelError::Incomplete { measured: self.samples, expected: self.shards.len() });
        }
        for (n, row) in logits.chunks_exact(self.classes).enumerate() {
            self.add_sample(batch.ids[n], batch.targets[n].class(), row)?;
        }
        Ok(())
    }

    fn add_sample(&mut self, id: u64, label: Option<u32>, logits: &[f32]) -> Result<(), ModelError> {
        if let Some(what) = not_finite(logits) {
            return Err(ModelError::NotFinite { image: key(self.shards, id), what });
        }
        let known = label.map(|label| label as usize).filter(|&label| label < self.classes);
        let Some(label) = known else {
            return Err(ModelError::Label { sample: key(self.shards, id), label, classes: self.classes });
        };
        let answer = Answer::of(logits);
        self.samples += 1;
        self.loss += answer.loss(label);
        let ahead = answer.ahead_of(label);
        self.top1 += u64::from(ahead < 1);
        self.top5 += u64::from(ahead < 5);
        let predicted = answer.class();
        *self.confusion.entry((label, predicted)).or_default() += 1;
        if predicted != label {
            self.note(Wrong { probability: answer.probability(predicted), id, label, predicted });
        }
        Ok(())
    }

    /// Keeps the most confident mistakes, and not many more.
    fn note(&mut self, wrong: Wrong) {
        self.mistakes.push(wrong);
        if self.mistakes.len() > 64 * MISTAKES {
            self.drop_modest();
        }
    }

    /// Keeps the most confident ones.
    fn drop_modest(&mut self) {
        self.mistakes.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.id.cmp(&b.id)));
        self.mistakes.truncate(MISTAKES);
    }

    /// The evaluation, and the sample of each of its mistakes.
    ///
    /// # Errors
    /// There are samples that were not measured, or none at all.
    pub(super) fn finish(mut self) -> Result<(Evaluation, Vec<u64>), ModelError> {
        if self.samples != self.shards.len() || self.samples == 0 {
            return Err(ModelError::Incomplete { measured: self.samples, expected: self.shards.len() });
        }
        self.drop_modest();
        let share = |count: u64| count as f64 / self.samples as f64;
        let mistakes = self.mistakes.iter().map(|wrong| Mistake {
            key: key(self.shards, wrong.id),
            label: wrong.label,
            predicted: wrong.predicted,
            probability: wrong.probability,
            picture: None,
        });
        let metrics = [LOSS.of(self.loss / self.samples as f64), TOP1.of(share(self.top1)), TOP5.of(share(self.top5))];
        let evaluation = Evaluation {
            samples: self.samples,
            metrics: metrics.into_iter().collect(),
            weights: Weights::Model,
            classes: self.shards.class_names().map(<[String]>::to_vec).unwrap_or_default(),
            mistakes: mistakes.collect(),
            confusion: self.confusion.iter().map(|(&(label, predicted), &count)| (label, predicted, count)).collect(),
        };
        Ok((evaluation, self.mistakes.iter().map(|wrong| wrong.id).collect()))
    }
}

/// The first of an image's logits that is not finite, in words.
pub(super) fn not_finite(logits: &[f32]) -> Option<String> {
    let (class, value) = logits.iter().enumerate().find(|(_, logit)| !logit.is_finite())?;
    Some(format!("the logit of class {class} is {value}"))
}

fn key(shards: &ShardSet, id: u64) -> String {
    shards.sample(id).map(|sample| sample.key()).unwrap_or_else(|_| format!("sample {id}"))
}

/// Finite logits of one image, and their softmax.
pub(super) struct Answer<'a> {
    logits: &'a [f32],
    largest: f32,
    total: f64,
}

impl<'a> Answer<'a> {
    pub(super) fn of(logits: &'a [f32]) -> Self {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        Self { logits, largest, total }
    }

    /// The first of the likeliest classes.
    fn class(&self) -> usize {
        (0..self.logits.len()).fold(0, |best, class| if self.logits[class] > self.logits[best] { class } else { best })
    }

    /// Classes at least as likely as this one. Ties go against it: a constant output is not an answer.
    fn ahead_of(&self, class: usize) -> usize {
        let others = self.logits.iter().enumerate().filter(|&(other, _)| other != class);
        others.filter(|&(_, &logit)| logit >= self.logits[class]).count()
    }

    pub(super) fn probability(&self, class: usize) -> f64 {
        f64::from(self.logits[class] - self.largest).exp() / self.total
    }

    /// Cross entropy. A probability that underflows still has a logarithm.
    fn loss(&self, label: usize) -> f64 {
        match self.probability(label) {
            0.0 => self.total.ln() - (f64::from(self.logits[label]) - f64::from(self.largest)),
            probability => -probability.ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use convnext_data::{Target, pack::Options};

    use super::*;

    #[test]
    fn the_loss_is_the_logarithm_s_however_unlikely() {
        let loss = |logits: &[f32], label| Answer::of(logits).loss(label);
        assert_eq!(loss(&[3.0; 4], 2), 4f64.ln());
        assert_eq!(loss(&[0.0, 1e30], 0), f64::from(1e30f32));
        assert_eq!(loss(&[f32::MIN, f32::MAX], 0), 2.0 * f64::from(f32::MAX));
    }

    #[test]
    fn ties_go_against_the_label() {
        let answer = |logits| Answer::of(logits).ahead_of(1);
        assert_eq!((answer(&[1.0, 1.0]), answer(&[1.0, 2.0]), answer(&[3.0, 2.0])), (1, 0, 1));
    }

    fn with_four(test: impl FnOnce(&ShardSet)) {
        let folder = tempfile::tempdir().unwrap();
        let shard = crate::testing::shard(folder.path(), &Options::default(), 4);
        test(&ShardSet::open(&[shard]).unwrap());
    }

    fn batch(labels: &[u32]) -> Batch {
        let samples = labels.len();
        let targets = labels.iter().map(|&label| Target::Class(label)).collect();
        Batch { samples, targets, ids: (0..samples as u64).collect(), ..Batch::default() }
    }

    #[test]
    fn what_is_not_finite_is_no_answer() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            with_four(|shards| {
                let error = Tally::new(shards, 2).add(&batch(&[0, 1]), &[0.0, 1.0, 2.0, value]).unwrap_err();
                assert!(matches!(&error, ModelError::NotFinite { what, .. } if what.contains("class 1")), "{error}");
                assert!(error.to_string().contains(&value.to_string()), "{error}");
            });
        }
    }

    #[test]
    fn fewer_images_than_there_are_is_no_evaluation() {
        with_four(|shards| {
            let mut tally = Tally::new(shards, 2);
            assert!(matches!(Tally::new(shards, 2).finish(), Err(ModelError::Incomplete { measured: 0, expected: 4 })));
            tally.add(&batch(&[0, 1]), &[0.0, 1.0, 2.0, 3.0]).unwrap();
            assert!(matches!(tally.add(&batch(&[0, 1]), &[0.0, 1.0]), Err(ModelError::Incomplete { .. })));
            assert!(matches!(tally.finish(), Err(ModelError::Incomplete { measured: 2, expected: 4 })));
        });
    }

    #[test]
    fn all_four_are_counted() {
        with_four(|shards| {
            let mut tally = Tally::new(shards, 2);
            tally.add(&batch(&[0, 1, 0, 1]), &[0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]).unwrap();
            let (found, mistaken) = tally.finish().unwrap();
            let [loss, top1, top5] = ["loss", "top1", "top5"].map(|name| found.metrics.value(name).unwrap());
            assert_eq!((found.samples, top1, top5), (4, 0.75, 1.0));
            assert_eq!(found.confusion.counts(), [(0, 0, 1), (0, 1, 1), (1, 1, 2)]);
            assert_eq!((found.mistakes.len(), found.mistakes[0].predicted, mistaken), (1, 1, vec![0]));
            // Three images at ln(1 + 1/e), one at ln(1 + e).
            assert!((loss - (3.0 * (-1f64).exp().ln_1p() + 1f64.exp().ln_1p()) / 4.0).abs() < 1e-12);
        });
    }

    #[test]
    fn a_label_beyond_the_classes_is_named() {
        with_four(|shards| {
            let error = Tally::new(shards, 2).add(&batch(&[0, 2]), &[0.0; 4]).unwrap_err();
            assert!(matches!(&error, ModelError::Label { label: Some(2), classes: 2, .. }), "{error}");
        });
    }
}
