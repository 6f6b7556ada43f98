//! From the encoder's visible patches to the decoder's dense grid, as a module.

use dfdx::prelude::*;

use super::{
    initialise::normal,
    sparse::{Patches, Sparse},
    tape::{Error, Parameters, record},
};
use crate::ops::densify::{self, Gradients, Weights};

typed_module! {
    /// Projects the visible patches `[N, VISIBLE, P, P, DIM]` and puts the mask token elsewhere: `[N, H, W, DEC]`.
    ///
    /// The mathematics is in [`ops::densify`](crate::ops::densify).
    pub struct Densify<H, W, VISIBLE, P, DIM, DEC> {
        /// Projection, `[DIM, DEC]`.
        projection_weight, "projection.weight": (DIM, DEC) = normal();
        /// Its bias, `[DEC]`.
        projection_bias, "projection.bias": (DEC) = TensorOptions::reset_to_zeros();
        /// What stands in for removed cells, `[DEC]`.
        mask_token, "mask_token": (DEC) = normal();
    }
}

impl<
    const H: usize,
    const W: usize,
    const VISIBLE: usize,
    const P: usize,
    const DIM: usize,
    const DEC: usize,
    B: Dim,
    T: Tape<f32, Cpu>,
> Module<Patches<B, VISIBLE, P, DIM, T>> for Densify<H, W, VISIBLE, P, DIM, DEC>
{
    type Output = Tensor<(B, Const<H>, Const<W>, Const<DEC>), f32, Cpu, T>;
    type Error = Error;

    fn try_forward(&self, x: Patches<B, VISIBLE, P, DIM, T>) -> Result<Self::Output, Error> {
        let Sparse { tensor, visible } = x;
        let batch = tensor.shape().0;
        let kept = visible.clone();
        record(
            tensor,
            true,
            (batch, Const, Const, Const),
            self.parameters(),
            |x, parameters, out, _| {
                let shape = densify::Shape { visible: &visible, side: P, channels: DIM, dim: DEC };
                let weights = Weights::named(&shape.layer(), |name, _| parameters.get(name));
                densify::forward(&shape, &weights, x, out);
            },
            move |pass| {
                let mut gradients = pass.parameter_gradients;
                let shape = densify::Shape { visible: &kept, side: P, channels: DIM, dim: DEC };
                let layer = shape.layer();
                densify::backward(
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

impl<const H: usize, const W: usize, const VISIBLE: usize, const P: usize, const DIM: usize, const DEC: usize>
    NonMutableModule for Densify<H, W, VISIBLE, P, DIM, DEC>
{
}
