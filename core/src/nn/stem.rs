//! The stem as a module.

use std::{cell::Cell, sync::Arc};

use dfdx::prelude::*;

use super::{
    initialise::normal,
    sparse::{Geometry, Patches, Sparse},
    tape::{Error, Parameters, record},
};
use crate::{
    ops::stem::{self, Gradients, Saved, Weights},
    visibility::Visibility,
};

typed_module! {
    /// Cuts an image `[N, H, W, C_IN]` into `S x S` squares, projects and normalises each: `[N, H_OUT, W_OUT, DIM]`.
    ///
    /// The mathematics is in [`ops::stem`](crate::ops::stem).
    pub struct Stem<H, W, C_IN, S, DIM, H_OUT, W_OUT> {
        /// Convolution, `[S, S, C_IN, DIM]`.
        conv_weight, "conv.weight": (S, S, C_IN, DIM) = normal();
        /// Bias of the convolution, `[DIM]`.
        conv_bias, "conv.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// Scale of the normalisation, `[DIM]`.
        norm_weight, "norm.weight": (DIM) = TensorOptions::reset_to_ones();
        /// Shift of the normalisation, `[DIM]`.
        norm_bias, "norm.bias": (DIM) = TensorOptions::reset_to_zeros();
    }
}

thread_local! {
    /// Whether nobody wants the images' gradient. A tape cannot tell a constant from what it traces.
    static CONSTANT_IMAGES: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; stems in it do not compute the images' gradient.
pub(crate) fn constant_images<R>(work: impl FnOnce() -> R) -> R {
    let before = CONSTANT_IMAGES.replace(true);
    let result = work();
    CONSTANT_IMAGES.set(before);
    result
}

type Image<B, const H: usize, const W: usize, const C: usize, T> =
    Tensor<(B, Const<H>, Const<W>, Const<C>), f32, Cpu, T>;

impl<
    const H: usize,
    const W: usize,
    const C_IN: usize,
    const S: usize,
    const DIM: usize,
    const H_OUT: usize,
    const W_OUT: usize,
> Stem<H, W, C_IN, S, DIM, H_OUT, W_OUT>
{
    /// Computes the cells of visible patches only: `[N, K, P, P, DIM]`.
    pub fn try_forward_visible<const K: usize, const P: usize, B: Dim, T: Tape<f32, Cpu>>(
        &self,
        images: Image<B, H, W, C_IN, T>,
        visible: &Arc<Visibility>,
    ) -> Result<Patches<B, K, P, DIM, T>, Error> {
        let shape = (images.shape().0, Const, Const, Const, Const);
        let tensor = self.run(images, shape, Geometry::Sparse { side: P, visible: visible.clone() })?;
        Ok(Sparse { tensor, visible: visible.clone() })
    }

    fn shape(samples: usize, geometry: &Geometry) -> stem::Shape<'_> {
        stem::Shape { samples, cells: geometry.cells(), stride: S, channels: C_IN, dim: DIM }
    }

    fn run<B: Dim, Out: Shape, T: Tape<f32, Cpu>>(
        &self,
        images: Image<B, H, W, C_IN, T>,
        out: Out,
        geometry: Geometry,
    ) -> Result<Tensor<Out, f32, Cpu, T>, Error> {
        let samples = images.shape().0.size();
        let kept = geometry.clone();
        record(
            images,
            !CONSTANT_IMAGES.get(),
            out,
            self.parameters(),
            |x, parameters, out, keep| {
                let mut saved = Saved::default();
                let shape = Self::shape(samples, &geometry);
                let weights = Weights::named(&shape.layer(), |name, _| parameters.get(name));
                stem::forward(&shape, &weights, x, out, keep.then_some(&mut saved));
                saved
            },
            move |pass| {
                let (shape, mut gradients) = (Self::shape(samples, &kept), pass.parameter_gradients);
                let layer = shape.layer();
                stem::backward(
                    &shape,
                    &Weights::named(&layer, |name, _| pass.parameters.get(name)),
                    pass.input,
                    &pass.saved,
                    pass.output_gradient,
                    (!pass.input_gradient.is_empty()).then_some(pass.input_gradient),
                    Gradients::named(&layer, |name, _| gradients.take(name)),
                );
            },
        )
    }
}

impl<
    const H: usize,
    const W: usize,
    const C_IN: usize,
    const S: usize,
    const DIM: usize,
    const H_OUT: usize,
    const W_OUT: usize,
    B: Dim,
    T: Tape<f32, Cpu>,
> Module<Image<B, H, W, C_IN, T>> for Stem<H, W, C_IN, S, DIM, H_OUT, W_OUT>
{
    type Output = Tensor<(B, Const<H_OUT>, Const<W_OUT>, Const<DIM>), f32, Cpu, T>;
    type Error = Error;

    fn try_forward(&self, images: Image<B, H, W, C_IN, T>) -> Result<Self::Output, Error> {
        let shape = (images.shape().0, Const, Const, Const);
        self.run(images, shape, Geometry::Dense { height: H_OUT, width: W_OUT })
    }
}

impl<
    const H: usize,
    const W: usize,
    const C_IN: usize,
    const S: usize,
    const DIM: usize,
    const H_OUT: usize,
    const W_OUT: usize,
> NonMutableModule for Stem<H, W, C_IN, S, DIM, H_OUT, W_OUT>
{
}
