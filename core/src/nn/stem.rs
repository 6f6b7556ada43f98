//! The stem as a module.

use std::sync::Arc;

use dfdx::prelude::*;

use super::{
    initialise::normal,
    operation::{Backward, ModuleOperation, Operation, Pass},
    part::Part,
    sparse::{Patches, Sparse},
    tape::record,
    tensor::{Error, Parameter},
};
use crate::{
    ops::stem::{self, Gradients, Layer, Saved, Weights},
    simd::{Kept, Precision},
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
    state {
        /// Of the product.
        precision: Precision;
    }
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
        let tensor = record(&[self], images, shape, Some(visible), false)?;
        Ok(Sparse { tensor, visible: visible.clone() })
    }
}

/// A stem, with its parameters left out.
#[derive(Debug)]
struct Operator {
    sizes: Sizes,
    frozen: Option<Kept>,
}

/// What both passes need of it.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Height and width of the output's whole grid.
    grid: (usize, usize),
    layer: Layer,
    precision: Precision,
}

impl Sizes {
    fn shape(self, pass: &Pass) -> stem::Shape<'_> {
        let Layer { stride, channels, dim } = self.layer;
        stem::Shape { samples: pass.samples, cells: pass.cells(self.grid), stride, channels, dim }
    }
}

impl Operation for Operator {
    fn parameters(&self) -> usize {
        self.sizes.layer.parameters()
    }

    fn output(&self, pass: &Pass) -> usize {
        self.sizes.shape(pass).output()
    }

    fn forward(&self, pass: &Pass, weights: &[f32], x: &[f32], out: &mut [f32]) -> Option<Backward> {
        let (sizes, mut saved) = (self.sizes, Saved::default());
        let (shape, conv) = (sizes.shape(pass), self.frozen.as_ref());
        let (weights, saving) = (Weights::split(weights, &shape), pass.keeps.then_some(&mut saved));
        stem::forward_frozen(conv, sizes.precision, &shape, &weights, x, out, saving);
        pass.keeps.then(|| backward(sizes, pass.clone(), saved))
    }
}

impl ModuleOperation for Operator {
    fn set_precision(&mut self, precision: Precision) {
        self.sizes.precision = precision;
    }

    fn frozen(&self) -> Box<dyn ModuleOperation> {
        Box::new(Self { sizes: self.sizes, frozen: Some(Kept::default()) })
    }
}

fn backward(sizes: Sizes, pass: Pass, saved: Saved) -> Backward {
    Box::new(move |gradient| {
        let shape = sizes.shape(&pass);
        stem::backward(
            sizes.precision,
            &shape,
            &Weights::split(gradient.weights, &shape),
            gradient.x,
            &saved,
            gradient.grad_out,
            (!gradient.grad_x.is_empty()).then_some(gradient.grad_x),
            Gradients::split(gradient.gradients, &shape),
        );
    })
}

impl<
    const H: usize,
    const W: usize,
    const C_IN: usize,
    const S: usize,
    const DIM: usize,
    const H_OUT: usize,
    const W_OUT: usize,
> Part for Stem<H, W, C_IN, S, DIM, H_OUT, W_OUT>
{
    fn operation(&self) -> Box<dyn ModuleOperation> {
        let layer = Layer { stride: S, channels: C_IN, dim: DIM };
        Box::new(Operator { sizes: Sizes { grid: (H_OUT, W_OUT), layer, precision: self.precision }, frozen: None })
    }

    fn tensors(&self) -> Vec<&dyn Parameter> {
        self.list()
    }

    fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
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
        record(&[self], images, shape, None, false)
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
