//! Densification on CUDA: one product over visible rows, then rows and mask token laid out on the grid.

use crate::launch::{
    element::Element,
    geometry::{Geometry, Tables},
    kernel::{Module, Source},
    kernels::reduce::{Sum, column_sums, sum_rows},
    operation::{BatchShape, DeviceBackward, DeviceOperation, Get, Inputs, OnDevice, Placed},
    schedule::{Argument::*, Parameter, Schedule, ScheduleError, View, count},
    tile::Columns,
};

/// Laying out, and back.
pub static DENSIFY: Source =
    Source { name: "densify.cu", text: include_str!("densify.cu"), kernels: &["densify_forward", "densify_backward"] };

/// Sizes of a densification, and how its activations are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Geometry of the input, sparse.
    pub geometry: Geometry,
    /// Channels of the encoder, `C`.
    pub channels: usize,
    /// Channels of the decoder, `D`.
    pub dim: usize,
    /// Type of the activations.
    pub real: Element,
}

/// The parameters on the device.
pub type Parameters = super::Parameters<Parameter>;

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

    /// Cells of the output, of the whole batch.
    pub fn cells(&self) -> usize {
        self.samples * self.geometry.height() * self.geometry.width()
    }

    fn tile(&self) -> Columns {
        Columns::new(self.dim, self.real)
    }

    fn module(&self) -> Module {
        let module = Module::new(&DENSIFY, self.real).with("CHANNELS", self.dim);
        self.tile().define(self.geometry.define(module))
    }

    /// The kernel files that the densification needs.
    pub fn modules(&self) -> Vec<Module> {
        vec![self.module()]
    }
}

/// `x [N, K, P, P, C]` to the output `[N, H, W, D]`.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn forward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: &Tables,
    x: View,
) -> Result<View, ScheduleError> {
    let (tile, cells) = (shape.tile(), shape.cells());
    let rows = schedule.temporary("densify.rows", shape.real, shape.rows() * shape.dim);
    schedule.multiply(shape.rows(), x, parameters.projection.mirror, Some(parameters.projection_bias.mirror), rows);
    let out = schedule.temporary("densify.out", shape.real, cells * shape.dim);
    let token = parameters.mask_token.value;
    count("cells", cells)?;
    let arguments = [Read(rows), Read(tables.slots), Read(token), Write(out), Int(count("samples", shape.samples)?)];
    let grid = [tile.blocks(cells), tile.chunks, 1];
    schedule.launch(&shape.module(), "densify_forward", grid, tile.threads(), arguments)?;
    Ok(out)
}

/// The gradient of the input from that of the output; adds those of the parameters. `x` is that of the forward pass.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn backward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: &Tables,
    x: View,
    grad_out: View,
) -> Result<View, ScheduleError> {
    let Parameters { projection, projection_bias, mask_token } = parameters;
    let (tile, rows) = (shape.tile(), shape.rows());
    let grad_rows = schedule.temporary("densify.grad_rows", shape.real, rows * shape.dim);
    let blocks = tile.reducing_blocks(shape.cells(), shape.dim, 1);
    let partial = schedule.temporary("token sums", Element::F32, blocks * shape.dim);
    let samples = Int(count("samples", shape.samples)?);
    count("cells", shape.cells())?;
    let arguments = [Read(grad_out), Read(tables.slots), Write(grad_rows), Write(partial), samples];
    schedule.launch(&shape.module(), "densify_backward", [blocks, tile.chunks, 1], tile.threads(), arguments)?;
    let token = Sum { partial, rows: blocks, stride: shape.dim, first: 0, out: mask_token.gradient };
    let bias = column_sums(schedule, grad_rows, rows, projection_bias.gradient)?;
    sum_rows(schedule, &[token, bias], true)?;
    schedule.weight_gradient(rows, x, grad_rows, projection.gradient, true);
    let grad_x = schedule.temporary("densify.grad_x", shape.real, x.length);
    schedule.multiply_transposed(rows, grad_rows, projection.mirror, grad_x);
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
    fn forward(
        &self,
        schedule: &mut Schedule,
        inputs: &Inputs,
        x: View,
    ) -> Result<(View, DeviceBackward), ScheduleError> {
        let (shape, parameters, tables) = (self.shape, self.parameters, inputs.tables()?);
        let out = forward(schedule, &shape, &parameters, &tables, x)?;
        let back = move |schedule: &mut Schedule, grad: View| {
            backward(schedule, &shape, &parameters, &tables, x, grad).map(Some)
        };
        Ok((out, Box::new(back)))
    }
}
