//! Layer normalisation of rows.

use super::reduce::Sum;
use crate::launch::{
    element::Element,
    kernel::{Module, Source},
    schedule::{Argument::*, Parameter, Schedule, ScheduleError, View, count},
    tile::{Columns, THREADS, reducing_blocks},
};

/// The kernels.
pub static LAYER_NORM: Source = Source {
    name: "layer_norm.cu",
    text: include_str!("layer_norm.cu"),
    kernels: &["layer_norm_forward", "layer_norm_apply", "layer_norm_backward"],
};

/// A layer normalisation of `rows` rows of `channels` values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerNorm {
    /// Rows of the whole batch.
    pub rows: usize,
    /// Values of a row.
    pub channels: usize,
    /// If the normalised rows are gathered for a 2x2 downsampling: cells side by side. Else 0.
    pub line: usize,
    /// Type of the rows.
    pub real: Element,
}

/// Mean and reciprocal deviation of every row, f32 `[rows]` each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Statistics {
    /// Means.
    pub mean: View,
    /// `1 / sqrt(variance + 1e-6)`.
    pub rate: View,
}

impl Statistics {
    /// Buffers for `rows` rows.
    pub fn new(schedule: &mut Schedule, rows: usize) -> Self {
        Self {
            mean: schedule.temporary("norm.mean", Element::F32, rows),
            rate: schedule.temporary("norm.rate", Element::F32, rows),
        }
    }
}

impl LayerNorm {
    fn tile(&self) -> Columns {
        Columns::new(self.channels, self.real)
    }

    /// Lanes that share a row.
    fn team(&self) -> usize {
        (self.channels / self.tile().vector).next_power_of_two().min(32)
    }

    /// Lanes that share a row backwards: a warp, or as many as have two vectors each or fewer; 256 at most.
    fn backward_team(&self) -> usize {
        let vectors = self.channels / self.tile().vector;
        (self.team()..THREADS).find(|team| team.is_power_of_two() && vectors <= 2 * team).unwrap_or(THREADS)
    }

    /// Blocks of the backward pass: whole waves on 132 multiprocessors, be it two or three to one of them; each has two
    /// rounds or more.
    fn backward_blocks(&self) -> usize {
        let rounds = self.rows.div_ceil(2 * THREADS / self.backward_team());
        reducing_blocks(rounds.div_ceil(2).min(6 * 132), 1, 3 * self.channels)
    }

    /// The file with this normalisation's constants.
    pub fn module(&self) -> Module {
        let module = Module::new(&LAYER_NORM, self.real)
            .with("CHANNELS", self.channels)
            .with("LINE", self.line)
            .with("TEAM", self.team())
            .with("BACKWARD_TEAM", self.backward_team())
            .with("BACKWARD_THREADS", THREADS);
        self.tile().define(module)
    }

    /// `z = LN(x)` and the statistics.
    ///
    /// # Errors
    /// [`ScheduleError::TooLarge`].
    pub fn forward(
        &self,
        schedule: &mut Schedule,
        x: View,
        (weight, bias): (View, View),
        z: View,
        statistics: Statistics,
    ) -> Result<(), ScheduleError> {
        let threads = self.tile().threads();
        let blocks = self.rows.div_ceil(threads / self.team());
        let Statistics { mean, rate } = statistics;
        let arguments =
            [Read(x), Read(weight), Read(bias), Write(z), Write(mean), Write(rate), Int(count("rows", self.rows)?)];
        schedule.launch(&self.module(), "layer_norm_forward", [blocks, 1, 1], threads, arguments)
    }

    /// `z = LN(x)`, the statistics given.
    ///
    /// # Errors
    /// [`ScheduleError::TooLarge`].
    pub fn apply(
        &self,
        schedule: &mut Schedule,
        x: View,
        statistics: Statistics,
        (weight, bias): (View, View),
        z: View,
    ) -> Result<(), ScheduleError> {
        let tile = self.tile();
        let Statistics { mean, rate } = statistics;
        let arguments =
            [Read(x), Read(mean), Read(rate), Read(weight), Read(bias), Write(z), Int(count("rows", self.rows)?)];
        let grid = [tile.blocks(self.rows), tile.chunks, 1];
        schedule.launch(&self.module(), "layer_norm_apply", grid, tile.threads(), arguments)
    }

    /// `grad_x` from `grad_z`, which may be the same view if nothing is gathered. What is left to be added up goes to
    /// `sums`: the gradients of weight and bias, and that of the bias of whatever made `x`, if it is given as `before`.
    ///
    /// # Errors
    /// [`ScheduleError::TooLarge`].
    #[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
    pub fn backward(
        &self,
        schedule: &mut Schedule,
        (grad_z, grad_x): (View, View),
        x: View,
        statistics: Statistics,
        (weight, bias): (&Parameter, &Parameter),
        before: Option<&Parameter>,
        sums: &mut Vec<Sum>,
    ) -> Result<(), ScheduleError> {
        let (channels, blocks) = (self.channels, self.backward_blocks());
        let partial = schedule.temporary("norm sums", Element::F32, blocks * 3 * channels);
        let (from, to) =
            if grad_z == grad_x { (Update(grad_z), Update(grad_x)) } else { (Read(grad_z), Write(grad_x)) };
        let Statistics { mean, rate } = statistics;
        let arguments = [
            from,
            Read(x),
            Read(mean),
            Read(rate),
            Read(weight.value),
            to,
            Write(partial),
            Int(count("rows", self.rows)?),
        ];
        schedule.launch(&self.module(), "layer_norm_backward", [blocks, 1, 1], THREADS, arguments)?;
        let parameters = [Some(weight), Some(bias), before].into_iter().enumerate();
        sums.extend(parameters.filter_map(|(kind, parameter)| {
            let out = parameter?.gradient;
            Some(Sum { partial, rows: blocks, stride: 3 * channels, first: kind * channels, out })
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_of_extreme_sizes() {
        let sizes = |channels, real| {
            let norm = LayerNorm { rows: 1, channels, line: 0, real };
            (norm.team(), norm.backward_team())
        };
        assert_eq!(sizes(1, Element::F32), (1, 1));
        assert_eq!(sizes(40, Element::Bf16), (8, 8));
        assert_eq!(sizes(96, Element::F32), (32, 32));
        assert_eq!(sizes(2816, Element::Bf16), (32, 256));
        assert_eq!(sizes(1021, Element::F32), (32, 256));
    }

    #[test]
    fn more_rows_than_an_int_are_refused() {
        let mut schedule = Schedule::new();
        let rows = 3 << 30;
        let x = schedule.temporary("x", Element::Bf16, rows);
        let w = schedule.temporary("w", Element::F32, 1);
        let statistics = Statistics::new(&mut schedule, rows);
        let norm = LayerNorm { rows, channels: 1, line: 0, real: Element::Bf16 };
        assert!(matches!(norm.forward(&mut schedule, x, (w, w), x, statistics), Err(ScheduleError::TooLarge { .. })));
    }
}
