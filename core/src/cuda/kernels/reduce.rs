//! Sums over rows, always in the same order.

use crate::cuda::{
    kernel::{Module, Source},
    schedule::{Argument::*, Element, Schedule, ScheduleError, View, count},
    tile::{Columns, THREADS},
};

/// Sums of the columns of an activation.
pub static REDUCE: Source = Source { name: "reduce.cu", text: include_str!("reduce.cu"), kernels: &["column_sums"] };

/// Joins partial sums.
pub static PARTIAL: Source =
    Source { name: "partial.cu", text: include_str!("partial.cu"), kernels: &["sum_rows", "sum_all"] };

/// Rows of partial sums that one block adds up, if there are more.
const SEGMENT: usize = 128;

fn partial_module() -> Module {
    Module::new(&PARTIAL, Element::F32).with("THREADS", THREADS)
}

/// `out (+)= sum over rows of partial [rows, stride]`, of the columns from `first` on, as many as `out` has.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn sum_rows(
    schedule: &mut Schedule,
    partial: View,
    (rows, stride, first): (usize, usize, usize),
    out: View,
    accumulate: bool,
) -> Result<(), ScheduleError> {
    let mut from = (partial.part(first, partial.length - first), rows, stride);
    if rows > 2 * SEGMENT {
        let segments = rows.div_ceil(SEGMENT);
        let joined = schedule.temporary("joined sums", Element::F32, segments * out.length);
        launch_sum_rows(schedule, from, joined, out.length, (segments, SEGMENT), false)?;
        from = (joined, segments, out.length);
    }
    launch_sum_rows(schedule, from, out, out.length, (1, from.1), accumulate)
}

fn launch_sum_rows(
    schedule: &mut Schedule,
    (partial, rows, stride): (View, usize, usize),
    out: View,
    columns: usize,
    (segments, segment): (usize, usize),
    accumulate: bool,
) -> Result<(), ScheduleError> {
    let to = if accumulate { Update(out) } else { Write(out) };
    let numbers = [count("partial sums", rows)?, count("partial sums", stride)?, count("partial sums", columns)?];
    let [rows, stride, columns_int] = numbers.map(Int);
    let more = [Int(count("partial sums", segment)?), Int(i32::from(accumulate))];
    let arguments = [Read(partial), to, rows, stride, columns_int, more[0], more[1]];
    schedule.launch(&partial_module(), "sum_rows", [columns.div_ceil(32), segments, 1], THREADS, arguments)
}

/// `out [1] = factor * sum of values`.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn sum_all(schedule: &mut Schedule, values: View, factor: f32, out: View) -> Result<(), ScheduleError> {
    let arguments = [Read(values), Write(out), Int(count("values", values.length)?), Float(factor)];
    schedule.launch(&partial_module(), "sum_all", [1, 1, 1], THREADS, arguments)
}

/// `out [columns] += sum over rows of x [rows, columns]`: the gradient of a bias.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn add_column_sums(schedule: &mut Schedule, x: View, rows: usize, out: View) -> Result<(), ScheduleError> {
    let columns = out.length;
    assert_eq!(x.length, rows * columns, "length of what is summed");
    let tile = Columns::new(columns, x.element);
    let module = tile.define(Module::new(&REDUCE, x.element).with("COLUMNS", columns));
    let blocks = tile.reducing_blocks(rows, columns, 1);
    let partial = schedule.temporary("column sums", Element::F32, blocks * columns);
    let arguments = [Read(x), Write(partial), Int(count("rows", rows)?)];
    schedule.launch(&module, "column_sums", [blocks, tile.chunks, 1], tile.threads(), arguments)?;
    sum_rows(schedule, partial, (blocks, columns, 0), out, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::schedule::{Lifetime, Step};

    fn launches(rows: usize, columns: usize) -> Vec<[u32; 3]> {
        let mut schedule = Schedule::new();
        let partial = schedule.buffer("partial", Element::F32, rows * columns, Lifetime::Persistent);
        let out = schedule.buffer("out", Element::F32, columns, Lifetime::Persistent);
        sum_rows(&mut schedule, partial, (rows, columns, 0), out, true).unwrap();
        let grid = |step: &Step| match step {
            Step::Launch(launch) => launch.grid,
            _ => unreachable!("only launches"),
        };
        schedule.steps().iter().map(grid).collect()
    }

    #[test]
    fn many_rows_are_joined_in_two_steps() {
        assert_eq!(launches(1, 1), [[1, 1, 1]]);
        assert_eq!(launches(256, 33), [[2, 1, 1]]);
        assert_eq!(launches(4096, 11264), [[352, 32, 1], [352, 1, 1]]);
    }

    #[test]
    fn more_rows_than_an_int_are_refused() {
        let mut schedule = Schedule::new();
        let x = schedule.buffer("x", Element::Bf16, 5 << 30, Lifetime::Persistent);
        let out = schedule.buffer("out", Element::F32, 1, Lifetime::Persistent);
        let refused = add_column_sums(&mut schedule, x, 5 << 30, out);
        assert!(matches!(refused, Err(ScheduleError::TooLarge { what: "rows", .. })));
    }
}
