//! From the encoder's visible patches to the decoder's dense grid, as a module.

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
    ops::densify::{self, Gradients, Layer, Weights},
    simd::Precision,
    visibility::Visibility,
};

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
    state {
        /// Of the product.
        precision: Precision;
    }
}

/// A densification, with its parameters left out.
#[derive(Debug, Clone, Copy)]
struct Operator {
    /// Cells a side of a patch.
    side: usize,
    layer: Layer,
    precision: Precision,
}

impl Operator {
    fn shape(self, visible: &Visibility) -> densify::Shape<'_> {
        let Layer { channels, dim } = self.layer;
        densify::Shape { visible, side: self.side, channels, dim }
    }
}

/// The patches of a pass.
fn patches(pass: &Pass) -> &Visibility {
    pass.visible.as_ref().expect("a pass over visible patches")
}

impl Operation for Operator {
    fn parameters(&self) -> usize {
        self.layer.parameters()
    }

    fn output(&self, pass: &Pass) -> usize {
        self.shape(patches(pass)).output()
    }

    fn forward(&self, pass: &Pass, weights: &[f32], x: &[f32], out: &mut [f32]) -> Option<Backward> {
        let (this, shape) = (*self, self.shape(patches(pass)));
        densify::forward(self.precision, &shape, &Weights::split(weights, &shape), x, out);
        pass.keeps.then(|| this.backward(pass.clone()))
    }

    fn fills_the_grid(&self) -> bool {
        true
    }
}

impl ModuleOperation for Operator {
    fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    fn frozen(&self) -> Box<dyn ModuleOperation> {
        Box::new(*self)
    }
}

impl Operator {
    fn backward(self, pass: Pass) -> Backward {
        Box::new(move |gradient| {
            let shape = self.shape(patches(&pass));
            let weights = Weights::split(gradient.weights, &shape);
            let gradients = Gradients::split(gradient.gradients, &shape);
            let (x, grad_out, grad_x) = (gradient.x, gradient.grad_out, gradient.grad_x);
            densify::backward(self.precision, &shape, &weights, x, grad_out, grad_x, gradients);
        })
    }
}

impl<const H: usize, const W: usize, const VISIBLE: usize, const P: usize, const DIM: usize, const DEC: usize> Part
    for Densify<H, W, VISIBLE, P, DIM, DEC>
{
    fn operation(&self) -> Box<dyn ModuleOperation> {
        Box::new(Operator { side: P, layer: Layer { channels: DIM, dim: DEC }, precision: self.precision })
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
        let shape = (tensor.shape().0, Const, Const, Const);
        record(&[self], tensor, shape, Some(&visible), false)
    }
}

impl<const H: usize, const W: usize, const VISIBLE: usize, const P: usize, const DIM: usize, const DEC: usize>
    NonMutableModule for Densify<H, W, VISIBLE, P, DIM, DEC>
{
}
