//! What generated code calls: one training step or one inference pass of a typed model, on plain buffers.

use std::sync::Arc;

use dfdx::prelude::*;

use super::{
    cross_entropy::soft_cross_entropy,
    prediction::{Prediction, Target},
    tape::{Error, values},
};
use crate::visibility::Visibility;

/// A batch of images of constant size, `[N, H, W, C]`.
type Images<const H: usize, const W: usize, const C: usize, T = NoneTape> =
    Tensor<(usize, Const<H>, Const<W>, Const<C>), f32, Cpu, T>;

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
    images: Vec<f32>,
    targets: Vec<f32>,
    samples: usize,
    gradients: Gradients<f32, Cpu>,
) -> Result<(f32, Gradients<f32, Cpu>), Error>
where
    M: ModuleMut<
            Images<H, W, C, OwnedTape<f32, Cpu>>,
            Output = Logits<CLASSES, OwnedTape<f32, Cpu>>,
            Error = Error,
        >,
{
    let images: Images<H, W, C> = device.try_tensor_from_vec(images, (samples, Const, Const, Const))?;
    let logits = model.try_forward_mut(images.traced(gradients))?;
    let loss = soft_cross_entropy(logits, targets)?;
    Ok((loss.array(), loss.try_backward()?))
}

/// Adds the gradients of the masked mean squared error to those on the features' tape, and returns the loss with them.
///
/// `features` are the decoder's, `[N, H, W, DEC]`; `images` those that were masked, `[N, H * S, W * S, C]`.
pub fn autoencoder_step<const H: usize, const W: usize, const DEC: usize, const OUT: usize>(
    prediction: &Prediction<H, W, DEC, OUT>,
    features: Tensor<(usize, Const<H>, Const<W>, Const<DEC>), f32, Cpu, OwnedTape<f32, Cpu>>,
    images: Vec<f32>,
    visible: &Arc<Visibility>,
    stride: usize,
    normalised: bool,
) -> Result<(f32, Gradients<f32, Cpu>), Error> {
    let target = Target { images, visible: visible.clone(), stride, channels: OUT / (stride * stride), normalised };
    let loss = prediction.try_loss(features, target)?;
    Ok((loss.array(), loss.try_backward()?))
}

/// Predictions `[N, L, P * P * C]` of every patch from the decoder's features `[N, H, W, DEC]`.
pub fn predictions<const H: usize, const W: usize, const DEC: usize, const OUT: usize>(
    prediction: &Prediction<H, W, DEC, OUT>,
    features: &Tensor<(usize, Const<H>, Const<W>, Const<DEC>), f32, Cpu>,
    visible: &Arc<Visibility>,
    stride: usize,
) -> Vec<f32> {
    let channels = OUT / (stride * stride);
    let target = Target { images: Vec::new(), visible: visible.clone(), stride, channels, normalised: false };
    prediction.predict_patches(features, &target)
}
