//! The head on CUDA: pooling, normalisation, one product.

use crate::launch::{
    element::Element,
    geometry::Geometry,
    kernel::{Module, Source},
    kernels::{
        layer_norm::{LayerNorm, Statistics},
        reduce::{column_sums, sum_rows},
    },
    operation::{BatchShape, DeviceBackward, DeviceOperation, Get, Inputs, OnDevice, Placed},
    schedule::{Argument::*, Parameter, Schedule, ScheduleError, View},
    tile::Columns,
};

/// Pooling and its gradient.
pub static HEAD: Source = Source { name: "head.cu", text: include_str!("head.cu"), kernels: &["pool", "unpool"] };

/// Sizes of a head, and how its activations are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Rows `R` of a sample.
    pub rows: usize,
    /// Channels `D`.
    pub dim: usize,
    /// Classes.
    pub classes: usize,
    /// Type of the activations.
    pub real: Element,
}

/// The parameters on the device.
pub type Parameters = super::Parameters<Parameter>;

/// What the backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saved {
    pooled: View,
    statistics: Statistics,
    z: View,
}

impl Shape {
    /// What the parameters follow from.
    pub fn layer(&self) -> super::Layer {
        let Self { dim, classes, .. } = *self;
        super::Layer { dim, classes }
    }

    fn tile(&self) -> Columns {
        Columns::new(self.dim, self.real)
    }

    fn norm(&self) -> LayerNorm {
        LayerNorm { rows: self.samples, channels: self.dim, line: 0, real: self.real }
    }

    fn module(&self) -> Module {
        self.tile().define(Module::new(&HEAD, self.real).with("CHANNELS", self.dim).with("ROWS", self.rows))
    }

    /// The kernel files that the head needs.
    pub fn modules(&self) -> Vec<Module> {
        vec![self.module(), self.norm().module()]
    }
}

/// `x [N, R, D]` to logits `[N, CLASSES]`.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn forward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    x: View,
) -> Result<(View, Saved), ScheduleError> {
    let (samples, tile) = (shape.samples, shape.tile());
    let pooled = schedule.temporary("head.pooled", shape.real, samples * shape.dim);
    let grid = [samples, tile.chunks, 1];
    schedule.launch(&shape.module(), "pool", grid, tile.threads(), [Read(x), Write(pooled)])?;
    let z = schedule.temporary("head.z", shape.real, pooled.length);
    let statistics = Statistics::new(schedule, samples);
    let weights = (parameters.norm.value, parameters.norm_bias.value);
    shape.norm().forward(schedule, pooled, weights, z, statistics)?;
    let logits = schedule.temporary("head.logits", shape.real, samples * shape.classes);
    schedule.multiply(samples, z, parameters.linear.mirror, Some(parameters.linear_bias.mirror), logits);
    Ok((logits, Saved { pooled, statistics, z }))
}

/// The gradient of the input from that of the logits; adds those of the parameters.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn backward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    saved: &Saved,
    grad_logits: View,
) -> Result<View, ScheduleError> {
    let Parameters { norm, norm_bias, linear, linear_bias } = parameters;
    let (samples, tile) = (shape.samples, shape.tile());
    let sums = &mut vec![column_sums(schedule, grad_logits, samples, linear_bias.gradient)?];
    schedule.weight_gradient(samples, saved.z, grad_logits, linear.gradient, true);
    let grad = schedule.temporary("head.grad_pooled", shape.real, saved.z.length);
    schedule.multiply_transposed(samples, grad_logits, linear.mirror, grad);
    shape.norm().backward(schedule, (grad, grad), saved.pooled, saved.statistics, (norm, norm_bias), None, sums)?;
    sum_rows(schedule, sums, true)?;
    let grad_x = schedule.temporary("head.grad_x", shape.real, samples * shape.rows * shape.dim);
    let grid = [samples, tile.chunks, 1];
    schedule.launch(&shape.module(), "unpool", grid, tile.threads(), [Read(grad), Write(grad_x)])?;
    Ok(grad_x)
}

impl OnDevice for super::Layer {
    fn on_device(&self, geometry: Geometry, batch: BatchShape, get: &mut Get) -> Box<dyn DeviceOperation> {
        let Self { dim, classes } = *self;
        let BatchShape { samples, real } = batch;
        let shape = Shape { samples, rows: geometry.rows(), dim, classes, real };
        Box::new(Placed { shape, parameters: Parameters::named(self, get) })
    }
}

impl DeviceOperation for Placed<Shape, Parameters> {
    fn forward(&self, schedule: &mut Schedule, _: &Inputs, x: View) -> Result<(View, DeviceBackward), ScheduleError> {
        let (shape, parameters) = (self.shape, self.parameters);
        let (out, saved) = forward(schedule, &shape, &parameters, x)?;
        let back =
            move |schedule: &mut Schedule, grad: View| backward(schedule, &shape, &parameters, &saved, grad).map(Some);
        Ok((out, Box::new(back)))
    }
}
