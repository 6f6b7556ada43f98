//! A bias on every row, where the library of products adds none.

use crate::launch::{
    kernel::{Module, Source},
    schedule::{Argument::*, Schedule, ScheduleError, View, count},
    tile::{THREADS, flat_blocks},
};

/// The kernel.
pub static BIAS: Source = Source { name: "bias.cu", text: include_str!("bias.cu"), kernels: &["add_bias"] };

/// `x [rows, columns] += bias [columns]`, both of one type. In bf16 what was rounded is rounded again.
///
/// # Errors
/// [`ScheduleError::TooLarge`].
pub fn add_bias(schedule: &mut Schedule, x: View, bias: View) -> Result<(), ScheduleError> {
    assert!(x.element == bias.element && x.length.is_multiple_of(bias.length), "a bias of another matrix");
    let module = Module::new(&BIAS, x.element).with("THREADS", THREADS);
    let sizes = [Int(count("rows", x.length / bias.length)?), Int(count("columns", bias.length)?)];
    let arguments = [Update(x), Read(bias), sizes[0], sizes[1]];
    schedule.launch(&module, "add_bias", [flat_blocks(x.length), 1, 1], THREADS, arguments)
}
