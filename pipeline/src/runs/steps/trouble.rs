//! How much trouble a run may have before it ends: what diverges does not come back by itself.

use std::collections::BTreeMap;

use crate::settings::Run;

/// Steps that may be skipped one after the other: those of an epoch, within these bounds. When every batch of an epoch
/// fails, none will do.
const SKIPS: (u64, u64) = (8, 100);

/// Steps skipped one after the other at the end of a run that are no accident.
const AT_THE_END: u64 = 3;

/// Times that a run may go back without getting past the furthest step that was not finite.
const IN_VAIN: u64 = 5;

/// Times that a run may go back.
const ROLLBACKS: u64 = 50;

/// What was not finite so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Trouble {
    /// Steps that were skipped.
    skipped: u64,
    /// Of them, those since the last update.
    in_a_row: u64,
    /// Times that the run went back.
    rollbacks: u64,
    /// Of them, those since it last got past the furthest step.
    in_vain: u64,
    /// The furthest step that it went back from.
    furthest: u64,
}

impl Trouble {
    /// What a checkpoint kept.
    pub(super) fn of(counters: &BTreeMap<String, f64>) -> Self {
        let number = |name: &str| counters.get(name).map_or(0, |&number| number as u64);
        Self {
            skipped: number("skipped"),
            in_a_row: number("skipped_in_a_row"),
            rollbacks: number("rollbacks"),
            in_vain: number("rollbacks_in_vain"),
            furthest: number("furthest"),
        }
    }

    /// What a checkpoint is to keep.
    pub(super) fn counters(&self) -> BTreeMap<String, f64> {
        let others = [
            ("skipped_in_a_row", self.in_a_row),
            ("rollbacks", self.rollbacks),
            ("rollbacks_in_vain", self.in_vain),
            ("furthest", self.furthest),
        ];
        let others = others.into_iter().filter(|(_, number)| *number > 0);
        let all = [("skipped", self.skipped)].into_iter().chain(others);
        all.map(|(name, number)| (name.to_owned(), number as f64)).collect()
    }

    /// A step was good.
    pub(super) fn updated(&mut self) {
        self.in_a_row = 0;
    }

    /// A step is to be skipped. Says whether it may be.
    pub(super) fn skip(&mut self, run: &Run) -> bool {
        self.skipped += 1;
        self.in_a_row += 1;
        self.in_a_row < run.steps_per_epoch.clamp(SKIPS.0, SKIPS.1).min(run.steps())
    }

    /// The run is to go back from step `step`. Says whether it may.
    pub(super) fn go_back(&mut self, step: u64) -> bool {
        if self.rollbacks == 0 || step > self.furthest {
            (self.in_vain, self.furthest) = (0, step);
        }
        self.in_vain += 1;
        self.rollbacks += 1;
        self.in_vain <= IN_VAIN && self.rollbacks <= ROLLBACKS
    }

    /// Whether a run that ends now, and whose weights nobody measured, ends with steps that are no accident.
    pub(super) fn ends_badly(&self) -> bool {
        self.in_a_row >= AT_THE_END
    }

    /// Steps skipped since the last update.
    pub(super) fn in_a_row(&self) -> u64 {
        self.in_a_row
    }

    /// Times that the run went back.
    pub(super) fn rollbacks(&self) -> u64 {
        self.rollbacks.saturating_sub(1)
    }

    /// The furthest step that it went back from.
    pub(super) fn furthest(&self) -> u64 {
        self.furthest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_is_bounded_by_progress_and_by_count() {
        let mut stuck = Trouble::default();
        assert_eq!((0..9).take_while(|_| stuck.go_back(7)).count(), 5);
        assert_eq!((stuck.rollbacks(), stuck.furthest()), (5, 7));
        let mut before = Trouble::default();
        assert!(before.go_back(7));
        assert_eq!((0..9).take_while(|_| before.go_back(3)).count(), 4, "an earlier step is no progress");
        let mut slow = Trouble::default();
        assert_eq!((0..999).take_while(|&step| slow.go_back(step)).count(), 50);
    }

    #[test]
    fn a_checkpoint_keeps_it() {
        let trouble = Trouble { skipped: 1, in_a_row: 2, rollbacks: 3, in_vain: 4, furthest: 5 };
        assert_eq!(Trouble::of(&trouble.counters()), trouble);
        assert_eq!(Trouble::default().counters().len(), 1);
    }
}
