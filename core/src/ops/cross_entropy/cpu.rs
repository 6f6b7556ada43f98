//! Cross entropy on the CPU: exponentials in f32, sums in f64, losses added in the order of the samples.

use rayon::prelude::*;

pub(super) fn forward(classes: usize, logits: &[f32], targets: &[f32]) -> f32 {
    let samples = logits.par_chunks_exact(classes).zip(targets.par_chunks_exact(classes));
    let losses: Vec<f64> = samples.map(|(logits, targets)| loss(logits, targets)).collect();
    (losses.iter().sum::<f64>() / losses.len().max(1) as f64) as f32
}

fn loss(logits: &[f32], targets: &[f32]) -> f64 {
    let (top, total) = exponentials(logits);
    let weighted = logits.iter().zip(targets).map(|(z, t)| f64::from(*t) * f64::from(z - top));
    let weight: f64 = targets.iter().map(|&t| f64::from(t)).sum();
    weight * total.ln() - weighted.sum::<f64>()
}

/// The largest logit, and `sum_c exp(z_c - largest)`.
fn exponentials(logits: &[f32]) -> (f32, f64) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (top, logits.iter().map(|z| f64::from((z - top).exp())).sum())
}

pub(super) fn backward(classes: usize, logits: &[f32], targets: &[f32], grad_loss: f32, grad_logits: &mut [f32]) {
    let scale = f64::from(grad_loss) / (logits.len() / classes) as f64;
    let samples = logits.par_chunks_exact(classes).zip(targets.par_chunks_exact(classes));
    grad_logits.par_chunks_exact_mut(classes).zip(samples).for_each(|(grad, (logits, targets))| {
        let (top, total) = exponentials(logits);
        let weight: f64 = targets.iter().map(|&t| f64::from(t)).sum();
        let rate = (scale * weight / total) as f32;
        for ((grad, z), t) in grad.iter_mut().zip(logits).zip(targets) {
            *grad += rate * (z - top).exp() - scale as f32 * t;
        }
    });
}
