//! The optimiser on CUDA: one pass over memory, coefficients and clipping read from the device.

use super::Coefficients;
use crate::launch::{
    element::Element,
    kernel::{Module, Source},
    schedule::{Argument::*, Lifetime, Schedule, ScheduleError, View, count},
    tile::THREADS,
};

/// The kernels.
pub static OPTIM: Source = Source {
    name: "optim.cu",
    text: include_str!("optim.cu"),
    kernels: &["sum_squares", "clip", "check_update", "adamw", "copy_parameters"],
};

/// Elements that one block updates.
const CHUNK: usize = 2048;

/// Blocks that sum squares, at most.
const SUMS: usize = 1024;

/// Floats in [`Coefficients`], in the order of its fields: what `coefficients` holds for every rule.
pub const COEFFICIENTS: usize = 7;

/// The numbers of an update as the device reads them.
pub fn coefficient_values(coefficients: &[Coefficients]) -> Vec<f32> {
    let row = |c: &Coefficients| [c.keep, c.rate1, c.beta2, c.rate2, c.step, c.root_scale, c.eps];
    coefficients.iter().flat_map(row).collect()
}

/// An optimiser over `length` elements under `rules` rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Elements of the flat buffers.
    pub length: usize,
    /// Rules, whose elements lie back to back.
    pub rules: usize,
    /// Whether a moving average is kept.
    pub ema: bool,
    /// Type of the copy that products read; none is kept for f32.
    pub real: Element,
}

/// What an update reads and writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    /// f32 `[length]`.
    pub parameters: View,
    /// Their copy in the activations' type, if that is not f32.
    pub mirror: Option<View>,
    /// f32 `[length]`.
    pub gradients: View,
    /// First moments, f32 `[length]`.
    pub m: View,
    /// Second moments, f32 `[length]`.
    pub v: View,
    /// Moving average, f32 `[length]`, if there is one.
    pub average: Option<View>,
    /// Where each rule's elements end, i32 `[rules]`.
    pub ends: View,
    /// f32 `[rules, 7]`: new for every step.
    pub coefficients: View,
    /// f32 `[1]`: how far the average moves; new for every step.
    pub ema_rate: View,
    /// f32 `[1]`: the sum of the losses of the batches whose gradients were added up.
    pub losses: View,
    /// f32 `[4]`, written: norm of the gradient; factor on it; 1 if norm, loss and the updated values are finite, else 0; mean of the losses.
    pub status: View,
}

impl State {
    /// Buffers for everything but parameters and gradients.
    pub fn new(
        schedule: &mut Schedule,
        shape: &Shape,
        parameters: View,
        mirror: Option<View>,
        gradients: View,
    ) -> Self {
        use Lifetime::Persistent;
        let Shape { length, rules, ema, .. } = *shape;
        Self {
            parameters,
            mirror,
            gradients,
            m: schedule.buffer("moments.first", Element::F32, length, Persistent),
            v: schedule.buffer("moments.second", Element::F32, length, Persistent),
            average: ema.then(|| schedule.buffer("average", Element::F32, length, Persistent)),
            ends: schedule.buffer("rules.ends", Element::I32, rules, Persistent),
            coefficients: schedule.input("rules.coefficients", Element::F32, rules * COEFFICIENTS),
            ema_rate: schedule.input("average.rate", Element::F32, 1),
            losses: schedule.buffer("losses", Element::F32, 1, Persistent),
            status: schedule.buffer("update.status", Element::F32, 4, Persistent),
        }
    }
}

impl Shape {
    fn mirrored(&self) -> bool {
        self.real != Element::F32
    }

    fn module(&self) -> Module {
        Module::new(&OPTIM, self.real)
            .with("THREADS", THREADS)
            .with("CHUNK", CHUNK)
            .with_flag("EMA", self.ema)
            .with_flag("MIRROR", self.mirrored())
    }

    /// The kernel files that the optimiser needs.
    pub fn modules(&self) -> Vec<Module> {
        vec![self.module()]
    }
}

/// Norm of `scale * gradients`, the factor that clips it to `max_norm` (0: no clipping), `scale * losses`, and whether
/// norm and loss are finite. `scale` is 1 / the number of batches whose gradients and losses were added up.
///
/// # Errors
/// [`ScheduleError::TooLarge`] for more than 2^30 elements.
pub fn clip(
    schedule: &mut Schedule,
    shape: &Shape,
    state: &State,
    scale: f32,
    max_norm: f32,
) -> Result<(), ScheduleError> {
    let length = count("parameters", shape.length)?;
    let blocks = shape.length.div_ceil(THREADS * 4).clamp(1, SUMS);
    let partial = schedule.temporary("squares", Element::F64, blocks);
    let arguments = [Read(state.gradients), Write(partial), Int(length)];
    schedule.launch(&shape.module(), "sum_squares", [blocks, 1, 1], THREADS, arguments)?;
    let count = Int(count("sums", blocks)?);
    let arguments = [Read(partial), Read(state.losses), Write(state.status), count, Float(scale), Float(max_norm)];
    schedule.launch(&shape.module(), "clip", [1, 1, 1], THREADS, arguments)
}

/// One update, after [`clip`]. Without a finite norm and a finite loss nothing changes, nor where the update would leave a
/// parameter or a moment that is not finite; the status says so afterwards.
///
/// # Errors
/// [`ScheduleError::TooLarge`] for more than 2^30 elements.
pub fn update(schedule: &mut Schedule, shape: &Shape, state: &State) -> Result<(), ScheduleError> {
    let (length, rules) = (count("parameters", shape.length)?, count("rules", shape.rules)?);
    let grid = [shape.length.div_ceil(CHUNK), 1, 1];
    let arguments = [
        Read(state.parameters),
        Read(state.gradients),
        Read(state.m),
        Read(state.v),
        Read(state.ends),
        Read(state.coefficients),
        Update(state.status),
        Int(rules),
        Int(length),
    ];
    schedule.launch(&shape.module(), "check_update", grid, THREADS, arguments)?;
    let mirror = state.mirror.filter(|_| shape.mirrored());
    let arguments = [
        Update(state.parameters),
        Read(state.gradients),
        Update(state.m),
        Update(state.v),
        state.average.map_or(Null, Update),
        mirror.map_or(Null, Update),
        Read(state.ends),
        Read(state.coefficients),
        Read(state.status),
        Read(state.ema_rate),
        Int(rules),
        Int(length),
    ];
    schedule.launch(&shape.module(), "adamw", grid, THREADS, arguments)
}

/// Fills the copy of the parameters that products read.
///
/// # Errors
/// [`ScheduleError::TooLarge`] for more than 2^30 elements.
pub fn copy_parameters(
    schedule: &mut Schedule,
    shape: &Shape,
    parameters: View,
    mirror: View,
) -> Result<(), ScheduleError> {
    let arguments = [Read(parameters), Write(mirror), Int(count("parameters", shape.length)?)];
    schedule.launch(&shape.module(), "copy_parameters", [shape.length.div_ceil(THREADS), 1, 1], THREADS, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::schedule::Step;

    fn grids(length: usize) -> Result<Vec<[u32; 3]>, ScheduleError> {
        let shape = Shape { length, rules: 3, ema: true, real: Element::F32 };
        let mut schedule = Schedule::new();
        let flat = schedule.buffer("flat", Element::F32, length, Lifetime::Persistent);
        let state = State::new(&mut schedule, &shape, flat, None, flat);
        clip(&mut schedule, &shape, &state, 1.0, 1.0)?;
        update(&mut schedule, &shape, &state)?;
        let grid = |step: &Step| match step {
            Step::Launch(launch) => launch.grid,
            _ => unreachable!("only launches"),
        };
        Ok(schedule.steps().iter().map(grid).collect())
    }

    #[test]
    fn grids_of_extreme_lengths() {
        assert_eq!(grids(1), Ok(vec![[1, 1, 1]; 4]));
        assert_eq!(grids(660_289_672), Ok(vec![[1024, 1, 1], [1, 1, 1], [322_408, 1, 1], [322_408, 1, 1]]));
        assert!(matches!(grids(usize::MAX / 8), Err(ScheduleError::TooLarge { .. })));
    }
}
