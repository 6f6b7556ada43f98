//! Prediction and loss on CUDA: the removed cells' features gathered for one product, its error turned into a gradient
//! in place.

use crate::launch::{
    element::Element,
    geometry::{Geometry, Tables},
    kernel::{Module, Source},
    kernels::reduce::{column_sums, sum_all, sum_rows},
    operation::{BatchShape, DeviceBackward, DeviceOperation, Get, Inputs, OnDevice, Placed},
    schedule::{Argument::*, Parameter, Schedule, ScheduleError, View, count},
    tile::Columns,
};

/// Gather, loss, scatter.
pub static MASKED_MSE: Source = Source {
    name: "masked_mse.cu",
    text: include_str!("masked_mse.cu"),
    kernels: &["removed_gather", "removed_scatter", "masked_mse"],
};

/// Sizes of a prediction and its loss, and how activations are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Geometry of the visible patches; the features are those of every cell.
    pub geometry: Geometry,
    /// Side of a cell in pixels, `S`.
    pub stride: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Channels of the decoder, `D`.
    pub dim: usize,
    /// Whether targets are normalised.
    pub normalised: bool,
    /// Type of the activations.
    pub real: Element,
}

/// The parameters on the device.
pub type Parameters = super::Parameters<Parameter>;

/// What the backward pass needs: the removed cells' features, and the gradient of their predictions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saved {
    rows: View,
    grad: View,
}

impl Shape {
    /// What the parameters follow from.
    pub fn layer(&self) -> super::Layer {
        let Self { stride, channels, dim, normalised, .. } = *self;
        super::Layer { stride, channels, dim, normalised }
    }

    fn pixels(&self) -> usize {
        self.layer().pixels()
    }

    /// Removed cells of a sample.
    fn removed_cells(&self) -> usize {
        self.geometry.dense().rows() - self.geometry.rows()
    }

    /// Removed patches of a sample.
    fn removed(&self) -> usize {
        self.removed_cells() / (self.geometry.line() * self.geometry.lines())
    }

    /// Removed cells of the batch.
    fn rows(&self) -> usize {
        self.samples * self.removed_cells()
    }

    fn cells(&self) -> usize {
        self.samples * self.geometry.dense().rows()
    }

    /// What each squared error weighs in the loss.
    fn weight(&self) -> f64 {
        1.0 / (self.rows() * self.pixels()).max(1) as f64
    }

    fn tile(&self) -> Columns {
        Columns::new(self.dim, self.real)
    }

    fn module(&self) -> Module {
        let module = Module::new(&MASKED_MSE, self.real)
            .with("CHANNELS", self.dim)
            .with("STRIDE", self.stride)
            .with("IMAGE_CHANNELS", self.channels)
            .with("REMOVED", self.removed())
            .with_flag("NORMALISED", self.normalised);
        self.tile().define(self.geometry.define(module))
    }

    /// The kernel files that the loss needs.
    pub fn modules(&self) -> Vec<Module> {
        vec![self.module()]
    }
}

/// The loss of `features [N, H, W, D]` against `images`, f32, written to `loss [1]`, f32. The gradient that the
/// backward pass starts from is that of `grad_loss * loss`.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
#[expect(clippy::too_many_arguments, reason = "two inputs, their masks, and the loss with its gradient")]
pub fn forward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: &Tables,
    features: View,
    images: View,
    grad_loss: f32,
    loss: View,
) -> Result<Saved, ScheduleError> {
    let (tile, module, total) = (shape.tile(), shape.module(), shape.rows());
    let rows = schedule.temporary("prediction.rows", shape.real, total * shape.dim);
    let grad = schedule.temporary("prediction", shape.real, total * shape.pixels());
    let saved = Saved { rows, grad };
    schedule.push(crate::launch::schedule::Step::Zero(loss));
    if total == 0 {
        return Ok(saved);
    }
    count("cells", shape.cells())?;
    let samples = Int(count("samples", shape.samples)?);
    let arguments = [Read(features), Read(tables.removed), Write(rows), samples];
    schedule.launch(&module, "removed_gather", [tile.blocks(total), tile.chunks, 1], tile.threads(), arguments)?;
    schedule.multiply(total, rows, parameters.prediction.mirror, Some(parameters.prediction_bias.mirror), grad);
    let patches = shape.samples * shape.removed();
    let losses = schedule.temporary("prediction.losses", Element::F32, patches);
    let weight = Float((shape.weight() * f64::from(grad_loss)) as f32);
    let arguments = [Update(grad), Read(images), Read(tables.removed), Write(losses), weight];
    schedule.launch(&module, "masked_mse", [patches, 1, 1], tile.threads(), arguments)?;
    sum_all(schedule, losses, shape.weight() as f32, loss)?;
    Ok(saved)
}

/// The gradient of the features; adds those of the parameters.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn backward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: &Tables,
    saved: &Saved,
) -> Result<View, ScheduleError> {
    let Parameters { prediction, prediction_bias } = parameters;
    let (tile, total, cells) = (shape.tile(), shape.rows(), shape.cells());
    let grad_features = schedule.temporary("prediction.grad_features", shape.real, cells * shape.dim);
    if total == 0 {
        schedule.push(crate::launch::schedule::Step::Zero(grad_features));
        return Ok(grad_features);
    }
    let sum = column_sums(schedule, saved.grad, total, prediction_bias.gradient)?;
    sum_rows(schedule, &[sum], true)?;
    schedule.weight_gradient(total, saved.rows, saved.grad, prediction.gradient, true);
    let grad_rows = schedule.temporary("prediction.grad_rows", shape.real, saved.rows.length);
    schedule.multiply_transposed(total, saved.grad, prediction.mirror, grad_rows);
    let samples = Int(count("samples", shape.samples)?);
    let arguments = [Read(grad_rows), Read(tables.slots), Write(grad_features), samples];
    let grid = [tile.blocks(cells), tile.chunks, 1];
    schedule.launch(&shape.module(), "removed_scatter", grid, tile.threads(), arguments)?;
    Ok(grad_features)
}

impl OnDevice for super::Layer {
    fn on_device(&self, geometry: Geometry, batch: BatchShape, get: &mut Get) -> Box<dyn DeviceOperation> {
        let Self { stride, channels, dim, normalised } = *self;
        let BatchShape { samples, real } = batch;
        let shape = Shape { samples, geometry, stride, channels, dim, normalised, real };
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
        let (shape, parameters, tables) = (self.shape, self.parameters, inputs.tables()?);
        let loss = inputs.loss.ok_or(ScheduleError::Missing("place for the loss"))?;
        let saved = forward(schedule, &shape, &parameters, &tables, x, inputs.images, 1.0, loss)?;
        let back =
            move |schedule: &mut Schedule, _: View| backward(schedule, &shape, &parameters, &tables, &saved).map(Some);
        Ok((loss, Box::new(back)))
    }
}
