//! The block on CUDA: its launches and products, in order.
//!
//! Forward saves what backward needs: `x`, `y` with the statistics of its rows, `h` without its bias, and GRN's
//! norms. `z` and `u` are computed again. The gradient of the input takes the place of that of the output.

use super::Flavour;
use crate::cuda::{
    geometry::{Geometry, Tables, table_arguments},
    kernel::{Module, Source},
    kernels::{
        layer_norm::{LayerNorm, Statistics},
        reduce::sum_rows,
    },
    schedule::{Argument::*, Element, Parameter, Schedule, ScheduleError, View, count},
    tile::{Columns, reducing_blocks, run, segments, vector},
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

/// The parameters, as [`super::Weights`] has them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    /// Depthwise kernel, `[K, K, C]`.
    pub depthwise: Parameter,
    /// Bias of the depthwise convolution, `[C]`.
    pub depthwise_bias: Parameter,
    /// Scale of the normalisation, `[C]`.
    pub norm: Parameter,
    /// Shift of the normalisation, `[C]`.
    pub norm_bias: Parameter,
    /// First pointwise layer, `[C, F]`.
    pub expand: Parameter,
    /// Its bias, `[F]`.
    pub expand_bias: Parameter,
    /// V2: GRN's scale, `[F]`. V1: LayerScale, `[C]`.
    pub gamma: Parameter,
    /// V2: GRN's shift, `[F]`. V1: none.
    pub beta: Option<Parameter>,
    /// Second pointwise layer, `[F, C]`.
    pub project: Parameter,
    /// Its bias, `[C]`.
    pub project_bias: Parameter,
}

impl Parameters {
    /// The parameters by their names in checkpoints; `get` knows their lengths as well.
    pub fn named(shape: &Shape, mut get: impl FnMut(&str, usize) -> Parameter) -> Self {
        let Shape { channels, hidden, kernel, flavour, .. } = *shape;
        let v2 = flavour == Flavour::V2;
        Self {
            depthwise: get("dwconv.weight", kernel * kernel * channels),
            depthwise_bias: get("dwconv.bias", channels),
            norm: get("norm.weight", channels),
            norm_bias: get("norm.bias", channels),
            expand: get("pwconv1.weight", channels * hidden),
            expand_bias: get("pwconv1.bias", hidden),
            gamma: if v2 { get("grn.gamma", hidden) } else { get("layer_scale.gamma", channels) },
            beta: v2.then(|| get("grn.beta", hidden)),
            project: get("pwconv2.weight", hidden * channels),
            project_bias: get("pwconv2.bias", channels),
        }
    }
}

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
        let vector = if self.channels.is_multiple_of(2) { 2 } else { 1 };
        let run = run(self.geometry.line());
        let pieces = self.geometry.line().div_ceil(run);
        let runs = self.samples * (self.geometry.rows() / self.geometry.line().max(1)) * pieces;
        let tap_rows = (TAP_SUMS / (self.kernel * vector)).clamp(1, self.kernel);
        Depthwise { columns: Columns::with_vector(self.channels, vector), run, runs, tap_rows }
    }

    fn depthwise_module(&self) -> Module {
        let Depthwise { columns, run, tap_rows, .. } = self.depthwise();
        let module = Module::new(&DEPTHWISE, self.real)
            .with("CHANNELS", self.channels)
            .with("KERNEL", self.kernel)
            .with("LINE", self.geometry.line())
            .with("RUN", run)
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
    /// Cells of a run.
    run: usize,
    /// Runs of the batch.
    runs: usize,
    /// Kernel rows that one block of the weight gradient takes.
    tap_rows: usize,
}

impl Depthwise {
    fn blocks(&self) -> usize {
        self.runs.div_ceil(self.columns.groups)
    }

    /// Runs of a block of the weight gradient, and number of blocks, for kernels of this side.
    fn segments(&self, kernel: usize, channels: usize) -> (usize, usize) {
        let others = self.columns.chunks * kernel.div_ceil(self.tap_rows);
        let wanted = self.runs.div_ceil(self.columns.groups * 4);
        let segments = reducing_blocks(wanted, others, kernel * kernel * channels);
        let segment = self.runs.div_ceil(segments).max(1);
        (segment, self.runs.div_ceil(segment).max(1))
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
    Ok((call.project(schedule, x, u)?, saved))
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
    call.project(schedule, x, h)
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
    let (branch, project, sums) = call.branch_backward(schedule, grad)?;
    let grad_u = schedule.temporary("block.grad_u", shape.real, saved.h.length);
    schedule.multiply_transposed(shape.rows(), branch, project, grad_u);
    let slope = call.grn_backward(schedule, saved, grad_u)?;
    let u = call.hidden_backward(schedule, saved, slope, grad_u)?; // grad_u is the gradient of h now
    call.project_backward(schedule, u, branch, sums)?;
    let grad_y = call.expand_backward(schedule, saved, grad_u)?;
    call.depthwise_backward(schedule, saved.x, grad_y, grad)
}

impl Call<'_> {
    /// As far as the hidden features without their bias, and GRN's statistics of them.
    fn features(&self, schedule: &mut Schedule, x: View) -> Result<Saved, ScheduleError> {
        let shape = self.shape;
        let (y, statistics) = self.depthwise(schedule, x)?;
        let z = self.normalised(schedule, y, statistics)?;
        let h = schedule.temporary("block.h", shape.real, shape.rows() * shape.hidden);
        schedule.multiply(shape.rows(), z, self.parameters.expand.mirror, None, h);
        let grn = if shape.v2() { Some(self.grn_statistics(schedule, h)?) } else { None };
        Ok(Saved { x, y, statistics, h, grn })
    }

    fn depthwise(&self, schedule: &mut Schedule, x: View) -> Result<(View, Statistics), ScheduleError> {
        let (shape, tile) = (self.shape, self.shape.depthwise());
        let y = schedule.temporary("block.y", shape.real, x.length);
        let statistics = Statistics::new(schedule, shape.rows());
        let (slots, visible) = table_arguments(self.tables);
        count("runs of cells", tile.runs)?;
        count("rows", shape.rows())?;
        let arguments = [
            Read(x),
            Read(self.parameters.depthwise.value),
            Read(self.parameters.depthwise_bias.value),
            slots,
            visible,
            Write(y),
            Write(statistics.mean),
            Write(statistics.rate),
            Int(count("samples", shape.samples)?),
        ];
        let (grid, threads) = ([tile.blocks(), 1, 1], tile.columns.threads());
        schedule.launch(&shape.depthwise_module(), "depthwise_forward", grid, threads, arguments)?;
        Ok((y, statistics))
    }

    /// `z = LN(y)`.
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
        let arguments = [Read(h), Read(self.parameters.expand_bias.value), Write(partial)];
        schedule.launch(&module, "grn_statistics", tile.grid(shape.samples), threads, arguments)?;
        let arguments =
            [Read(partial), Read(self.parameters.gamma.value), Write(grn.norm), Write(grn.factor), Write(grn.mean)];
        schedule.launch(&module, "grn_statistics_finish", [shape.samples, 1, 1], shape.finish_threads(), arguments)?;
        Ok(grn)
    }

    /// Factor and shift of GRN as arguments.
    fn grn_arguments(&self, grn: Option<Grn>) -> (crate::cuda::schedule::Argument, crate::cuda::schedule::Argument) {
        let beta = self.parameters.beta.map_or(Null, |beta| Read(beta.value));
        (grn.map_or(Null, |grn| Read(grn.factor)), beta)
    }

    /// `u`, which may take the place of `h`.
    fn hidden(&self, schedule: &mut Schedule, h: View, grn: Option<Grn>, u: View) -> Result<(), ScheduleError> {
        let (shape, tile) = (self.shape, self.shape.hidden_tile());
        let (factor, beta) = self.grn_arguments(grn);
        let (from, to) = if h == u { (Update(h), Update(u)) } else { (Read(h), Write(u)) };
        let arguments = [from, Read(self.parameters.expand_bias.value), factor, beta, to];
        let (grid, threads) = (tile.grid(shape.samples), tile.columns.threads());
        schedule.launch(&shape.hidden_module(), "hidden_apply", grid, threads, arguments)
    }

    /// The output. Where the branch is added as it is, the product does that.
    fn project(&self, schedule: &mut Schedule, x: View, u: View) -> Result<View, ScheduleError> {
        let (shape, Parameters { project, project_bias, .. }) = (self.shape, self.parameters);
        let out = schedule.temporary("block.out", shape.real, x.length);
        if shape.v2() && self.drop.is_none() {
            schedule.multiply_and_add(shape.rows(), (u, project.mirror), project_bias.mirror, x, out);
            return Ok(out);
        }
        schedule.multiply(shape.rows(), u, project.mirror, None, out);
        self.residual(schedule, x, out)
    }

    fn residual(&self, schedule: &mut Schedule, x: View, branch: View) -> Result<View, ScheduleError> {
        let (shape, tile) = (self.shape, Columns::new(self.shape.channels, self.shape.real));
        let scale = if shape.v2() { Null } else { Read(self.parameters.gamma.value) };
        let arguments = [
            Read(x),
            Update(branch),
            Read(self.parameters.project_bias.value),
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
    ) -> Result<(View, View, Option<View>), ScheduleError> {
        let (shape, tile) = (self.shape, Columns::new(self.shape.channels, self.shape.real));
        let (rows, channels, project) = (shape.rows(), shape.channels, self.parameters.project);
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
        let (branch, place) = (branch.unwrap_or(grad), (blocks, channels, 0));
        if shape.v2() {
            sum_rows(schedule, partial, place, self.parameters.project_bias.gradient, true)?;
            return Ok((branch, project.mirror, None));
        }
        let sums = schedule.temporary("branch sum", Element::F32, channels);
        sum_rows(schedule, partial, place, sums, false)?;
        let scaled = schedule.temporary("scaled weight", shape.real, project.value.length);
        let arguments = [Read(project.value), Read(self.parameters.gamma.value), Write(scaled)];
        let grid = [shape.hidden.div_ceil(tile.groups), tile.chunks, 1];
        schedule.launch(&module, "scale_weight", grid, tile.threads(), arguments)?;
        Ok((branch, scaled, Some(sums)))
    }

    /// V2: the gradients of gamma and beta, and `ds / s [N, F]`.
    fn grn_backward(
        &self,
        schedule: &mut Schedule,
        saved: &Saved,
        grad_u: View,
    ) -> Result<Option<View>, ScheduleError> {
        let (Some(grn), Some(beta)) = (saved.grn, self.parameters.beta) else { return Ok(None) };
        let (shape, tile, module) = (self.shape, self.shape.hidden_tile(), self.shape.hidden_module());
        let (samples, hidden, threads) = (shape.samples, shape.hidden, tile.columns.threads());
        let partial = schedule.temporary("grn gradient sums", Element::F32, samples * tile.segments * 2 * hidden);
        let arguments = [Read(saved.h), Read(self.parameters.expand_bias.value), Read(grad_u), Write(partial)];
        schedule.launch(&module, "grn_backward_statistics", tile.grid(samples), threads, arguments)?;
        let slope = schedule.temporary("grn.slope", Element::F32, samples * hidden);
        let gradients = schedule.temporary("grn gradients", Element::F32, samples * 2 * hidden);
        let arguments = [
            Read(partial),
            Read(self.parameters.gamma.value),
            Read(grn.norm),
            Read(grn.mean),
            Write(slope),
            Write(gradients),
        ];
        schedule.launch(&module, "grn_backward_finish", [samples, 1, 1], shape.finish_threads(), arguments)?;
        sum_rows(schedule, gradients, (samples, 2 * hidden, 0), self.parameters.gamma.gradient, true)?;
        sum_rows(schedule, gradients, (samples, 2 * hidden, hidden), beta.gradient, true)?;
        Ok(Some(slope))
    }

    /// Turns `grad`, that of `u`, into that of `h`; returns `u`.
    fn hidden_backward(
        &self,
        schedule: &mut Schedule,
        saved: &Saved,
        slope: Option<View>,
        grad: View,
    ) -> Result<View, ScheduleError> {
        let (shape, tile) = (self.shape, self.shape.hidden_tile());
        let blocks = shape.samples * tile.segments;
        let partial = schedule.temporary("hidden sums", Element::F32, blocks * shape.hidden);
        let u = schedule.temporary("block.u", shape.real, saved.h.length);
        let (factor, beta) = self.grn_arguments(saved.grn);
        let arguments = [
            Read(saved.h),
            Read(self.parameters.expand_bias.value),
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
        sum_rows(schedule, partial, (blocks, shape.hidden, 0), self.parameters.expand_bias.gradient, true)?;
        Ok(u)
    }

    /// The gradients of the second pointwise layer; for V1, those of its bias and LayerScale too.
    fn project_backward(
        &self,
        schedule: &mut Schedule,
        u: View,
        branch: View,
        sums: Option<View>,
    ) -> Result<(), ScheduleError> {
        let (shape, Parameters { project, project_bias, gamma, .. }) = (self.shape, self.parameters);
        let Some(sums) = sums else {
            schedule.weight_gradient(shape.rows(), u, branch, project.gradient, true);
            return Ok(());
        };
        let unscaled = schedule.temporary("unscaled gradient", Element::F32, project.value.length);
        schedule.weight_gradient(shape.rows(), u, branch, unscaled, false);
        let tile = Columns::new(shape.channels, shape.real);
        let arguments = [
            Read(unscaled),
            Read(sums),
            Read(project.value),
            Read(project_bias.value),
            Read(gamma.value),
            Update(project.gradient),
            Update(project_bias.gradient),
            Update(gamma.gradient),
        ];
        let module = shape.residual_module(self.drop.is_some());
        schedule.launch(&module, "layer_scale_backward", [tile.chunks, 1, 1], tile.threads(), arguments)
    }

    /// From the gradient of `h` to that of `y`, with the gradients of the first pointwise layer and the normalisation.
    fn expand_backward(&self, schedule: &mut Schedule, saved: &Saved, grad_h: View) -> Result<View, ScheduleError> {
        let (rows, parameters) = (self.shape.rows(), self.parameters);
        let z = self.normalised(schedule, saved.y, saved.statistics)?;
        schedule.weight_gradient(rows, z, grad_h, parameters.expand.gradient, true);
        let grad = schedule.temporary("block.grad_y", self.shape.real, saved.y.length);
        schedule.multiply_transposed(rows, grad_h, parameters.expand.mirror, grad);
        let weights = (&parameters.norm, &parameters.norm_bias);
        let (statistics, bias) = (saved.statistics, Some(&parameters.depthwise_bias));
        self.shape.norm().backward(schedule, (grad, grad), saved.y, statistics, weights, bias)?;
        Ok(grad)
    }

    fn depthwise_backward(
        &self,
        schedule: &mut Schedule,
        x: View,
        grad_y: View,
        grad: View,
    ) -> Result<(), ScheduleError> {
        let (shape, tile, module) = (self.shape, self.shape.depthwise(), self.shape.depthwise_module());
        let (slots, visible) = table_arguments(self.tables);
        let (samples, threads) = (Int(count("samples", shape.samples)?), tile.columns.threads());
        let taps = shape.kernel * shape.kernel * shape.channels;
        let (segment, blocks) = tile.segments(shape.kernel, shape.channels);
        let partial = schedule.temporary("depthwise sums", Element::F32, blocks * taps);
        let segment = Int(count("runs of cells", segment)?);
        let arguments = [Read(x), Read(grad_y), slots, visible, Write(partial), samples, segment];
        let grid = [blocks, tile.columns.chunks, shape.kernel.div_ceil(tile.tap_rows)];
        schedule.launch(&module, "depthwise_weight_gradient", grid, threads, arguments)?;
        let weight = self.parameters.depthwise;
        sum_rows(schedule, partial, (blocks, taps, 0), weight.gradient, true)?;
        let arguments = [Read(grad_y), Read(weight.value), slots, visible, Update(grad), Update(grad), samples];
        schedule.launch(&module, "depthwise_input_gradient", [tile.blocks(), 1, 1], threads, arguments)
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
    fn runs_cover_every_row_once() {
        for (samples, geometry, channels) in EXTREMES {
            let tile = shape(samples, geometry, channels, 7).depthwise();
            let pieces = geometry.line().div_ceil(tile.run);
            assert!(tile.run <= 8 && tile.run * pieces >= geometry.line() && tile.run * (pieces - 1) < geometry.line());
            assert_eq!(tile.runs, samples * geometry.rows() / geometry.line() * pieces);
            assert!(tile.blocks() * tile.columns.groups >= tile.runs);
        }
    }

    #[test]
    fn shared_memory_stays_within_forty_eight_kilobytes() {
        for (samples, geometry, channels) in EXTREMES {
            let Depthwise { columns, run, .. } = shape(samples, geometry, channels, 7).depthwise();
            assert!(2 * columns.groups * run * columns.lanes * 4 <= 48 << 10, "{geometry:?} {channels}");
        }
    }

    #[test]
    fn the_weight_gradient_covers_runs_and_taps() {
        for (samples, geometry, channels) in EXTREMES {
            for kernel in [1, 3, 5, 7, 9, 31] {
                let tile = shape(samples, geometry, channels, kernel).depthwise();
                let (segment, blocks) = tile.segments(kernel, channels);
                assert!(segment * blocks >= tile.runs && segment * (blocks - 1) < tile.runs);
                assert!(tile.tap_rows >= 1 && tile.tap_rows <= kernel);
                assert!(tile.tap_rows == 1 || tile.tap_rows * kernel * tile.columns.vector <= TAP_SUMS);
            }
        }
    }

    #[test]
    fn a_whole_block_can_be_scheduled_at_extreme_sizes() {
        for (samples, geometry, channels) in EXTREMES {
            for flavour in [Flavour::V1, Flavour::V2] {
                let shape = Shape { flavour, ..shape(samples, geometry, channels, 7) };
                let mut schedule = Schedule::new();
                let parameters = Parameters::named(&shape, |name, length| {
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
        let parameters = Parameters::named(&shape, |name, length| {
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
        assert_eq!((tile.run, tile.runs, tile.blocks()), (1, 1, 1));
    }
}
