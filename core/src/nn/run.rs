//! What generated code calls: one training step or one inference pass of a typed model, on plain buffers.

use std::sync::Arc;

use dfdx::prelude::*;

use super::{
    cross_entropy::soft_cross_entropy,
    prediction::{Prediction, Target},
    stem::constant_images,
    tape::{Error, values},
};
use crate::visibility::Visibility;

/// A batch of images of constant size, `[N, H, W, C]`.
type Images<const H: usize, const W: usize, const C: usize, T = NoneTape> =
    Tensor<(usize, Const<H>, Const<W>, Const<C>), f32, Cpu, T>;

/// The tape of a training step.
type Tracing = OwnedTape<f32, Cpu>;

/// The decoder's features, `[N, H, W, DEC]`, on that tape.
type Features<const H: usize, const W: usize, const DEC: usize> =
    Tensor<(usize, Const<H>, Const<W>, Const<DEC>), f32, Cpu, Tracing>;

/// A batch of logits, `[N, CLASSES]`.
type Logits<const CLASSES: usize, T = NoneTape> = Tensor<(usize, Const<CLASSES>), f32, Cpu, T>;

/// Logits `[N, CLASSES]` of `samples` images `[N, H, W, C]`.
pub fn logits<const H: usize, const W: usize, const C: usize, const CLASSES: usize, M>(
    model: &M,
    device: &Cpu,
    images: Vec<f32>,
    samples: usize,
) -> Result<Vec<f32>, Error>
where
    M: Module<Images<H, W, C>, Output = Logits<CLASSES>, Error = Error>,
{
    let images = device.try_tensor_from_vec(images, (samples, Const, Const, Const))?;
    Ok(values(&model.try_forward(images)?))
}

/// Adds the gradients of the mean cross entropy to `gradients`, and returns the loss with them.
pub fn classifier_step<const H: usize, const W: usize, const C: usize, const CLASSES: usize, M>(
    model: &mut M,
    device: &Cpu,
    images: &[f32],
    targets: Vec<f32>,
    samples: usize,
    gradients: Gradients<f32, Cpu>,
) -> Result<(f32, Gradients<f32, Cpu>), Error>
where
    M: ModuleMut<Images<H, W, C, Tracing>, Output = Logits<CLASSES, Tracing>, Error = Error>,
{
    let images: Images<H, W, C> = device.try_tensor_from_vec(images.to_vec(), (samples, Const, Const, Const))?;
    let logits = constant_images(|| model.try_forward_mut(images.traced(gradients)))?;
    finish(soft_cross_entropy(logits, targets)?)
}

/// Adds the gradients of the masked mean squared error to `gradients`, and returns the loss with them.
///
/// `decode` gives the decoder's features, `[N, H, W, DEC]`, of `images [N, H * S, W * S, C]`.
#[expect(clippy::too_many_arguments, reason = "called by generated code only")]
pub fn autoencoder_step<
    const H: usize,
    const W: usize,
    const DEC: usize,
    const OUT: usize,
    const HEIGHT: usize,
    const WIDTH: usize,
    const C: usize,
>(
    prediction: &Prediction<H, W, DEC, OUT>,
    device: &Cpu,
    images: &[f32],
    visible: &Arc<Visibility>,
    gradients: Gradients<f32, Cpu>,
    stride: usize,
    normalised: bool,
    decode: impl FnOnce(Images<HEIGHT, WIDTH, C, Tracing>) -> Result<Features<H, W, DEC>, Error>,
) -> Result<(f32, Gradients<f32, Cpu>), Error> {
    let target = Target { visible: visible.clone(), stride, channels: C, normalised };
    let tensor: Images<HEIGHT, WIDTH, C> =
        device.try_tensor_from_vec(images.to_vec(), (visible.samples(), Const, Const, Const))?;
    let features = constant_images(|| decode(tensor.traced(gradients)))?;
    finish(prediction.try_loss(features, images, target)?)
}

/// Runs the backward pass.
fn finish(loss: Tensor<Rank0, f32, Cpu, Tracing>) -> Result<(f32, Gradients<f32, Cpu>), Error> {
    let value = loss.array();
    Ok((value, loss.try_backward()?))
}

/// Predictions `[N, L, P * P * C]` of every patch from the decoder's features `[N, H, W, DEC]`.
pub fn predictions<const H: usize, const W: usize, const DEC: usize, const OUT: usize>(
    prediction: &Prediction<H, W, DEC, OUT>,
    features: &Tensor<(usize, Const<H>, Const<W>, Const<DEC>), f32, Cpu>,
    visible: &Arc<Visibility>,
    stride: usize,
) -> Vec<f32> {
    let channels = OUT / (stride * stride);
    let target = Target { visible: visible.clone(), stride, channels, normalised: false };
    prediction.predict_patches(features, &target)
}
