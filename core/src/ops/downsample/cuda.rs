//! Downsampling on CUDA: the normalisation writes its rows where the product wants them, four cells side by side.

use crate::launch::{
    element::Element,
    geometry::Geometry,
    kernel::Module,
    kernels::{
        layer_norm::{LayerNorm, Statistics},
        reduce::{column_sums, sum_rows},
    },
    operation::{BatchShape, DeviceBackward, DeviceOperation, Get, Inputs, OnDevice, Placed},
    schedule::{Parameter, Schedule, ScheduleError, View},
};

/// Sizes of a downsampling, and how its activations are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Geometry of the input.
    pub geometry: Geometry,
    /// Channels of the input, `C`.
    pub channels: usize,
    /// Channels of the output, `D`.
    pub dim: usize,
    /// Type of the activations.
    pub real: Element,
}

/// The parameters on the device.
pub type Parameters = super::Parameters<Parameter>;

/// What the backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saved {
    x: View,
    statistics: Statistics,
}

impl Shape {
    /// What the parameters follow from.
    pub fn layer(&self) -> super::Layer {
        let Self { channels, dim, .. } = *self;
        super::Layer { channels, dim }
    }

    /// Rows of the input, of the whole batch.
    pub fn rows(&self) -> usize {
        self.samples * self.geometry.rows()
    }

    fn norm(&self) -> LayerNorm {
        LayerNorm { rows: self.rows(), channels: self.channels, line: self.geometry.line(), real: self.real }
    }

    /// The kernel files that the downsampling needs.
    pub fn modules(&self) -> Vec<Module> {
        vec![self.norm().module()]
    }
}

/// `x [N, R, C]` to the output `[N, R/4, D]`.
///
/// # Errors
/// [`ScheduleError`] if the grid, or a patch, has an odd side, or the batch too many rows.
pub fn forward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    x: View,
) -> Result<(View, Saved), ScheduleError> {
    let odd = ScheduleError::Odd { height: shape.geometry.lines(), width: shape.geometry.line() };
    shape.geometry.halved().ok_or(odd)?;
    let squares = schedule.temporary("downsample.squares", shape.real, x.length);
    let statistics = Statistics::new(schedule, shape.rows());
    let weights = (parameters.norm.value, parameters.norm_bias.value);
    shape.norm().forward(schedule, x, weights, squares, statistics)?;
    let out = schedule.temporary("downsample.out", shape.real, shape.rows() / 4 * shape.dim);
    schedule.multiply(shape.rows() / 4, squares, parameters.conv.mirror, Some(parameters.conv_bias.mirror), out);
    Ok((out, Saved { x, statistics }))
}

/// The gradient of the input from that of the output; adds those of the parameters.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn backward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    saved: &Saved,
    grad_out: View,
) -> Result<View, ScheduleError> {
    let Parameters { norm, norm_bias, conv, conv_bias } = parameters;
    let rows = shape.rows() / 4;
    let sums = &mut vec![column_sums(schedule, grad_out, rows, conv_bias.gradient)?];
    let squares = schedule.temporary("downsample.squares", shape.real, saved.x.length);
    shape.norm().apply(schedule, saved.x, saved.statistics, (norm.value, norm_bias.value), squares)?;
    schedule.weight_gradient(rows, squares, grad_out, conv.gradient, true);
    let grad_squares = schedule.temporary("downsample.grad_squares", shape.real, saved.x.length);
    schedule.multiply_transposed(rows, grad_out, conv.mirror, grad_squares);
    let grad_x = schedule.temporary("downsample.grad_x", shape.real, saved.x.length);
    let gradients = (grad_squares, grad_x);
    shape.norm().backward(schedule, gradients, saved.x, saved.statistics, (norm, norm_bias), None, sums)?;
    sum_rows(schedule, sums, true)?;
    Ok(grad_x)
}

impl OnDevice for super::Layer {
    fn on_device(&self, geometry: Geometry, batch: BatchShape, get: &mut Get) -> Box<dyn DeviceOperation> {
        let Self { channels, dim } = *self;
        let BatchShape { samples, real } = batch;
        let shape = Shape { samples, geometry, channels, dim, real };
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
