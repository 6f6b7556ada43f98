//! The learning rate, a pure function of the step.

use std::f64::consts::PI;

/// Linear warm-up, then half a cosine.
///
/// For step `t` counted from 0, with `w` warm-up steps of `T`:
///
/// ```text
/// t < w:  start + (peak - start) t / w
/// else:   end + (peak - end) (1 + cos(pi (t - w) / (T - w))) / 2
/// ```
///
/// Steps are optimiser steps: gradients accumulated over several batches make one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    /// Rate at step 0 of the warm-up; 0 in the paper.
    pub start: f64,
    /// Rate at the end of the warm-up.
    pub peak: f64,
    /// Rate that the cosine runs down to at step `total`.
    pub end: f64,
    /// Warm-up steps `w`; 0 for none.
    pub warmup: u64,
    /// Steps `T` of the run.
    pub total: u64,
}

impl LearningRate {
    /// The learning rate of step `step`, counted from 0; from `total` on it stays at `end`.
    pub fn lr(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.start + (self.peak - self.start) * step as f64 / self.warmup as f64;
        }
        if step >= self.total {
            return self.end;
        }
        let done = (step - self.warmup) as f64 / (self.total - self.warmup) as f64;
        self.end + (self.peak - self.end) * 0.5 * (1.0 + (PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAPER: LearningRate = LearningRate { start: 0.0, peak: 2.4e-3, end: 1e-6, warmup: 40, total: 800 };

    #[test]
    fn warms_up_linearly() {
        assert_eq!(PAPER.lr(0), 0.0);
        assert!((PAPER.lr(10) - 0.6e-3).abs() < 1e-12);
        assert_eq!(PAPER.lr(40), 2.4e-3);
    }

    #[test]
    fn runs_down_as_a_cosine() {
        assert!((PAPER.lr(420) - (2.4e-3 + 1e-6) / 2.0).abs() < 1e-12);
        assert!(PAPER.lr(799) > 1e-6);
        assert_eq!(PAPER.lr(800), 1e-6);
        assert_eq!(PAPER.lr(10_000), 1e-6);
        assert!((40..799).all(|t| PAPER.lr(t + 1) < PAPER.lr(t)));
    }

    #[test]
    fn warm_up_may_be_absent_or_start_above_zero() {
        let none = LearningRate { warmup: 0, ..PAPER };
        assert_eq!(none.lr(0), 2.4e-3);
        let raised = LearningRate { start: 1e-4, ..PAPER };
        assert_eq!(raised.lr(0), 1e-4);
    }

    #[test]
    fn warm_up_may_fill_the_run() {
        let all = LearningRate { warmup: 10, total: 10, ..PAPER };
        assert!((0..=11).all(|t| all.lr(t).is_finite()));
    }
}
