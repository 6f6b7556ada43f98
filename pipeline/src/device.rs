//! Where a run computes.

use std::fmt;

use convnext_core::{cuda::detect, simd::Level};

/// Where a run computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A CUDA device that can be used.
    Cuda(detect::Device),
}

impl Device {
    /// What records call the machine: processor's instruction set, or the accelerator.
    pub fn machine(&self) -> String {
        match self {
            Self::Cpu => Level::current().to_string(),
            Self::Cuda(device) => device.name.clone(),
        }
    }

    /// Whether batches go there as bytes.
    pub fn takes_bytes(&self) -> bool {
        matches!(self, Self::Cuda(_))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(device) => write!(f, "cuda:{}", device.index),
        }
    }
}
