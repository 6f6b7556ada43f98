//! Cross entropy in plain loops: the specification.

/// Mean loss of `logits [N, CLASSES]` against soft `targets [N, CLASSES]`.
pub fn forward(classes: usize, logits: &[f64], targets: &[f64]) -> f64 {
    let samples = logits.len() / classes;
    let mut loss = 0.0;
    for (z, t) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
        let logsumexp = logsumexp(z);
        for c in 0..classes {
            loss += t[c] * (logsumexp - z[c]) / samples as f64;
        }
    }
    loss
}

/// Adds the gradient of `grad_loss * loss`.
pub fn backward(classes: usize, logits: &[f64], targets: &[f64], grad_loss: f64, grad_logits: &mut [f64]) {
    let samples = logits.len() / classes;
    for sample in 0..samples {
        let (z, t) = (&logits[sample * classes..][..classes], &targets[sample * classes..][..classes]);
        let (logsumexp, weight) = (logsumexp(z), t.iter().sum::<f64>());
        for c in 0..classes {
            let softmax = (z[c] - logsumexp).exp();
            grad_logits[sample * classes + c] += grad_loss * (weight * softmax - t[c]) / samples as f64;
        }
    }
}

fn logsumexp(z: &[f64]) -> f64 {
    let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    top + z.iter().map(|z| (z - top).exp()).sum::<f64>().ln()
}
