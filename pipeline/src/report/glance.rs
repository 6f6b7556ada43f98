//! What is to be seen of a run at a glance, while it lasts.

use std::time::Duration;

use super::{Run, format};
use crate::records::{Metric, MetricKind, Unit};

/// A run at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Glance {
    /// The run's name.
    pub name: String,
    /// What it does, e.g. `finetune`.
    pub kind: String,
    /// Passes over the data made.
    pub epoch: f64,
    /// Passes over the data that its recipe asks for.
    pub epochs: Option<f64>,
    /// Training loss by epoch.
    pub losses: Vec<(f64, f64)>,
    /// Images a second, of the last record.
    pub images_per_second: f64,
    /// What decides which of its checkpoints is the best, by epoch; nothing before it is measured.
    pub measured: Option<Measured>,
    /// Time that is left at this speed.
    pub left: Option<Duration>,
    /// Whether it came to its end.
    pub finished: bool,
}

/// A metric of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What people call it.
    pub title: &'static str,
    /// By epoch; a share in percent.
    pub values: Vec<(f64, f64)>,
    /// The last value, in words.
    pub last: String,
    /// The best value, in words.
    pub best: String,
}

impl Run {
    /// The run at a glance.
    pub fn glance(&self) -> Glance {
        let last = self.history.train.last();
        let (epoch, epochs) = (last.map_or(0.0, |record| record.epoch), self.planned_epochs());
        let left = last.zip(epochs).and_then(|(record, epochs)| {
            let seconds = record.elapsed_seconds / record.epoch * (epochs - record.epoch);
            Duration::try_from_secs_f64(seconds.max(0.0)).ok()
        });
        Glance {
            name: format::name(&self.name),
            kind: self.kind().to_owned(),
            epoch,
            epochs,
            losses: self.history.train.iter().map(|record| (record.epoch, record.loss)).collect(),
            images_per_second: last.map_or(0.0, |record| record.images_per_second),
            measured: self.task().and_then(|task| self.decisive(task.metrics().first()?)),
            left: left.filter(|_| self.is_unfinished()),
            finished: self.record.is_some(),
        }
    }

    fn decisive(&self, kind: &'static MetricKind) -> Option<Measured> {
        let scale = if kind.unit == Unit::Share { 100.0 } else { 1.0 };
        let records = || self.history.evaluate.iter().filter_map(|r| Some((r.epoch, r.metrics.get(kind.name)?)));
        let better = |best: (f64, _), next: (f64, _)| -> (f64, &Metric) {
            if Metric::is_better_than(next.1, best.1) { next } else { best }
        };
        let (best_epoch, best) = records().reduce(better)?;
        Some(Measured {
            title: kind.title,
            values: records().map(|(epoch, metric)| (epoch, scale * metric.value)).collect(),
            last: records().next_back().map(|(_, metric)| kind.describe(metric.value)).unwrap_or_default(),
            best: format!("{} at epoch {}", kind.describe(best.value), format::epochs(best_epoch)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::History;

    #[test]
    fn a_run_under_way() {
        let train = |step: u64, epoch: f64, loss: f64, seconds: f64| {
            format!(
                r#"{{"kind":"train","step":{step},"epoch":{epoch},"loss":{loss},"lr":0.1,"gradient_norm":1.0,"images_per_second":50.0,"waited_seconds":0.0,"elapsed_seconds":{seconds}}}"#
            )
        };
        let evaluate = |epoch: f64, top1: f64| {
            format!(
                r#"{{"kind":"evaluate","step":{epoch},"epoch":{epoch}.0,"loss":0.4,"top1":{top1},"weights":"ema"}}"#
            )
        };
        let lines = [train(1, 1.0, 2.0, 10.0), evaluate(1.0, 0.5), train(2, 2.0, 1.5, 20.0), evaluate(2.0, 0.25)];
        let history = History::read(lines.join("\n").as_bytes()).unwrap();
        let recipe = Some("[finetune]\nepochs = 10\n".to_owned());
        let run = Run { name: "a".into(), history, recipe, ..Run::default() };
        let glance = run.glance();
        assert_eq!((glance.kind.as_str(), glance.epoch, glance.epochs), ("finetune", 2.0, Some(10.0)));
        assert_eq!((glance.left, glance.finished), (Some(Duration::from_secs(80)), false));
        let measured = glance.measured.unwrap();
        assert_eq!(measured.values, [(1.0, 50.0), (2.0, 25.0)]);
        assert_eq!((measured.last.as_str(), measured.best.as_str()), ("top-1 25.00 %", "top-1 50.00 % at epoch 1"));
    }
}
