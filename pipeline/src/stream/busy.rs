//! Where the time of the pipeline goes.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Time that all workers have spent in each stage, counted while they work.
#[derive(Debug)]
pub(super) struct Times(Vec<(&'static str, AtomicU64)>);

impl Times {
    pub(super) fn of(stages: impl Iterator<Item = &'static str>) -> Self {
        Self(stages.map(|name| (name, AtomicU64::new(0))).collect())
    }

    /// Adds what the `stage`-th stage took.
    pub(super) fn add(&self, stage: usize, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0[stage].1.fetch_add(took, Ordering::Relaxed);
    }

    fn seconds(&self) -> Vec<(&'static str, f64)> {
        self.0.iter().map(|(name, time)| (*name, time.load(Ordering::Relaxed) as f64 / 1e9)).collect()
    }
}

/// What the pipeline and the model have done by some moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Busy {
    /// Seconds of all workers in each stage, in their order.
    pub stages: Vec<(&'static str, f64)>,
    /// Worker threads.
    pub workers: usize,
    /// How often a batch was asked for, and how often one was ready.
    pub asked: u64,
    /// Those that waited in the queue already.
    pub ready: u64,
    /// Seconds that the model waited.
    pub waited: f64,
}

impl Busy {
    pub(super) fn now(times: &Times, workers: usize, (asked, ready): (u64, u64), waited: Duration) -> Self {
        Self { stages: times.seconds(), workers, asked, ready, waited: waited.as_secs_f64() }
    }

    /// What came after `before`, a moment of the same stream or none.
    pub fn since(&self, before: &Self) -> Self {
        let mut after = self.clone();
        after.stages.iter_mut().zip(&before.stages).for_each(|((_, seconds), (_, were))| *seconds -= were);
        after.asked -= before.asked;
        after.ready -= before.ready;
        after.waited -= before.waited;
        after
    }

    /// The share of the workers' time that each stage took, in `seconds` of the clock.
    pub fn shares(&self, seconds: f64) -> BTreeMap<String, f64> {
        let all = seconds * self.workers as f64;
        self.stages.iter().map(|(name, took)| ((*name).to_owned(), if all > 0.0 { took / all } else { 0.0 })).collect()
    }

    /// What held the model up, if it waited for more than a fiftieth of so many seconds while the workers were busy, and what
    /// to change. Of a few seconds nothing can be said: the first batches are always waited for.
    pub fn bottleneck(&self, seconds: f64) -> Option<String> {
        let all: f64 = self.stages.iter().map(|(_, took)| took).sum();
        let (waited, busy) = (self.waited / seconds, all / (seconds * self.workers as f64));
        if seconds < 10.0 || waited <= 0.02 || busy < 0.5 {
            return None;
        }
        let (name, took) = self.stages.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let change = match *name {
            "read" => "put the images on a faster disk, or pack them smaller (`pack --resize`)",
            "decode" => "pack them smaller (`pack --resize`) or raw (`--format raw`), or raise machine.workers",
            _ => "raise machine.workers, or leave augmentations out",
        };
        Some(format!(
            "the model waited for images {:.0} % of the time, while the workers spent {:.0} % of theirs in `{name}`: {change}",
            100.0 * waited,
            100.0 * took / all,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_all_workers_since_a_moment() {
        let times = Times::of(["decode", "augment"].into_iter());
        times.add(0, Duration::from_secs(2));
        let before = Busy::now(&times, 2, (3, 3), Duration::from_secs(1));
        times.add(0, Duration::from_secs(6));
        times.add(1, Duration::from_secs(1));
        let busy = Busy::now(&times, 2, (13, 4), Duration::from_secs(3)).since(&before);
        assert_eq!(busy.shares(4.0), [("augment".to_owned(), 0.125), ("decode".to_owned(), 0.75)].into());
        assert_eq!((busy.asked, busy.ready, busy.waited), (10, 1, 2.0));
        let slow = Busy { stages: vec![("read", 3.0), ("decode", 15.0)], workers: 2, waited: 2.5, ..Busy::default() };
        let said = slow.bottleneck(10.0).unwrap();
        assert!(said.contains("25 % of the time") && said.contains("83 % of theirs in `decode`: pack"), "{said}");
        assert_eq!([slow.bottleneck(9.0), slow.bottleneck(200.0), busy.bottleneck(10.0)], [None, None, None]);
    }
}
