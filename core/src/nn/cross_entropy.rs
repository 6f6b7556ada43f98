//! Cross entropy against soft targets: as the last operation of a chain, and on dfdx's tape.

use std::sync::Arc;

use dfdx::prelude::*;

use super::{
    operation::{Backward, Operation, Pass},
    tape::record_operations,
    tensor::Error,
};
use crate::ops::cross_entropy;

/// Mean cross entropy of logits `[N, CLASSES]` against `targets [N, CLASSES]`, each row a distribution.
///
/// The mathematics is in [`ops::cross_entropy`](crate::ops::cross_entropy).
pub fn soft_cross_entropy<B: Dim, const CLASSES: usize, T: Tape<f32, Cpu>>(
    logits: Tensor<(B, Const<CLASSES>), f32, Cpu, T>,
    targets: Vec<f32>,
) -> Result<Tensor<Rank0, f32, Cpu, T>, Error> {
    record_operations(&[&CrossEntropy::new(CLASSES, targets)], Vec::new(), logits, (), None, false)
}

/// The loss against these targets.
#[derive(Debug)]
pub(crate) struct CrossEntropy {
    classes: usize,
    targets: Arc<[f32]>,
}

impl CrossEntropy {
    pub(crate) fn new(classes: usize, targets: Vec<f32>) -> Self {
        Self { classes, targets: targets.into() }
    }
}

impl Operation for CrossEntropy {
    fn parameters(&self) -> usize {
        0
    }

    fn output(&self, _: &Pass) -> usize {
        1
    }

    fn forward(&self, pass: &Pass, _: &[f32], logits: &[f32], out: &mut [f32]) -> Option<Backward> {
        out[0] = cross_entropy::forward(self.classes, logits, &self.targets);
        let (classes, targets) = (self.classes, self.targets.clone());
        pass.keeps.then(|| -> Backward {
            Box::new(move |gradient| {
                cross_entropy::backward(classes, gradient.x, &targets, gradient.grad_out[0], gradient.grad_x);
            })
        })
    }
}
