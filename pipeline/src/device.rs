//! Where a run computes.

use std::{fmt, fs};

use convnext_core::simd::Level;
use convnext_cuda::detect;

/// Where a run computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// A CUDA device that can be used.
    Cuda(detect::Device),
}

impl Device {
    /// What records call the machine: CPU and instruction set, or the accelerator.
    pub fn machine(&self) -> String {
        match self {
            Self::Cpu => {
                let cpu = cpu_name().unwrap_or_else(|| format!("{} CPU", std::env::consts::ARCH));
                format!("{cpu}, {}", Level::current().instructions())
            }
            Self::Cuda(device) => device.name.clone(),
        }
    }

    /// Whether batches go there as bytes.
    pub fn takes_bytes(&self) -> bool {
        matches!(self, Self::Cuda(_))
    }
}

/// The CPU's name, where the system tells it.
pub fn cpu_name() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let name = line.split_once(':')?.1.trim();
    Some(name.replace("(R)", "").replace("(TM)", "").split_whitespace().collect::<Vec<_>>().join(" "))
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(device) => write!(f, "cuda:{}", device.index),
        }
    }
}
