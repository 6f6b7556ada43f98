//! Cross entropy against soft targets.
//!
//! ```text
//! loss    = mean_n sum_c t_nc (logsumexp(z_n) - z_nc)          z logits, t targets
//! dloss/dz_nc = (sum_k t_nk softmax(z_n)_c - t_nc) / N
//! ```
//!
//! A sample's targets are weights of the classes, usually of sum 1: a one-hot row, smoothed or mixed. The logsumexp
//! is taken from the largest logit down, so that no logit overflows.

mod cpu;
pub mod cuda;
pub mod reference;

use crate::profile::timed;

/// Loss of `logits [N, CLASSES]` against `targets [N, CLASSES]`, the mean over the samples.
pub fn forward(classes: usize, logits: &[f32], targets: &[f32]) -> f32 {
    check(classes, logits, targets);
    timed!(Operation, "cross entropy forward");
    cpu::forward(classes, logits, targets)
}

/// Adds the gradient of `grad_loss * loss` to `grad_logits`.
pub fn backward(classes: usize, logits: &[f32], targets: &[f32], grad_loss: f32, grad_logits: &mut [f32]) {
    check(classes, logits, targets);
    assert_eq!(grad_logits.len(), logits.len(), "length of the logits' gradient");
    timed!(Operation, "cross entropy backward");
    cpu::backward(classes, logits, targets, grad_loss, grad_logits);
}

fn check(classes: usize, logits: &[f32], targets: &[f32]) {
    assert!(classes > 0 && logits.len().is_multiple_of(classes), "length of the logits");
    assert_eq!(targets.len(), logits.len(), "length of the targets");
}
