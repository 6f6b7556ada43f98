//! Downsampling between stages as a module.

use dfdx::prelude::*;

use super::{
    initialise::normal,
    sparse::{Geometry, Patches, Sparse},
    tape::{Error, Parameters, record},
};
use crate::ops::downsample::{self, Gradients, Weights};

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
        let batch = tensor.shape().0;
        let geometry = Geometry::Sparse { side: P, visible: visible.clone() };
        let tensor = self.run(tensor, (batch, Const, Const, Const, Const), batch.size(), geometry)?;
        Ok(Sparse { tensor, visible })
    }

    fn shape(samples: usize, geometry: &Geometry) -> downsample::Shape<'_> {
        downsample::Shape { samples, cells: geometry.cells(), channels: DIM, dim: DIM_OUT }
    }

    fn run<In: Shape, Out: Shape, T: Tape<f32, Cpu>>(
        &self,
        x: Tensor<In, f32, Cpu, T>,
        out: Out,
        samples: usize,
        geometry: Geometry,
    ) -> Result<Tensor<Out, f32, Cpu, T>, Error> {
        let kept = geometry.clone();
        record(
            x,
            true,
            out,
            self.parameters(),
            |x, parameters, out, _| {
                let shape = Self::shape(samples, &geometry);
                let weights = Weights::named(&shape.layer(), |name, _| parameters.get(name));
                downsample::forward(&shape, &weights, x, out);
            },
            move |pass| {
                let (shape, mut gradients) = (Self::shape(samples, &kept), pass.parameter_gradients);
                let layer = shape.layer();
                downsample::backward(
                    &shape,
                    &Weights::named(&layer, |name, _| pass.parameters.get(name)),
                    pass.input,
                    pass.output_gradient,
                    pass.input_gradient,
                    Gradients::named(&layer, |name, _| gradients.take(name)),
                );
            },
        )
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
        self.run(x, (batch, Const, Const, Const), batch.size(), Geometry::Dense { height: H, width: W })
    }
}

impl<const H: usize, const W: usize, const DIM: usize, const H_OUT: usize, const W_OUT: usize, const DIM_OUT: usize>
    NonMutableModule for Downsample<H, W, DIM, H_OUT, W_OUT, DIM_OUT>
{
}
