//! What a run directory holds, as types: runs write these, the report reads them.
//!
//! ```text
//! recipe.toml                     what was run
//! run.json                        RunRecord, written when the run ends
//! metrics.jsonl                   one Line a line, appended as the run goes
//! evaluation.json                 Evaluation
//! pictures/reconstruction.png     crate::pictures::reconstruction_grid
//! pictures/mistake-00.png ...     named by Evaluation::mistakes
//! ```
//!
//! JSON has no NaN: a number that is not finite is written as `null` and read back as NaN.

mod confusion;
mod metric;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read},
    path::PathBuf,
};

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

pub use confusion::Confusion;
pub use metric::{Better, Metric, MetricKind, Metrics, Unit};

/// The resolved recipe, in a run directory.
pub const RECIPE: &str = "recipe.toml";
/// [`RunRecord`], in a run directory.
pub const RUN: &str = "run.json";
/// [`Line`]s of JSON, in a run directory.
pub const METRICS: &str = "metrics.jsonl";
/// [`Evaluation`], in a run directory.
pub const EVALUATION: &str = "evaluation.json";
/// Originals, masked and reconstructed, in a run directory.
pub const RECONSTRUCTION: &str = "pictures/reconstruction.png";

/// Why a run directory could not be read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// A file is not what its name says.
    #[error("{}: not the JSON that a run writes: {source}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
}

/// Which weights were measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// The exponential moving average.
    Ema,
    /// The weights being trained.
    Model,
}

impl Weights {
    /// The word used in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ema => "ema",
            Self::Model => "model",
        }
    }
}

/// A run as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The task that it was trained for, by name.
    pub kind: String,
    /// Variant.
    pub model: String,
    /// Version of the program that finished it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Trainable values of the variant.
    #[serde(default)]
    pub parameters: u64,
    /// Multiply-adds of one image's forward pass.
    #[serde(default)]
    pub multiply_adds: u64,
    /// Wall-clock time, of all sittings of a run that was resumed.
    #[serde(default)]
    pub seconds: f64,
    /// Time of all cores together, of all sittings.
    #[serde(default)]
    pub cpu_seconds: f64,
    /// Images that passed through the model from the first step to the last, repetitions counted.
    #[serde(default)]
    pub images: u64,
    /// Compute threads.
    #[serde(default)]
    pub threads: usize,
    /// CPU and instruction set, or accelerator.
    #[serde(default)]
    pub machine: String,
    /// When it started, RFC 3339.
    #[serde(default)]
    pub started: String,
    /// Samples that could not be used, each counted once.
    #[serde(default)]
    pub bad_samples: u64,
    /// Times that another sample stood in for one of them.
    #[serde(default)]
    pub substituted: u64,
    /// The last measurement on validation data, if there was one: of the weights that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluateRecord>,
    /// The checkpoint with the best measurement, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestRecord>,
    /// What it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartRecord>,
    /// Why it ended before its last step, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// What a run begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// Images of the training set.
    pub images: u64,
    /// Images that it is measured on, if it is measured on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<u64>,
    /// Classes of the training set, where labels count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<u64>,
    /// Images of one forward and backward pass.
    pub batch: u64,
    /// Batches of a step.
    pub accumulation: u64,
    /// Passes over the training set.
    pub epochs: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Where its first weights come from: a path, or what chose them.
    pub weights: String,
}

/// The checkpoint that a run keeps as its best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BestRecord {
    /// Optimiser steps done.
    pub step: u64,
    /// The metric by which it is the best.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// The checkpoint's folder, relative to the run directory.
    pub checkpoint: String,
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
    /// Progress of training.
    Train(TrainRecord),
    /// A measurement between two steps of training.
    Evaluate(EvaluateRecord),
    /// A setting that changed when the run was resumed.
    Change(ChangeRecord),
}

impl Line {
    /// The line, without its end.
    ///
    /// # Errors
    /// None in practice: these types have nothing that JSON cannot say.
    pub fn to_line(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// Progress of training since the previous such record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainRecord {
    /// Optimiser steps done.
    pub step: u64,
    /// Passes over the data done, a fraction.
    pub epoch: f64,
    /// Mean loss.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// Learning rate of the last step.
    #[serde(deserialize_with = "number")]
    pub lr: f64,
    /// Norm of the last step's gradient before clipping.
    #[serde(deserialize_with = "number")]
    pub gradient_norm: f64,
    /// Images a second.
    #[serde(deserialize_with = "number")]
    pub images_per_second: f64,
    /// Seconds that the model waited for data.
    #[serde(deserialize_with = "number")]
    pub waited_seconds: f64,
    /// Seconds since the run started.
    #[serde(deserialize_with = "number")]
    pub elapsed_seconds: f64,
    /// What the pipeline did; older records do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loading: Option<LoadingRecord>,
}

/// What the pipeline did between two records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadingRecord {
    /// Share of the batches that were ready when the model asked for them, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub ready: f64,
    /// Share of all workers' time that each stage took, 0 to 1.
    pub busy: BTreeMap<String, f64>,
}

/// A measurement between two steps of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluateRecord {
    /// Optimiser steps done.
    pub step: u64,
    /// Passes over the training data done, a fraction.
    pub epoch: f64,
    /// What was measured.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Which weights.
    pub weights: Weights,
}

/// A setting that changed when the run was resumed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// Optimiser steps done with the value before.
    pub step: u64,
    /// The recipe's key.
    pub key: String,
    /// Its value from here on, as TOML.
    pub now: String,
    /// Its value before, as TOML.
    pub was: String,
}

/// A model measured on a whole data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Images measured.
    pub samples: u64,
    /// What was measured.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Which weights.
    pub weights: Weights,
    /// The model's names of the classes, by label; may be empty.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Which classes were taken for which; may be empty.
    #[serde(default)]
    pub confusion: Confusion,
    /// Wrong predictions, the most confident first; may be empty.
    #[serde(default)]
    pub mistakes: Vec<Mistake>,
}

impl Evaluation {
    /// Name of a class, or `class 7` where it has none.
    pub fn class(&self, label: usize) -> String {
        self.classes.get(label).cloned().unwrap_or_else(|| format!("class {label}"))
    }
}

/// One wrong prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// The sample's key in its shard.
    pub key: String,
    /// What it is.
    pub label: usize,
    /// What the model said.
    pub predicted: usize,
    /// Softmax probability of what the model said, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub probability: f64,
    /// A PNG, relative to the run directory and inside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// All lines of a `metrics.jsonl`, in order of step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Progress of training.
    pub train: Vec<TrainRecord>,
    /// Measurements.
    pub evaluate: Vec<EvaluateRecord>,
    /// Settings that changed.
    pub changes: Vec<ChangeRecord>,
    /// Lines that are no record: a run that was killed leaves half a line.
    pub unreadable: Unreadable,
}

/// Lines that are no record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unreadable {
    /// How many.
    pub count: u64,
    /// The first of them, counted from 1; 0 if there are none.
    pub first: u64,
}

/// Bytes of the longest line that can be a record.
const LONGEST_LINE: u64 = 1 << 14;

impl History {
    /// Reads a `metrics.jsonl`.
    ///
    /// A run that resumes repeats the steps after its checkpoint: the later record of a step replaces the earlier.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(mut file: impl BufRead) -> io::Result<Self> {
        let mut history = Self::default();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if file.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let is_cut = line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n');
            if is_cut {
                file.skip_until(b'\n')?;
            }
            match serde_json::from_slice(&line) {
                _ if is_cut => history.unreadable.add(number),
                Ok(Line::Train(record)) => history.push_train(record),
                Ok(Line::Evaluate(record)) => history.push_evaluate(record),
                Ok(Line::Change(record)) => history.changes.push(record),
                Err(_) if line.trim_ascii().is_empty() => {}
                Err(_) => history.unreadable.add(number),
            }
        }
        Ok(history)
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.train.is_empty() && self.evaluate.is_empty()
    }

    fn push_train(&mut self, record: TrainRecord) {
        while self.train.last().is_some_and(|last| last.step >= record.step) {
            self.train.pop();
        }
        self.train.push(record);
    }

    /// Both sets of weights may be measured at one step.
    fn push_evaluate(&mut self, record: EvaluateRecord) {
        while self.evaluate.last().is_some_and(|last| last.step > record.step) {
            self.evaluate.pop();
        }
        let same_step = self.evaluate.iter().rev().take_while(|last| last.step == record.step).count();
        let first = self.evaluate.len() - same_step;
        match self.evaluate[first..].iter().position(|last| last.weights == record.weights) {
            Some(earlier) => self.evaluate[first + earlier] = record,
            None => self.evaluate.push(record),
        }
    }
}

impl Unreadable {
    fn add(&mut self, line: u64) {
        if self.count == 0 {
            self.first = line;
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAIN: &str = r#"{"kind":"train","step":120,"epoch":1.25,"loss":0.71,"lr":0.0006,"gradient_norm":0.9,"images_per_second":812.0,"waited_seconds":0.3,"elapsed_seconds":93.1}"#;
    const EVALUATE: &str =
        r#"{"kind":"evaluate","step":480,"epoch":5.0,"loss":0.41,"top1":0.893,"top5":0.998,"weights":"ema"}"#;

    fn parse(text: &str) -> History {
        History::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn lines_round_trip() {
        for line in [TRAIN, EVALUATE] {
            let metric: Line = serde_json::from_str(line).unwrap();
            assert_eq!(metric.to_line().unwrap(), line);
        }
    }

    #[test]
    fn half_a_last_line_is_counted_and_left_out() {
        let metrics = parse(&format!("{TRAIN}\n\n{EVALUATE}\n{}", &TRAIN[..60]));
        assert_eq!((metrics.train.len(), metrics.evaluate.len()), (1, 1));
        assert_eq!(metrics.unreadable, Unreadable { count: 1, first: 4 });
    }

    #[test]
    fn a_loss_that_is_not_finite_survives() {
        let Ok(Line::Train(mut record)) = serde_json::from_str(TRAIN) else { panic!() };
        record.loss = f64::NAN;
        let line = Line::Train(record).to_line().unwrap();
        assert!(line.contains(r#""loss":null"#), "{line}");
        assert!(parse(&line).train[0].loss.is_nan());
    }

    #[test]
    fn a_resumed_run_replaces_the_steps_it_repeats() {
        let train = |step: u64| TRAIN.replace("120", &step.to_string());
        let evaluate = |weights: &str| EVALUATE.replace("ema", weights);
        let lines = [train(1), train(2), train(3), evaluate("model"), evaluate("ema"), train(2), evaluate("model")];
        let metrics = parse(&lines.join("\n"));
        assert_eq!(metrics.train.iter().map(|record| record.step).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(
            metrics.evaluate.iter().map(|record| record.weights).collect::<Vec<_>>(),
            [Weights::Model, Weights::Ema]
        );
    }

    /// As it was written before metrics had names of their own.
    #[test]
    fn records_of_older_runs_are_read() {
        let run = r#"{"kind":"finetune","model":"micro","evaluation":{"step":480,"epoch":5.0,"loss":0.41,"top1":0.893,
            "top5":null,"weights":"ema"},"best":{"step":240,"top1":0.9,"checkpoint":"checkpoints/step-000000000240"}}"#;
        let run: RunRecord = serde_json::from_str(run).unwrap();
        let (last, best) = (run.evaluation.unwrap(), run.best.unwrap());
        assert_eq!((last.metrics.value("top1"), last.weights), (Some(0.893), Weights::Ema));
        assert!(last.metrics.value("top5").unwrap().is_nan());
        assert_eq!(last.metrics.get("loss").unwrap().better, Better::Lower);
        assert_eq!(
            (best.metrics.value("top1"), best.checkpoint.as_str()),
            (Some(0.9), "checkpoints/step-000000000240")
        );
        let evaluation = r#"{"samples":4,"loss":0.5,"top1":0.75,"top5":1.0,"weights":"model","classes":["a","b"],
            "confusion":[[1,1],[0,2]],"mistakes":[{"key":"7","label":0,"predicted":1,"probability":0.9}]}"#;
        let evaluation: Evaluation = serde_json::from_str(evaluation).unwrap();
        assert_eq!((evaluation.metrics.value("top1"), evaluation.confusion.count(0, 1)), (Some(0.75), 1));
        assert_eq!((evaluation.metrics.iter().count(), evaluation.mistakes.len()), (3, 1));
        let written = serde_json::to_string(&evaluation).unwrap();
        assert!(
            written.starts_with(r#"{"samples":4,"loss":0.5,"top1":0.75,"top5":1.0,"weights":"model""#),
            "{written}"
        );
    }

    /// What is no line of a run costs no memory.
    #[test]
    fn endless_lines_and_no_text_are_counted() {
        let zeros = io::repeat(0).take(1 << 20);
        let metrics = History::read(io::BufReader::new(zeros)).unwrap();
        assert_eq!((metrics.is_empty(), metrics.unreadable), (true, Unreadable { count: 1, first: 1 }));
        let text = format!("\n\u{e9}\n{}{TRAIN}\n{TRAIN}\n", " ".repeat(LONGEST_LINE as usize));
        let metrics = parse(&text);
        assert_eq!((metrics.train.len(), metrics.unreadable), (1, Unreadable { count: 2, first: 2 }));
    }
}
