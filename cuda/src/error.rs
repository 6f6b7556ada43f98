//! Why a schedule does not run.

use convnext_core::launch::schedule::ScheduleError;
use cudarc::driver::DriverError;
use thiserror::Error;

use crate::{compile::CompileError, detect::NoCuda, memory::MemoryError, products::ProductError};

/// Why a schedule does not run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExecuteError {
    /// The machine lacks something.
    #[error(transparent)]
    NoCuda(#[from] NoCuda),
    /// A kernel does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A product cannot be computed.
    #[error(transparent)]
    Product(#[from] ProductError),
    /// A step that had to be added is too large.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The schedule reads what is not there: a mistake in this program.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// There is too little memory.
    #[error("{needed} bytes do not fit on the device, which has {free} free; use a smaller batch")]
    OutOfMemory {
        /// Bytes that the schedule needs.
        needed: usize,
        /// Bytes that are free.
        free: usize,
    },
    /// The driver refuses.
    #[error("the driver cannot {what}: {error}")]
    Driver {
        /// What was tried.
        what: &'static str,
        /// What the driver calls it.
        error: String,
    },
}

/// Puts what was tried on an error of the driver.
pub(super) fn driver(what: &'static str) -> impl Fn(DriverError) -> ExecuteError {
    move |error| ExecuteError::Driver { what, error: format!("{:?}", error.0) }
}
