//! The block on CUDA: its launches and products, in order.
//!
//! Forward saves what backward needs: `x`, `y` with the statistics of its rows, `h` without its bias, and GRN's
//! norms. `z` and `u` are computed again. The gradient of the input takes the place of that of the output.

use super::Flavour;
use crate::launch::{
    element::Element,
    geometry::{Geometry, Tables, table_arguments},
    kernel::{Module, Source},
    kernels::{
        layer_norm::{LayerNorm, Statistics},
        reduce::{Sum, sum_rows},
    },
    operation::{BatchShape, DeviceBackward, DeviceOperation, Get, Inputs, OnDevice, Placed},
    schedule::{
        Argument::{self, *},
        Parameter, Schedule, ScheduleError, View, count,
    },
    tile::{Columns, reducing_blocks, segments, vector},
};

/// Depthwise convolution.
pub static DEPTHWISE: Source = Source {
    name: "depthwise.cu",
    text: include_str!("depthwise.cu"),
    kernels: &["depthwise_forward", "depthwise_input_gradient", "depthwise_weight_gradient"],
};

/// Bias, GELU and GRN, of a V2 block.
pub static HIDDEN_V2: Source = Source {
    name: "hidden.cu",
    text: include_str!("hidden.cu"),
    kernels: &[
        "hidden_apply",
        "hidden_backward",
        "grn_statistics",
        "grn_statistics_finish",
        "grn_backward_statistics",
        "grn_backward_finish",
    ],
};

/// Bias and GELU, of a V1 block.
pub static HIDDEN_V1: Source =
    Source { name: "hidden.cu", text: include_str!("hidden.cu"), kernels: &["hidden_apply", "hidden_backward"] };

/// The ends of the residual branch, of a V2 block.
pub static RESIDUAL_V2: Source = Source {
    name: "residual.cu",
    text: include_str!("residual.cu"),
    kernels: &["residual_forward", "residual_backward"],
};

/// The ends of the residual branch, with LayerScale, of a V1 block.
pub static RESIDUAL_V1: Source = Source {
    name: "residual.cu",
    text: include_str!("residual.cu"),
    kernels: &["residual_forward", "residual_backward", "scale_weight", "layer_scale_backward"],
};

/// Sums that a thread of the depthwise weight gradient keeps in registers, at most.
const TAP_SUMS: usize = 98;

/// Threads of a block of the depthwise convolution, at most: blocks of many registers had better be small.
const DEPTHWISE_THREADS: usize = 128;

/// Threads that a multiprocessor holds, each of which then has 168 registers.
const RESIDENT_THREADS: usize = 384;

/// Registers of those that hold values; the others hold addresses, weights and counts.
const MOST_REGISTERS: usize = 160;

/// Registers that hold sums of as many lines as the kernel has, a line of input, and the next one as it lies in memory.
fn depthwise_registers(kernel: usize, run: usize, vector: usize, real: Element) -> usize {
    let span = run + kernel - 1;
    (kernel * run + span) * vector + (span * vector * real.bytes()).div_ceil(4)
}

/// A line of cells cut into runs that are as equal as can be: cells of a run, `most` or fewer. Of runs that leave nothing
/// over the one nearest to seven: 56 cells are eight of them, whose registers let twelve warps onto a multiprocessor.
fn run(line: usize, most: usize) -> usize {
    let waste = |run: usize| line.div_ceil(run) * run - line;
    (1..=most).rev().min_by_key(|&run| (waste(run) * 16 / line + 8 / run, run.abs_diff(7))).unwrap_or(1)
}

/// Sizes of a block, and how its activations are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Samples `N`.
    pub samples: usize,
    /// Geometry of input and output.
    pub geometry: Geometry,
    /// Channels `C`.
    pub channels: usize,
    /// Hidden features `F`.
    pub hidden: usize,
    /// Side of the depthwise kernel, odd.
    pub kernel: usize,
    /// GRN (V2) or LayerScale (V1).
    pub flavour: Flavour,
    /// Type of the activations.
    pub real: Element,
}

/// The parameters on the device.
pub type Parameters = super::Parameters<Parameter>;

/// What the backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saved {
    x: View,
    y: View,
    statistics: Statistics,
    h: View,
    grn: Option<Grn>,
}

/// GRN's statistics: `s [N, F]`, `1 + gamma n [N, F]`, `mean s + epsilon [N]`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Grn {
    norm: View,
    factor: View,
    mean: View,
}

impl Shape {
    /// What the parameters follow from.
    pub fn layer(&self) -> super::Layer {
        let Self { channels, hidden, kernel, flavour, .. } = *self;
        super::Layer { channels, hidden, kernel, flavour }
    }

    /// Rows of the batch.
    pub fn rows(&self) -> usize {
        self.samples * self.geometry.rows()
    }

    fn v2(&self) -> bool {
        self.flavour == Flavour::V2
    }

    fn norm(&self) -> LayerNorm {
        LayerNorm { rows: self.rows(), channels: self.channels, line: 0, real: self.real }
    }

    fn depthwise(&self) -> Depthwise {
        let (kernel, line) = (self.kernel, self.geometry.line().max(1));
        let divides = |vector: usize| vector * self.real.bytes() <= 16 && self.channels.is_multiple_of(vector);
        let fits = |run: usize, vector: usize| depthwise_registers(kernel, run, vector, self.real) <= MOST_REGISTERS;
        let run_of = |vector: usize| run(line, (1..=8).rev().find(|&run| fits(run, vector)).unwrap_or(1));
        let pair = if divides(2) { 2 } else { 1 };
        // A strip that is too narrow reads more than it computes: then rather half the channels.
        let pair = if run_of(pair) >= line.min(4) { pair } else { 1 };
        let run = run_of(pair);
        let vector = [8, 4].into_iter().find(|&vector| divides(vector) && fits(run, vector)).unwrap_or(pair);
        let strips = self.samples * (self.geometry.rows() / line) / self.geometry.lines().max(1) * line.div_ceil(run);
        let tap_rows = (TAP_SUMS / (kernel * vector)).clamp(1, kernel);
        Depthwise { columns: Columns::of_threads(self.channels, vector, DEPTHWISE_THREADS), run, strips, tap_rows }
    }

    fn depthwise_module(&self) -> Module {
        let Depthwise { columns, run, tap_rows, .. } = self.depthwise();
        let module = Module::new(&DEPTHWISE, self.real)
            .with("CHANNELS", self.channels)
            .with("KERNEL", self.kernel)
            .with("RUN", run)
            .with("RESIDENT", (RESIDENT_THREADS / columns.threads()).max(1))
            .with("TAP_ROWS", tap_rows);
        columns.define(self.geometry.define(module))
    }

    fn hidden_tile(&self) -> Hidden {
        let columns = Columns::narrow(self.hidden, self.real);
        let (segment, segments) = segments(self.geometry.rows(), columns.groups, self.samples * columns.chunks);
        Hidden { columns, segment, segments }
    }

    fn hidden_module(&self) -> Module {
        let Hidden { columns, segment, segments } = self.hidden_tile();
        let source = if self.v2() { &HIDDEN_V2 } else { &HIDDEN_V1 };
        let mut module = Module::new(source, self.real)
            .with("FEATURES", self.hidden)
            .with("ROWS", self.geometry.rows())
            .with("SEGMENT", segment)
            .with("SEGMENTS", segments)
            .with_flag("GRN", self.v2());
        if self.v2() {
            module = module.with("FINISH", self.finish_threads());
        }
        columns.define(module)
    }

    /// Threads of the kernels that end GRN's statistics of a sample: one for a vector of f32 features, at most 1024.
    fn finish_threads(&self) -> usize {
        (self.hidden / vector(self.hidden, Element::F32)).next_multiple_of(32).min(1024)
    }

    fn residual_module(&self, drop: bool) -> Module {
        let source = if self.v2() { &RESIDUAL_V2 } else { &RESIDUAL_V1 };
        let mut module = Module::new(source, self.real)
            .with("CHANNELS", self.channels)
            .with_flag("SCALE", !self.v2())
            .with_flag("DROP", drop);
        // Nothing that is not needed: blocks that differ in it only share a module.
        if drop {
            module = module.with("ROWS", self.geometry.rows());
        }
        if !self.v2() {
            module = module.with("FEATURES", self.hidden);
        }
        Columns::new(self.channels, self.real).define(module)
    }

    /// The kernel files that this block needs, with and without drop path.
    pub fn modules(&self) -> Vec<Module> {
        vec![
            self.depthwise_module(),
            self.norm().module(),
            self.hidden_module(),
            self.residual_module(false),
            self.residual_module(true),
        ]
    }
}

/// How the depthwise convolution is cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Depthwise {
    columns: Columns,
    /// Cells that a strip is wide.
    run: usize,
    /// Strips of the batch.
    strips: usize,
    /// Kernel rows that one block of the weight gradient takes.
    tap_rows: usize,
}

impl Depthwise {
    fn grid(&self) -> [usize; 3] {
        [self.strips.div_ceil(self.columns.groups), self.columns.chunks, 1]
    }

    /// Blocks of the weight gradient over the strips, for kernels of this side.
    fn parts(&self, kernel: usize, channels: usize) -> usize {
        // Each leaves much to be added up: one wave of blocks.
        let others = 2 * self.columns.chunks * kernel.div_ceil(self.tap_rows);
        reducing_blocks(self.strips.div_ceil(self.columns.groups), others, kernel * kernel * channels)
    }
}

/// How the hidden features are cut up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hidden {
    columns: Columns,
    segment: usize,
    segments: usize,
}

impl Hidden {
    fn grid(&self, samples: usize) -> [usize; 3] {
        [samples * self.segments, self.columns.chunks, 1]
    }
}

/// One call: what both passes know.
struct Call<'a> {
    shape: &'a Shape,
    parameters: &'a Parameters,
    tables: Option<&'a Tables>,
    drop: Option<View>,
}

/// `x [N, R, C]` to the output, and what the backward pass needs. `drop [N]` scales each sample's branch.
///
/// # Errors
/// [`ScheduleError::TooLarge`] if the batch has more rows than a kernel can count.
pub fn forward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: Option<&Tables>,
    drop: Option<View>,
    x: View,
) -> Result<(View, Saved), ScheduleError> {
    let call = Call { shape, parameters, tables, drop };
    let saved = call.features(schedule, x)?;
    let u = schedule.temporary("block.u", shape.real, saved.h.length);
    call.hidden(schedule, saved.h, saved.grn, u)?;
    Ok((call.pwconv2(schedule, x, u)?, saved))
}

/// `x [N, R, C]` to the output, with nothing for a backward pass: the hidden features are changed where they lie.
///
/// # Errors
/// [`ScheduleError::TooLarge`] if the batch has more rows than a kernel can count.
pub fn infer(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: Option<&Tables>,
    x: View,
) -> Result<View, ScheduleError> {
    let call = Call { shape, parameters, tables, drop: None };
    let Saved { h, grn, .. } = call.features(schedule, x)?;
    call.hidden(schedule, h, grn, h)?;
    call.pwconv2(schedule, x, h)
}

/// Turns `grad`, the gradient of the output, into that of the input; adds the gradients of the parameters.
///
/// # Errors
/// [`ScheduleError::TooLarge`] if the batch has more rows than a kernel can count.
pub fn backward(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: &Parameters,
    tables: Option<&Tables>,
    drop: Option<View>,
    saved: &Saved,
    grad: View,
) -> Result<(), ScheduleError> {
    let call = Call { shape, parameters, tables, drop };
    let sums = &mut Vec::new();
    let (branch, pwconv2, branch_sum) = call.branch_backward(schedule, grad, sums)?;
    let grad_u = schedule.temporary("block.grad_u", shape.real, saved.h.length);
    schedule.multiply_transposed(shape.rows(), branch, pwconv2, grad_u);
    let slope = call.grn_backward(schedule, saved, grad_u, sums)?;
    let u = call.hidden_backward(schedule, saved, slope, grad_u, sums)?; // grad_u is the gradient of h now
    call.pwconv2_backward(schedule, u, branch, branch_sum)?;
    let grad_y = call.pwconv1_backward(schedule, saved, grad_u, sums)?;
    call.depthwise_backward(schedule, saved.x, grad_y, grad, sums)?;
    sum_rows(schedule, sums, true)
}

impl Call<'_> {
    /// As far as the hidden features without their bias, and GRN's statistics of them.
    fn features(&self, schedule: &mut Schedule, x: View) -> Result<Saved, ScheduleError> {
        let shape = self.shape;
        let y = self.depthwise(schedule, x)?;
        let (z, statistics) = self.normalise(schedule, y)?;
        let h = schedule.temporary("block.h", shape.real, shape.rows() * shape.hidden);
        schedule.multiply(shape.rows(), z, self.parameters.pwconv1.mirror, None, h);
        let grn = if shape.v2() { Some(self.grn_statistics(schedule, h)?) } else { None };
        Ok(Saved { x, y, statistics, h, grn })
    }

    fn depthwise(&self, schedule: &mut Schedule, x: View) -> Result<View, ScheduleError> {
        let (shape, tile) = (self.shape, self.shape.depthwise());
        let y = schedule.temporary("block.y", shape.real, x.length);
        let (slots, visible) = table_arguments(self.tables);
        count("strips of cells", tile.strips)?;
        count("rows", shape.rows())?;
        let arguments = [
            Read(x),
            Read(self.parameters.dwconv.value),
            Read(self.parameters.dwconv_bias.value),
            slots,
            visible,
            Write(y),
            Int(count("samples", shape.samples)?),
        ];
        let threads = tile.columns.threads();
        schedule.launch(&shape.depthwise_module(), "depthwise_forward", tile.grid(), threads, arguments)?;
        Ok(y)
    }

    /// `z = LN(y)` and the statistics.
    fn normalise(&self, schedule: &mut Schedule, y: View) -> Result<(View, Statistics), ScheduleError> {
        let z = schedule.temporary("block.z", self.shape.real, y.length);
        let statistics = Statistics::new(schedule, self.shape.rows());
        let weights = (self.parameters.norm.value, self.parameters.norm_bias.value);
        self.shape.norm().forward(schedule, y, weights, z, statistics)?;
        Ok((z, statistics))
    }

    /// `z = LN(y)` again.
    fn normalised(&self, schedule: &mut Schedule, y: View, statistics: Statistics) -> Result<View, ScheduleError> {
        let z = schedule.temporary("block.z", self.shape.real, y.length);
        let weights = (self.parameters.norm.value, self.parameters.norm_bias.value);
        self.shape.norm().apply(schedule, y, statistics, weights, z)?;
        Ok(z)
    }

    fn grn_statistics(&self, schedule: &mut Schedule, h: View) -> Result<Grn, ScheduleError> {
        let (shape, tile, module) = (self.shape, self.shape.hidden_tile(), self.shape.hidden_module());
        let values = shape.samples * shape.hidden;
        let partial = schedule.temporary("grn sums", Element::F32, values * tile.segments);
        let grn = Grn {
            norm: schedule.temporary("grn.norm", Element::F32, values),
            factor: schedule.temporary("grn.factor", Element::F32, values),
            mean: schedule.temporary("grn.mean", Element::F32, shape.samples),
        };
        let threads = tile.columns.threads();
        let arguments = [Read(h), Read(self.parameters.pwconv1_bias.value), Write(partial)];
        schedule.launch(&module, "grn_statistics", tile.grid(shape.samples), threads, arguments)?;
        let arguments =
            [Read(partial), Read(self.parameters.grn_gamma.value), Write(grn.norm), Write(grn.factor), Write(grn.mean)];
        schedule.launch(&module, "grn_statistics_finish", [shape.samples, 1, 1], shape.finish_threads(), arguments)?;
        Ok(grn)
    }

    /// Factor and shift of GRN as arguments.
    fn grn_arguments(&self, grn: Option<Grn>) -> (Argument, Argument) {
        grn.map_or((Null, Null), |grn| (Read(grn.factor), Read(self.parameters.grn_beta.value)))
    }

    /// `u`, which may take the place of `h`.
    fn hidden(&self, schedule: &mut Schedule, h: View, grn: Option<Grn>, u: View) -> Result<(), ScheduleError> {
        let (shape, tile) = (self.shape, self.shape.hidden_tile());
        let (factor, beta) = self.grn_arguments(grn);
        let (from, to) = if h == u { (Update(h), Update(u)) } else { (Read(h), Write(u)) };
        let arguments = [from, Read(self.parameters.pwconv1_bias.value), factor, beta, to];
        let (grid, threads) = (tile.grid(shape.samples), tile.columns.threads());
        schedule.launch(&shape.hidden_module(), "hidden_apply", grid, threads, arguments)
    }

    /// The output. Where the branch is added as it is, the product does that.
    fn pwconv2(&self, schedule: &mut Schedule, x: View, u: View) -> Result<View, ScheduleError> {
        let (shape, Parameters { pwconv2, pwconv2_bias, .. }) = (self.shape, self.parameters);
        let out = schedule.temporary("block.out", shape.real, x.length);
        if shape.v2() && self.drop.is_none() {
            schedule.multiply_and_add(shape.rows(), (u, pwconv2.mirror), pwconv2_bias.mirror, x, out);
            return Ok(out);
        }
        schedule.multiply(shape.rows(), u, pwconv2.mirror, None, out);
        self.residual(schedule, x, out)
    }

    fn residual(&self, schedule: &mut Schedule, x: View, branch: View) -> Result<View, ScheduleError> {
        let (shape, tile) = (self.shape, Columns::new(self.shape.channels, self.shape.real));
        let scale = if shape.v2() { Null } else { Read(self.parameters.layer_scale.value) };
        let arguments = [
            Read(x),
            Update(branch),
            Read(self.parameters.pwconv2_bias.value),
            scale,
            self.drop.map_or(Null, Read),
            Update(branch),
            Int(count("rows", shape.rows())?),
        ];
        let (grid, module) = ([tile.blocks(shape.rows()), tile.chunks, 1], shape.residual_module(self.drop.is_some()));
        schedule.launch(&module, "residual_forward", grid, tile.threads(), arguments)?;
        Ok(branch)
    }

    /// The gradient of the branch, what it is multiplied with to reach `u`, and for V1 the sums of its rows.
    fn branch_backward(
        &self,
        schedule: &mut Schedule,
        grad: View,
        sums: &mut Vec<Sum>,
    ) -> Result<(View, View, Option<View>), ScheduleError> {
        let (shape, tile) = (self.shape, Columns::new(self.shape.channels, self.shape.real));
        let (rows, channels, pwconv2) = (shape.rows(), shape.channels, self.parameters.pwconv2);
        let module = shape.residual_module(self.drop.is_some());
        let blocks = tile.reducing_blocks(rows, channels, 1);
        let partial = schedule.temporary("branch sums", Element::F32, blocks * channels);
        let branch = self.drop.map(|_| schedule.temporary("block.grad_branch", shape.real, grad.length));
        let arguments = [
            Read(grad),
            self.drop.map_or(Null, Read),
            branch.map_or(Null, Write),
            Write(partial),
            Int(count("rows", rows)?),
        ];
        schedule.launch(&module, "residual_backward", [blocks, tile.chunks, 1], tile.threads(), arguments)?;
        let branch = branch.unwrap_or(grad);
        let sum = |out: View| Sum { partial, rows: blocks, stride: channels, first: 0, out };
        if shape.v2() {
            sums.push(sum(self.parameters.pwconv2_bias.gradient));
            return Ok((branch, pwconv2.mirror, None));
        }
        let branch_sum = schedule.temporary("branch sum", Element::F32, channels);
        sum_rows(schedule, &[sum(branch_sum)], false)?;
        let scaled = schedule.temporary("scaled weight", shape.real, pwconv2.value.length);
        let arguments = [Read(pwconv2.value), Read(self.parameters.layer_scale.value), Write(scaled)];
        let grid = [shape.hidden.div_ceil(tile.groups), tile.chunks, 1];
        schedule.launch(&module, "scale_weight", grid, tile.threads(), arguments)?;
        Ok((branch, scaled, Some(branch_sum)))
    }

    /// V2: the gradients of gamma and beta, and `ds / s [N, F]`.
    fn grn_backward(
        &self,
        schedule: &mut Schedule,
        saved: &Saved,
        grad_u: View,
        sums: &mut Vec<Sum>,
    ) -> Result<Option<View>, ScheduleError> {
        let Some(grn) = saved.grn else { return Ok(None) };
        let (shape, tile, module) = (self.shape, self.shape.hidden_tile(), self.shape.hidden_module());
        let (samples, hidden, threads) = (shape.samples, shape.hidden, tile.columns.threads());
        let partial = schedule.temporary("grn gradient sums", Element::F32, samples * tile.segments * 2 * hidden);
        let arguments = [Read(saved.h), Read(self.parameters.pwconv1_bias.value), Read(grad_u), Write(partial)];
        schedule.launch(&module, "grn_backward_statistics", tile.grid(samples), threads, arguments)?;
        let slope = schedule.temporary("grn.slope", Element::F32, samples * hidden);
        let gradients = schedule.temporary("grn gradients", Element::F32, samples * 2 * hidden);
        let arguments = [
            Read(partial),
            Read(self.parameters.grn_gamma.value),
            Read(grn.norm),
            Read(grn.mean),
            Write(slope),
            Write(gradients),
        ];
        schedule.launch(&module, "grn_backward_finish", [samples, 1, 1], shape.finish_threads(), arguments)?;
        for (first, parameter) in [(0, self.parameters.grn_gamma), (hidden, self.parameters.grn_beta)] {
            let out = parameter.gradient;
            sums.push(Sum { partial: gradients, rows: samples, stride: 2 * hidden, first, out });
        }
        Ok(Some(slope))
    }

    /// Turns `grad`, that of `u`, into that of `h`; returns `u`.
    fn hidden_backward(
        &self,
        schedule: &mut Schedule,
        saved: &Saved,
        slope: Option<View>,
        grad: View,
        sums: &mut Vec<Sum>,
    ) -> Result<View, ScheduleError> {
        let (shape, tile) = (self.shape, self.shape.hidden_tile());
        let blocks = shape.samples * tile.segments;
        let partial = schedule.temporary("hidden sums", Element::F32, blocks * shape.hidden);
        let u = schedule.temporary("block.u", shape.real, saved.h.length);
        let (factor, beta) = self.grn_arguments(saved.grn);
        let arguments = [
            Read(saved.h),
            Read(self.parameters.pwconv1_bias.value),
            factor,
            slope.map_or(Null, Read),
            beta,
            Update(grad),
            Update(grad),
            Write(u),
            Write(partial),
        ];
        let (grid, threads) = (tile.grid(shape.samples), tile.columns.threads());
        schedule.launch(&shape.hidden_module(), "hidden_backward", grid, threads, arguments)?;
        let out = self.parameters.pwconv1_bias.gradient;
        sums.push(Sum { partial, rows: blocks, stride: shape.hidden, first: 0, out });
        Ok(u)
    }

    /// The gradients of the second pointwise layer; for V1, those of its bias and LayerScale too.
    fn pwconv2_backward(
        &self,
        schedule: &mut Schedule,
        u: View,
        branch: View,
        sums: Option<View>,
    ) -> Result<(), ScheduleError> {
        let (shape, Parameters { pwconv2, pwconv2_bias, layer_scale, .. }) = (self.shape, self.parameters);
        let Some(sums) = sums else {
            schedule.weight_gradient(shape.rows(), u, branch, pwconv2.gradient, true);
            return Ok(());
        };
        let unscaled = schedule.temporary("unscaled gradient", Element::F32, pwconv2.value.length);
        schedule.weight_gradient(shape.rows(), u, branch, unscaled, false);
        let tile = Columns::new(shape.channels, shape.real);
        let arguments = [
            Read(unscaled),
            Read(sums),
            Read(pwconv2.value),
            Read(pwconv2_bias.value),
            Read(layer_scale.value),
            Update(pwconv2.gradient),
            Update(pwconv2_bias.gradient),
            Update(layer_scale.gradient),
        ];
        let module = shape.residual_module(self.drop.is_some());
        schedule.launch(&module, "layer_scale_backward", [tile.chunks, 1, 1], tile.threads(), arguments)
    }

    /// From the gradient of `h` to that of `y`, with the gradients of the first pointwise layer and the normalisation.
    fn pwconv1_backward(
        &self,
        schedule: &mut Schedule,
        saved: &Saved,
        grad_h: View,
        sums: &mut Vec<Sum>,
    ) -> Result<View, ScheduleError> {
        let (rows, parameters) = (self.shape.rows(), self.parameters);
        let z = self.normalised(schedule, saved.y, saved.statistics)?;
        schedule.weight_gradient(rows, z, grad_h, parameters.pwconv1.gradient, true);
        let grad = schedule.temporary("block.grad_y", self.shape.real, saved.y.length);
        schedule.multiply_transposed(rows, grad_h, parameters.pwconv1.mirror, grad);
        let weights = (&parameters.norm, &parameters.norm_bias);
        let (statistics, bias) = (saved.statistics, Some(&parameters.dwconv_bias));
        self.shape.norm().backward(schedule, (grad, grad), saved.y, statistics, weights, bias, sums)?;
        Ok(grad)
    }

    fn depthwise_backward(
        &self,
        schedule: &mut Schedule,
        x: View,
        grad_y: View,
        grad: View,
        sums: &mut Vec<Sum>,
    ) -> Result<(), ScheduleError> {
        let (shape, tile, module) = (self.shape, self.shape.depthwise(), self.shape.depthwise_module());
        let (slots, visible) = table_arguments(self.tables);
        let (samples, threads) = (Int(count("samples", shape.samples)?), tile.columns.threads());
        let taps = shape.kernel * shape.kernel * shape.channels;
        let parts = tile.parts(shape.kernel, shape.channels);
        let partial = schedule.temporary("depthwise sums", Element::F32, parts * taps);
        let arguments = [Read(x), Read(grad_y), slots, visible, Write(partial), samples];
        let grid = [parts, tile.columns.chunks, shape.kernel.div_ceil(tile.tap_rows)];
        schedule.launch(&module, "depthwise_weight_gradient", grid, threads, arguments)?;
        let weight = self.parameters.dwconv;
        sums.push(Sum { partial, rows: parts, stride: taps, first: 0, out: weight.gradient });
        let arguments = [Read(grad_y), Read(weight.value), slots, visible, Update(grad), Update(grad), samples];
        schedule.launch(&module, "depthwise_input_gradient", tile.grid(), threads, arguments)
    }
}

impl OnDevice for super::Layer {
    fn on_device(&self, geometry: Geometry, batch: BatchShape, get: &mut Get) -> Box<dyn DeviceOperation> {
        let Self { channels, hidden, kernel, flavour } = *self;
        let BatchShape { samples, real } = batch;
        let shape = Shape { samples, geometry, channels, hidden, kernel, flavour, real };
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
        let (shape, parameters, drop) = (self.shape, self.parameters, inputs.drop);
        let tables = inputs.tables_of(shape.geometry)?;
        let (out, saved) = forward(schedule, &shape, &parameters, tables.as_ref(), drop, x)?;
        let back = move |schedule: &mut Schedule, grad: View| {
            backward(schedule, &shape, &parameters, tables.as_ref(), drop, &saved, grad)?;
            Ok(Some(grad))
        };
        Ok((out, Box::new(back)))
    }

    fn infer(&self, schedule: &mut Schedule, inputs: &Inputs, x: View) -> Result<View, ScheduleError> {
        infer(schedule, &self.shape, &self.parameters, inputs.tables_of(self.shape.geometry)?.as_ref(), x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(samples: usize, geometry: Geometry, channels: usize, kernel: usize) -> Shape {
        let real = Element::Bf16;
        Shape { samples, geometry, channels, hidden: 4 * channels, kernel, flavour: Flavour::V2, real }
    }

    fn sparse(side: usize, visible: usize) -> Geometry {
        Geometry::Sparse { side, patches_high: 7, patches_wide: 7, visible }
    }

    const EXTREMES: [(usize, Geometry, usize); 9] = [
        (1, Geometry::Dense { height: 1, width: 1 }, 1),
        (1, Geometry::Dense { height: 7, width: 7 }, 2816),
        (4096, Geometry::Dense { height: 56, width: 56 }, 40),
        (4096, Geometry::Dense { height: 7, width: 7 }, 2816),
        (1, Geometry::Dense { height: 3, width: 257 }, 1021),
        (1, Geometry::Sparse { side: 1, patches_high: 7, patches_wide: 7, visible: 1 }, 320),
        (4096, Geometry::Sparse { side: 8, patches_high: 7, patches_wide: 7, visible: 19 }, 352),
        (4096, Geometry::Sparse { side: 1, patches_high: 7, patches_wide: 7, visible: 19 }, 2816),
        (2, Geometry::Sparse { side: 16, patches_high: 1, patches_wide: 2, visible: 1 }, 6),
    ];

    #[test]
    fn strips_cover_every_row_once() {
        for (samples, geometry, channels) in EXTREMES {
            for kernel in [1, 3, 5, 7, 9, 31] {
                let tile = shape(samples, geometry, channels, kernel).depthwise();
                let across = geometry.line().div_ceil(tile.run);
                assert!(tile.run <= 8 && tile.run * across >= geometry.line());
                assert!(tile.run * (across - 1) < geometry.line(), "an empty strip");
                assert_eq!(tile.strips * geometry.lines(), samples * geometry.rows() / geometry.line() * across);
                assert!(tile.grid()[0] * tile.columns.groups >= tile.strips);
            }
        }
    }

    #[test]
    fn runs_of_usual_grids() {
        assert_eq!([56, 28, 14, 7, 64, 112, 8, 4, 2, 1].map(|line| run(line, 8)), [7, 7, 7, 7, 8, 7, 8, 4, 2, 1]);
    }

    #[test]
    fn sums_of_the_weight_gradient_fit_into_registers() {
        for (samples, geometry, channels) in EXTREMES {
            for kernel in [1, 3, 5, 7, 9, 31] {
                let tile = shape(samples, geometry, channels, kernel).depthwise();
                assert!(tile.tap_rows >= 1 && tile.tap_rows <= kernel);
                assert!(tile.tap_rows == 1 || tile.tap_rows * kernel * tile.columns.vector <= TAP_SUMS);
                assert!(tile.parts(kernel, channels) >= 1);
            }
        }
    }

    #[test]
    fn a_whole_block_can_be_scheduled_at_extreme_sizes() {
        for (samples, geometry, channels) in EXTREMES {
            for flavour in [Flavour::V1, Flavour::V2] {
                let shape = Shape { flavour, ..shape(samples, geometry, channels, 7) };
                let mut schedule = Schedule::new();
                let parameters = Parameters::named(&shape.layer(), |name, length| {
                    let value = schedule.temporary(name, Element::F32, length);
                    Parameter { value, mirror: schedule.temporary(name, shape.real, length), gradient: value }
                });
                let tables =
                    matches!(geometry, Geometry::Sparse { .. }).then(|| Tables::new(&mut schedule, samples, 49, 19));
                let drop = Some(schedule.temporary("drop", Element::F32, samples));
                let x = schedule.temporary("x", shape.real, shape.rows() * channels);
                let (out, saved) = forward(&mut schedule, &shape, &parameters, tables.as_ref(), drop, x).unwrap();
                backward(&mut schedule, &shape, &parameters, tables.as_ref(), drop, &saved, out).unwrap();
                let shared = schedule.buffers().iter().filter(|buffer| buffer.name.ends_with("sums"));
                let largest = shared.map(|buffer| buffer.length).max().unwrap();
                assert!(largest <= 1 << 27, "{shape:?}: {largest} partial sums");
            }
        }
    }

    #[test]
    fn a_batch_beyond_what_an_int_counts_is_refused() {
        let shape = shape(1 << 20, Geometry::Dense { height: 56, width: 56 }, 1, 7);
        let mut schedule = Schedule::new();
        let parameters = Parameters::named(&shape.layer(), |name, length| {
            let value = schedule.temporary(name, Element::F32, length);
            Parameter { value, mirror: value, gradient: value }
        });
        let x = schedule.temporary("x", shape.real, shape.rows());
        let refused = forward(&mut schedule, &shape, &parameters, None, None, x);
        assert!(matches!(refused, Err(ScheduleError::TooLarge { .. })), "{refused:?}");
    }

    #[test]
    fn one_visible_patch_is_enough() {
        let tile = shape(1, sparse(1, 1), 2816, 7).depthwise();
        assert_eq!((tile.run, tile.strips, tile.grid()[0]), (1, 1, 1));
    }
}
