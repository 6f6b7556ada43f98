//! Downsampling between stages as a module.

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
    ops::downsample::{self, Gradients, Layer, Weights},
    simd::{Kept, Precision},
};

typed_module! {
    /// Normalises every cell of `[N, H, W, DIM]` and joins 2x2 cells into one: `[N, H_OUT, W_OUT, DIM_OUT]`.
    ///
    /// The mathematics is in [`ops::downsample`](crate::ops::downsample).
    pub struct Downsample<H, W, DIM, H_OUT, W_OUT, DIM_OUT> {
        /// Scale of the normalisation, `[DIM]`.
        norm_weight, "norm.weight": (DIM) = TensorOptions::reset_to_ones();
        /// Shift of the normalisation, `[DIM]`.
        norm_bias, "norm.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// Convolution, `[2, 2, DIM, DIM_OUT]`.
        conv_weight, "conv.weight": (2, 2, DIM, DIM_OUT) = normal();
        /// Bias of the convolution, `[DIM_OUT]`.
        conv_bias, "conv.bias": (DIM_OUT) = TensorOptions::reset_to_zeros();
    }
    state {
        /// Of the product.
        precision: Precision;
    }
}

impl<const H: usize, const W: usize, const DIM: usize, const H_OUT: usize, const W_OUT: usize, const DIM_OUT: usize>
    Downsample<H, W, DIM, H_OUT, W_OUT, DIM_OUT>
{
    /// Downsamples the visible patches only: `[N, K, P, P, DIM]` to `[N, K, P_OUT, P_OUT, DIM_OUT]`.
    pub fn try_forward_visible<const K: usize, const P: usize, const P_OUT: usize, B: Dim, T: Tape<f32, Cpu>>(
        &self,
        x: Patches<B, K, P, DIM, T>,
    ) -> Result<Patches<B, K, P_OUT, DIM_OUT, T>, Error> {
        let Sparse { tensor, visible } = x;
        let shape = (tensor.shape().0, Const, Const, Const, Const);
        let tensor = record(&[self], tensor, shape, Some(&visible), false)?;
        Ok(Sparse { tensor, visible })
    }
}

/// A downsampling, with its parameters left out.
#[derive(Debug)]
struct Operator {
    sizes: Sizes,
    frozen: Option<Kept>,
}

/// What both passes need of it.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Height and width of the input's whole grid.
    grid: (usize, usize),
    layer: Layer,
    precision: Precision,
}

impl Sizes {
    fn shape(self, pass: &Pass) -> downsample::Shape<'_> {
        let Layer { channels, dim } = self.layer;
        downsample::Shape { samples: pass.samples, cells: pass.cells(self.grid), channels, dim }
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
        let (sizes, conv) = (self.sizes, self.frozen.as_ref());
        let shape = sizes.shape(pass);
        downsample::forward_frozen(conv, sizes.precision, &shape, &Weights::split(weights, &shape), x, out);
        pass.keeps.then(|| backward(sizes, pass.clone()))
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

fn backward(sizes: Sizes, pass: Pass) -> Backward {
    Box::new(move |gradient| {
        let shape = sizes.shape(&pass);
        let weights = Weights::split(gradient.weights, &shape);
        let gradients = Gradients::split(gradient.gradients, &shape);
        let (x, grad_out, grad_x) = (gradient.x, gradient.grad_out, gradient.grad_x);
        downsample::backward(sizes.precision, &shape, &weights, x, grad_out, grad_x, gradients);
    })
}

impl<const H: usize, const W: usize, const DIM: usize, const H_OUT: usize, const W_OUT: usize, const DIM_OUT: usize>
    Part for Downsample<H, W, DIM, H_OUT, W_OUT, DIM_OUT>
{
    fn operation(&self) -> Box<dyn ModuleOperation> {
        let layer = Layer { channels: DIM, dim: DIM_OUT };
        Box::new(Operator { sizes: Sizes { grid: (H, W), layer, precision: self.precision }, frozen: None })
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
    const DIM: usize,
    const H_OUT: usize,
    const W_OUT: usize,
    const DIM_OUT: usize,
    B: Dim,
    T: Tape<f32, Cpu>,
> Module<Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>> for Downsample<H, W, DIM, H_OUT, W_OUT, DIM_OUT>
{
    type Output = Tensor<(B, Const<H_OUT>, Const<W_OUT>, Const<DIM_OUT>), f32, Cpu, T>;
    type Error = Error;

    fn try_forward(&self, x: Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>) -> Result<Self::Output, Error> {
        let batch = x.shape().0;
        record(&[self], x, (batch, Const, Const, Const), None, false)
    }
}

impl<const H: usize, const W: usize, const DIM: usize, const H_OUT: usize, const W_OUT: usize, const DIM_OUT: usize>
    NonMutableModule for Downsample<H, W, DIM, H_OUT, W_OUT, DIM_OUT>
{
}
