//! When a run ends before its last step: after so many measurements without a better one.
//!
//! It follows from the recorded measurements alone, so that a run which was resumed ends where one ends that nobody interrupted.

use crate::{
    records::{EvaluateRecord, MetricKind},
    settings::Stop,
};

/// The measurements of a run, by the metric that decides, and how long it goes on without a better one.
#[derive(Debug)]
pub(crate) struct Patience {
    decides: Option<(Stop, MetricKind)>,
    /// Step and value of each measurement.
    measured: Vec<(u64, f64)>,
}

impl Patience {
    /// With the measurements so far; without `stop`, or where nothing is measured, it has no end.
    pub(crate) fn new(stop: Option<Stop>, metrics: &[MetricKind], so_far: &[EvaluateRecord]) -> Self {
        let mut patience = Self { decides: stop.zip(metrics.first().copied()), measured: Vec::new() };
        so_far.iter().for_each(|record| patience.add(record));
        patience
    }

    /// Adds a measurement; of several at one step the last counts.
    pub(crate) fn add(&mut self, record: &EvaluateRecord) {
        let Some((_, kind)) = self.decides else { return };
        let Some(value) = record.metrics.value(kind.name) else { return };
        self.forget_after(record.step.saturating_sub(1));
        self.measured.push((record.step, value));
    }

    /// Forgets what was measured after `step`.
    pub(crate) fn forget_after(&mut self, step: u64) {
        self.measured.retain(|(measured, _)| *measured <= step);
    }

    /// Why the run ends where it is; `None` if it goes on.
    pub(crate) fn ended(&self) -> Option<String> {
        let (Stop { patience, min_delta }, kind) = self.decides?;
        let (mut best, mut since) = (*self.measured.first()?, 0);
        for &(step, value) in &self.measured[1..] {
            since += 1;
            if kind.better.is_better_by(value, best.1, min_delta) {
                (best, since) = ((step, value), 0);
            }
        }
        let (step, value) = best;
        (since >= patience).then(|| {
            let best = kind.describe(value);
            format!("no measurement was better since {best} at step {step}, and stop.patience is {patience}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        records::{Better, Unit, Weights},
        tasks::classify::metrics::TOP1,
    };

    fn record(step: u64, value: f64) -> EvaluateRecord {
        EvaluateRecord { step, epoch: 0.0, metrics: TOP1.of(value).into(), weights: Weights::Model }
    }

    /// The steps at which a run with these measurements would end.
    fn ends(stop: Stop, kind: MetricKind, values: &[f64]) -> Option<usize> {
        let mut patience = Patience::new(Some(stop), &[kind], &[]);
        values.iter().zip(1..).position(|(value, step)| {
            patience.add(&record(step, *value));
            patience.ended().is_some()
        })
    }

    #[test]
    fn a_run_ends_when_nothing_gets_better() {
        let stop = |patience, min_delta| Stop { patience, min_delta };
        let values = [0.5, 0.6, 0.6, 0.55, 0.61, 0.5, 0.6];
        assert_eq!(ends(stop(1, 0.0), TOP1, &values), Some(2));
        assert_eq!(ends(stop(2, 0.0), TOP1, &values), Some(3));
        assert_eq!(ends(stop(3, 0.0), TOP1, &values), None);
        assert_eq!(ends(stop(3, 0.05), TOP1, &values), Some(4), "0.61 is not much better than 0.6");
        assert_eq!(ends(stop(2, 0.0), TOP1, &[f64::NAN, 0.1, f64::NAN, 0.2]), None, "a number is better than none");
        let error = MetricKind { name: "top1", title: "error", better: Better::Lower, unit: Unit::Number, curve: None };
        assert_eq!(ends(stop(2, 0.0), error, &[0.5, 0.4, 0.3, 0.3, 0.31]), Some(4));
        assert_eq!(Patience::new(None, &[TOP1], &[record(1, 0.5), record(2, 0.1)]).ended(), None);
    }

    #[test]
    fn what_a_run_goes_back_behind_is_forgotten() {
        let stop = Stop { patience: 2, min_delta: 0.0 };
        let mut patience = Patience::new(Some(stop), &[TOP1], &[record(1, 0.9), record(2, 0.5)]);
        patience.add(&record(3, 0.5));
        assert!(patience.ended().unwrap().contains("top-1 90.00 % at step 1"));
        patience.forget_after(2);
        assert_eq!(patience.ended(), None);
        patience.add(&record(2, 0.95));
        patience.add(&record(3, 0.5));
        assert_eq!(patience.ended(), None, "the later measurement of a step replaces the earlier");
    }
}
