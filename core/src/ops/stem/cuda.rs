//! The stem on CUDA: squares of pixels gathered into a matrix, one product, normalisation.

use crate::launch::{
    element::Element,
    geometry::{Geometry, Tables, table_arguments},
    kernel::{Module, Source},
    kernels::{
        layer_norm::{LayerNorm, Statistics},
        reduce::sum_rows,
    },
    operation::{BatchShape, DeviceBackward, DeviceOperation, Get, Inputs, OnDevice, Placed},
    schedule::{Argument::*, Parameter, Schedule, ScheduleError, View, count},
    tile::{THREADS, flat_blocks},
};

/// Gather and scatter.
pub static STEM: Source =
    Source { name: "stem.cu", text: include_str!("stem.cu"), kernels: &["stem_gather", "stem_scatter"] };

/// Sizes of a stem, and how its output is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Geometry of the output.
    pub geometry: Geometry,
    /// Side of a square in pixels, `S`.
    pub stride: usize,
    /// Channels of the image.
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
    y: View,
    statistics: Statistics,
}

impl Shape {
    /// What the parameters follow from.
    pub fn layer(&self) -> super::Layer {
        let Self { stride, channels, dim, .. } = *self;
        super::Layer { stride, channels, dim }
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.samples * self.geometry.rows()
    }

    fn square(&self) -> usize {
        self.stride * self.stride * self.channels
    }

    fn norm(&self) -> LayerNorm {
        LayerNorm { rows: self.rows(), channels: self.dim, line: 0, real: self.real }
    }

    fn module(&self) -> Module {
        let module = Module::new(&STEM, self.real)
            .with("STRIDE", self.stride)
            .with("IMAGE_CHANNELS", self.channels)
            .with("THREADS", THREADS);
        self.geometry.define(module)
    }

    /// The kernel files that the stem needs.
    pub fn modules(&self) -> Vec<Module> {
        vec![self.module(), self.norm().module()]
    }

    /// The squares under every row, `[N, R, S, S, C_in]`.
    fn gather(&self, schedule: &mut Schedule, tables: Option<&Tables>, images: View) -> Result<View, ScheduleError> {
        let squares = schedule.temporary("stem.squares", self.real, self.rows() * self.square());
        let (_, visible) = table_arguments(tables);
        let arguments = [Read(images), visible, Write(squares), Int(count("samples", self.samples)?)];
        let grid = [flat_blocks(squares.length), 1, 1];
        count("rows", self.rows())?;
        schedule.launch(&self.module(), "stem_gather", grid, THREADS, arguments)?;
        Ok(squares)
    }
}

/// `images [N, H, W, C_in]`, f32, to the output `[N, R, D]`.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn forward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: Option<&Tables>,
    images: View,
) -> Result<(View, Saved), ScheduleError> {
    let squares = shape.gather(schedule, tables, images)?;
    let y = schedule.temporary("stem.y", shape.real, shape.rows() * shape.dim);
    schedule.multiply(shape.rows(), squares, parameters.conv.mirror, Some(parameters.conv_bias.mirror), y);
    let out = schedule.temporary("stem.out", shape.real, y.length);
    let statistics = Statistics::new(schedule, shape.rows());
    let weights = (parameters.norm.value, parameters.norm_bias.value);
    shape.norm().forward(schedule, y, weights, out, statistics)?;
    Ok((out, Saved { y, statistics }))
}

/// Adds the gradients of the parameters, and if asked for those of the images, f32. `grad`, the gradient of the output,
/// is used up.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
pub fn backward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: Option<&Tables>,
    images: View,
    saved: &Saved,
    grad: View,
    grad_images: Option<View>,
) -> Result<(), ScheduleError> {
    let Parameters { conv, conv_bias, norm, norm_bias } = parameters;
    let (weights, sums) = ((norm, norm_bias), &mut Vec::new());
    shape.norm().backward(schedule, (grad, grad), saved.y, saved.statistics, weights, Some(conv_bias), sums)?;
    sum_rows(schedule, sums, true)?;
    let squares = shape.gather(schedule, tables, images)?;
    schedule.weight_gradient(shape.rows(), squares, grad, conv.gradient, true);
    let Some(grad_images) = grad_images else { return Ok(()) };
    let grad_squares = schedule.temporary("stem.grad_squares", shape.real, squares.length);
    schedule.multiply_transposed(shape.rows(), grad, conv.mirror, grad_squares);
    let (slots, _) = table_arguments(tables);
    let arguments = [Read(grad_squares), slots, Update(grad_images), Int(count("samples", shape.samples)?)];
    schedule.launch(&shape.module(), "stem_scatter", [flat_blocks(images.length), 1, 1], THREADS, arguments)
}

impl OnDevice for super::Layer {
    fn on_device(&self, geometry: Geometry, batch: BatchShape, get: &mut Get) -> Box<dyn DeviceOperation> {
        let Self { stride, channels, dim } = *self;
        let BatchShape { samples, real } = batch;
        let shape = Shape { samples, geometry, stride, channels, dim, real };
        Box::new(Placed { shape, parameters: Parameters::named(self, get) })
    }
}

impl DeviceOperation for Placed<Shape, Parameters> {
    fn forward(
        &self,
        schedule: &mut Schedule,
        inputs: &Inputs,
        x: View,
    ) -> Result<(View, DeviceBackward), ScheduleError> {
        let (shape, parameters, tables) = (self.shape, self.parameters, inputs.tables_of(self.shape.geometry)?);
        let (out, saved) = forward(schedule, &shape, &parameters, tables.as_ref(), x)?;
        let back = move |schedule: &mut Schedule, grad: View| {
            backward(schedule, &shape, &parameters, tables.as_ref(), x, &saved, grad, None)?;
            Ok(None)
        };
        Ok((out, Box::new(back)))
    }
}
