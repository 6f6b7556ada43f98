//! The streaming pipeline and the runs built on it.
//!
//! ```text
//! recipe -> input -> stream -> runs (trainer) -> run_dir, records -> report, pictures
//! ```

pub mod device;
pub mod events;
pub mod input;
pub mod interrupt;
pub mod learner;
mod mix;
pub mod pictures;
pub mod progress;
pub mod recipe;
pub mod records;
pub mod report;
pub mod run_dir;
pub mod runs;
pub mod stream;
pub mod trainer;

pub use mix::{Images, Mix, Mixing};
