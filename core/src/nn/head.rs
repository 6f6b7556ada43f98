//! The classifier's head as a module.

use dfdx::prelude::*;

use super::{
    initialise::{draws, normal},
    operation::{Backward, ModuleOperation, Operation, Pass},
    part::Part,
    tape::record,
    tensor::{Error, Parameter},
};
use crate::{
    ops::head::{self, Gradients, Layer, Saved, Weights},
    plan::Plan,
    simd::Precision,
};

typed_module! {
    /// Pools `[N, H, W, DIM]` over the grid, normalises and classifies: logits `[N, CLASSES]`.
    ///
    /// The mathematics is in [`ops::head`](crate::ops::head).
    pub struct Head<H, W, DIM, CLASSES> {
        /// Scale of the normalisation, `[DIM]`.
        norm_weight, "norm.weight": (DIM) = TensorOptions::reset_to_ones();
        /// Shift of the normalisation, `[DIM]`.
        norm_bias, "norm.bias": (DIM) = TensorOptions::reset_to_zeros();
        /// Linear layer, `[DIM, CLASSES]`.
        linear_weight, "linear.weight": (DIM, CLASSES) = normal();
        /// Its bias, `[CLASSES]`.
        linear_bias, "linear.bias": (CLASSES) = TensorOptions::reset_to_zeros();
    }
}

/// A head, with its parameters left out. It computes in f32 whatever the precision.
#[derive(Debug, Clone, Copy)]
struct Operator {
    /// Cells of the grid.
    rows: usize,
    layer: Layer,
}

impl Operator {
    fn shape(self, pass: &Pass) -> head::Shape {
        let Layer { dim, classes } = self.layer;
        head::Shape { samples: pass.samples, rows: self.rows, dim, classes }
    }
}

impl Operation for Operator {
    fn parameters(&self) -> usize {
        self.layer.parameters()
    }

    fn output(&self, pass: &Pass) -> usize {
        self.shape(pass).output()
    }

    fn forward(&self, pass: &Pass, weights: &[f32], x: &[f32], out: &mut [f32]) -> Option<Backward> {
        let (shape, mut saved) = (self.shape(pass), Saved::default());
        head::forward(&shape, &Weights::split(weights, &shape), x, out, pass.keeps.then_some(&mut saved));
        pass.keeps.then(|| -> Backward {
            Box::new(move |gradient| {
                let weights = Weights::split(gradient.weights, &shape);
                let gradients = Gradients::split(gradient.gradients, &shape);
                head::backward(&shape, &weights, &saved, gradient.grad_out, gradient.grad_x, gradients);
            })
        })
    }
}

impl ModuleOperation for Operator {
    fn set_precision(&mut self, _: Precision) {}

    fn features(&self, pass: &Pass, weights: &[f32], x: &[f32]) -> Option<Vec<f32>> {
        let shape = self.shape(pass);
        Some(head::features(&shape, &Weights::split(weights, &shape), x))
    }

    fn frozen(&self) -> Box<dyn ModuleOperation> {
        Box::new(*self)
    }
}

impl<const H: usize, const W: usize, const DIM: usize, const CLASSES: usize> Part for Head<H, W, DIM, CLASSES> {
    fn operation(&self) -> Box<dyn ModuleOperation> {
        Box::new(Operator { rows: H * W, layer: Layer { dim: DIM, classes: CLASSES } })
    }

    fn tensors(&self) -> Vec<&dyn Parameter> {
        self.list()
    }

    fn set_precision(&mut self, _: Precision) {}
}

/// A [`Head`] whose number of classes is known when the program runs, with the same parameters under the same names.
#[derive(Debug)]
pub(crate) struct SizedHead {
    operator: Operator,
    norm_weight: Tensor<(usize,), f32, Cpu>,
    norm_bias: Tensor<(usize,), f32, Cpu>,
    linear_weight: Tensor<(usize, usize), f32, Cpu>,
    linear_bias: Tensor<(usize,), f32, Cpu>,
}

impl SizedHead {
    /// With fresh parameters, as [`Head`] begins, for the last grid and the classes of `plan`.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn new(plan: &Plan, device: &Cpu) -> Result<Self, Error> {
        let layer = Layer { dim: plan.last().dim, classes: plan.classes };
        let Layer { dim, classes } = layer;
        let weights: Vec<f32> = draws(device.random_u64(), dim * classes).map(|value| value as f32).collect();
        Ok(Self {
            operator: Operator { rows: plan.grid(plan.stages.len() - 1).rows(), layer },
            norm_weight: device.try_ones_like(&(dim,))?,
            norm_bias: device.try_zeros_like(&(dim,))?,
            linear_weight: device.try_tensor_from_vec(weights, (dim, classes))?,
            linear_bias: device.try_zeros_like(&(classes,))?,
        })
    }

    /// Its parameters, in the order of [`Head`], by their names within it.
    pub(crate) fn parameters(&self) -> [(&'static str, &dyn Parameter); 4] {
        [
            ("norm.weight", &self.norm_weight),
            ("norm.bias", &self.norm_bias),
            ("linear.weight", &self.linear_weight),
            ("linear.bias", &self.linear_bias),
        ]
    }

    /// The same, to be changed.
    pub(crate) fn parameters_mut(&mut self) -> [&mut dyn Parameter; 4] {
        [&mut self.norm_weight, &mut self.norm_bias, &mut self.linear_weight, &mut self.linear_bias]
    }
}

impl Part for SizedHead {
    fn operation(&self) -> Box<dyn ModuleOperation> {
        Box::new(self.operator)
    }

    fn tensors(&self) -> Vec<&dyn Parameter> {
        self.parameters().map(|(_, tensor)| tensor).to_vec()
    }

    fn set_precision(&mut self, _: Precision) {}
}

impl<const H: usize, const W: usize, const DIM: usize, const CLASSES: usize, B: Dim, T: Tape<f32, Cpu>>
    Module<Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>> for Head<H, W, DIM, CLASSES>
{
    type Output = Tensor<(B, Const<CLASSES>), f32, Cpu, T>;
    type Error = Error;

    fn try_forward(&self, x: Tensor<(B, Const<H>, Const<W>, Const<DIM>), f32, Cpu, T>) -> Result<Self::Output, Error> {
        let batch = x.shape().0;
        record(&[self], x, (batch, Const), None, false)
    }
}

impl<const H: usize, const W: usize, const DIM: usize, const CLASSES: usize> NonMutableModule
    for Head<H, W, DIM, CLASSES>
{
}
