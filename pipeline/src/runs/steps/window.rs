//! What has happened since the last record of progress.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    progress::Now,
    records::{LoadingRecord, TrainRecord},
    settings::Run,
    stream::Busy,
};

/// Names of what a checkpoint keeps of it, so that a run that is resumed makes the records of one that was not.
const LOSSES: &str = "window_losses";
const STEPS: &str = "window_steps";
/// Counters are finite: this one is there if the sum of the losses is not.
const NOT_FINITE: &str = "window_not_finite";

/// Sums since the last record.
pub(super) struct Window {
    begin: Instant,
    /// Time that was no step's.
    aside: Duration,
    /// What the stream had done when it began.
    before: Busy,
    losses: f64,
    steps: u64,
    /// Of them, those that this process made.
    made: u64,
}

impl Window {
    fn new(before: Busy) -> Self {
        Self { begin: Instant::now(), aside: Duration::ZERO, before, losses: 0.0, steps: 0, made: 0 }
    }

    /// What a checkpoint kept, with a new stream.
    pub(super) fn of(counters: &BTreeMap<String, f64>) -> Self {
        let number = |name| counters.get(name).copied();
        let losses = if number(NOT_FINITE).is_some() { f64::NAN } else { number(LOSSES).unwrap_or(0.0) };
        Self { losses, steps: number(STEPS).unwrap_or(0.0) as u64, ..Self::new(Busy::default()) }
    }

    /// What a checkpoint is to keep: nothing right after a record.
    pub(super) fn counters(&self) -> Vec<(String, f64)> {
        if self.steps == 0 {
            return Vec::new();
        }
        let losses = if self.losses.is_finite() { (LOSSES, self.losses) } else { (NOT_FINITE, 1.0) };
        [losses, (STEPS, self.steps as f64)].map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// Adds a step's loss.
    pub(super) fn add(&mut self, loss: f64) {
        self.losses += loss;
        self.steps += 1;
        self.made += 1;
    }

    /// Leaves out time that went into something else than steps.
    pub(super) fn leave_out(&mut self, aside: Duration) {
        self.aside += aside;
    }

    fn seconds(&self) -> f64 {
        self.begin.elapsed().saturating_sub(self.aside).as_secs_f64().max(1e-9)
    }

    /// The present moment; `busy` is what the stream has done by now.
    pub(super) fn now(&self, step: u64, images_per_step: u64, busy: &Busy) -> Now {
        let seconds = self.seconds();
        Now {
            step,
            loss: self.losses / self.steps.max(1) as f64,
            images_per_second: (self.made * images_per_step) as f64 / seconds,
            waiting: (busy.waited - self.before.waited) / seconds,
        }
    }

    /// The record after `step` steps and `elapsed` seconds, the last step at rate `lr` with a gradient of `norm`; begins anew.
    pub(super) fn record(&mut self, step: u64, run: &Run, lr: f64, norm: f64, busy: Busy, elapsed: f64) -> TrainRecord {
        let now = self.now(step, run.images_per_step, &busy);
        let lately = busy.since(&self.before);
        let ready = lately.ready as f64 / lately.asked.max(1) as f64;
        let record = TrainRecord {
            step,
            epoch: step as f64 / run.steps_per_epoch as f64,
            loss: now.loss,
            lr,
            gradient_norm: norm,
            images_per_second: now.images_per_second,
            waited_seconds: lately.waited,
            elapsed_seconds: elapsed,
            loading: Some(LoadingRecord { ready, busy: lately.shares(self.seconds()) }),
        };
        *self = Self::new(busy);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_aside_is_no_step_s() {
        let mut window = Window::new(Busy::default());
        window.begin -= Duration::from_secs(100);
        window.leave_out(Duration::from_secs(90));
        window.add(2.0);
        window.add(4.0);
        let now = window.now(2, 50, &Busy { waited: 5.0, ..Busy::default() });
        assert_eq!(now.loss, 3.0);
        assert!((9.9..=10.0).contains(&now.images_per_second), "{now:?}");
        assert!((0.49..=0.5).contains(&now.waiting), "{now:?}");
    }

    #[test]
    fn a_checkpoint_keeps_it() {
        let mut window = Window::new(Busy::default());
        assert!(window.counters().is_empty());
        window.add(0.1);
        window.add(0.2);
        let kept = Window::of(&window.counters().into_iter().collect());
        assert_eq!((kept.losses, kept.steps, kept.made), (0.1 + 0.2, 2, 0));
        window.add(f64::NAN);
        let kept = Window::of(&window.counters().into_iter().collect());
        assert!(kept.losses.is_nan() && kept.steps == 3);
    }
}
