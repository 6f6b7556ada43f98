//! Sums over rows, always in the same order.

use crate::launch::{
    element::Element,
    kernel::{Module, Source},
    schedule::{Argument::*, Schedule, ScheduleError, View, count},
    tile::Columns,
};

/// Sums of the columns of an activation.
pub static REDUCE: Source = Source { name: "reduce.cu", text: include_str!("reduce.cu"), kernels: &["column_sums"] };

/// Joins partial sums.
pub static PARTIAL: Source =
    Source { name: "partial.cu", text: include_str!("partial.cu"), kernels: &["sum_rows", "sum_all"] };

/// Threads that join partial sums.
const JOINING_THREADS: usize = 1024;

/// Sums that one launch joins.
const AT_ONCE: usize = 8;

/// Partial sums `[rows, stride]` that are to be added up over the rows: of the columns from `first` on, as many as `out` has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sum {
    /// f32.
    pub partial: View,
    /// Rows.
    pub rows: usize,
    /// Values of a row.
    pub stride: usize,
    /// First column.
    pub first: usize,
    /// Where the sums go, f32.
    pub out: View,
}

fn partial_module() -> Module {
    Module::new(&PARTIAL, Element::F32).with("THREADS", JOINING_THREADS)
}

/// `out (+)=` every sum. A launch takes eight of them: one alone keeps a device busy for less time than its launch takes.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn sum_rows(schedule: &mut Schedule, sums: &[Sum], accumulate: bool) -> Result<(), ScheduleError> {
    sums.chunks(AT_ONCE).try_for_each(|sums| join(schedule, sums, accumulate))
}

fn join(schedule: &mut Schedule, sums: &[Sum], accumulate: bool) -> Result<(), ScheduleError> {
    let (mut arguments, mut blocks) = (Vec::new(), 0);
    for Sum { partial, rows, stride, first, out } in sums {
        let partial = partial.part(*first, partial.length - first);
        arguments.extend([Read(partial), if accumulate { Update(*out) } else { Write(*out) }]);
        for number in [*rows, *stride, out.length] {
            arguments.push(Int(count("partial sums", number)?));
        }
        blocks += out.length.div_ceil(32);
    }
    arguments.extend([Null, Null, Int(0), Int(0), Int(0)].repeat(AT_ONCE - sums.len()));
    arguments.push(Int(i32::from(accumulate)));
    schedule.launch(&partial_module(), "sum_rows", [blocks, 1, 1], JOINING_THREADS, arguments)
}

/// `out [1] = factor * sum of values`.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn sum_all(schedule: &mut Schedule, values: View, factor: f32, out: View) -> Result<(), ScheduleError> {
    let arguments = [Read(values), Write(out), Int(count("values", values.length)?), Float(factor)];
    schedule.launch(&partial_module(), "sum_all", [1, 1, 1], JOINING_THREADS, arguments)
}

/// Sums over the rows of `x [rows, columns]`, for `out [columns]`: what the gradient of a bias gets.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn column_sums(schedule: &mut Schedule, x: View, rows: usize, out: View) -> Result<Sum, ScheduleError> {
    let columns = out.length;
    assert_eq!(x.length, rows * columns, "length of what is summed");
    let tile = Columns::new(columns, x.element);
    let module = tile.define(Module::new(&REDUCE, x.element).with("COLUMNS", columns));
    let blocks = tile.reducing_blocks(rows, columns, 1);
    let partial = schedule.temporary("column sums", Element::F32, blocks * columns);
    let arguments = [Read(x), Write(partial), Int(count("rows", rows)?)];
    schedule.launch(&module, "column_sums", [blocks, tile.chunks, 1], tile.threads(), arguments)?;
    Ok(Sum { partial, rows: blocks, stride: columns, first: 0, out })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::schedule::{Lifetime, Step};

    #[test]
    fn a_launch_joins_eight_sums() {
        let mut schedule = Schedule::new();
        let partial = schedule.buffer("partial", Element::F32, 3 * 100, Lifetime::Persistent);
        let out = schedule.buffer("out", Element::F32, 33, Lifetime::Persistent);
        let sum = Sum { partial, rows: 3, stride: 100, first: 7, out };
        sum_rows(&mut schedule, &[sum; 11], true).unwrap();
        let launch = |step: &Step| match step {
            Step::Launch(launch) => (launch.grid[0], launch.arguments.len()),
            _ => unreachable!("only launches"),
        };
        assert_eq!(schedule.steps().iter().map(launch).collect::<Vec<_>>(), [(16, 41), (6, 41)]);
    }

    #[test]
    fn more_rows_than_an_int_are_refused() {
        let mut schedule = Schedule::new();
        let x = schedule.buffer("x", Element::Bf16, 5 << 30, Lifetime::Persistent);
        let out = schedule.buffer("out", Element::F32, 1, Lifetime::Persistent);
        let refused = column_sums(&mut schedule, x, 5 << 30, out);
        assert!(matches!(refused, Err(ScheduleError::TooLarge { what: "rows", .. })));
    }
}
