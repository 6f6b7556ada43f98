//! Cross entropy on CUDA: loss and gradient in one pass.

use crate::launch::{
    element::Element,
    kernel::{Module, Source},
    kernels::reduce::sum_all,
    schedule::{Argument::*, Schedule, ScheduleError, View},
    tile::THREADS,
};

/// The kernel.
pub static CROSS_ENTROPY: Source =
    Source { name: "cross_entropy.cu", text: include_str!("cross_entropy.cu"), kernels: &["cross_entropy"] };

/// Sizes of a loss, and how logits are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Classes.
    pub classes: usize,
    /// Type of the logits.
    pub real: Element,
}

impl Shape {
    fn module(&self) -> Module {
        Module::new(&CROSS_ENTROPY, self.real).with("CLASSES", self.classes).with("THREADS", THREADS)
    }

    /// The kernel files that the loss needs.
    pub fn modules(&self) -> Vec<Module> {
        vec![self.module()]
    }
}

/// Writes the mean loss of `logits [N, CLASSES]` against `targets [N, CLASSES]`, f32, to `loss [1]`, f32, and turns the
/// logits into the gradient of `grad_loss * loss`.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn forward_backward(
    schedule: &mut Schedule,
    shape: &Shape,
    logits: View,
    targets: View,
    grad_loss: f32,
    loss: View,
) -> Result<(), ScheduleError> {
    let losses = schedule.temporary("cross entropies", Element::F32, shape.samples);
    let share = 1.0 / shape.samples as f32;
    let arguments = [Update(logits), Read(targets), Update(logits), Write(losses), Float(share * grad_loss)];
    schedule.launch(&shape.module(), "cross_entropy", [shape.samples, 1, 1], THREADS, arguments)?;
    sum_all(schedule, losses, share, loss)
}
