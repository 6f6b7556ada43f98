//! `--device`: where to compute.

use std::{fmt, str::FromStr};

use convnext_cuda::detect;
use convnext_pipeline::{device::Device, tell};

use crate::{Failure, Outcome};

/// The argument, for commands that compute.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Args {
    /// Where to compute: cpu, cuda, cuda:N, or auto, which is cuda where there is a device that can be used.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Auto)]
    device: Choice,
}

/// The argument as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Auto,
    Cpu,
    /// A CUDA device; without a number, the first that can be used.
    Cuda(Option<usize>),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "auto"),
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(None) => write!(f, "cuda"),
            Self::Cuda(Some(index)) => write!(f, "cuda:{index}"),
        }
    }
}

/// A word that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no device `{0}`; give auto, cpu, cuda or cuda:N")]
struct UnknownDevice(String);

impl FromStr for Choice {
    type Err = UnknownDevice;

    fn from_str(word: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(word.to_owned());
        match (word, word.strip_prefix("cuda:")) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(None)),
            (_, Some(index)) => Ok(Self::Cuda(Some(index.parse().map_err(|_| unknown())?))),
            _ => Err(unknown()),
        }
    }
}

impl Args {
    /// Whether the CPU was asked for.
    pub(crate) fn is_cpu(&self) -> bool {
        self.device == Choice::Cpu
    }

    /// The device. Says on standard error which GPU it is, if it is one.
    ///
    /// # Errors
    /// [`Failure`] if a CUDA device was asked for and there is none that can be used.
    pub(crate) fn resolve(&self) -> Outcome<Device> {
        let found = match self.device {
            Choice::Cpu => return Ok(Device::Cpu),
            Choice::Auto => match detect::choose(None) {
                Ok(device) => device,
                Err(_) => return Ok(Device::Cpu),
            },
            Choice::Cuda(index) => detect::choose(index).map_err(|error| {
                let what =
                    "there is no GPU to compute on; give --device cpu, or see `convnext doctor` for what is missing";
                Failure::because(format!("--device {}: {what}", self.device), error)
            })?,
        };
        tell::say(format_args!("computing on {}, cuda:{}", found.name, found.index));
        Ok(Device::Cuda(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_written() {
        for (word, choice) in [
            ("auto", Choice::Auto),
            ("cpu", Choice::Cpu),
            ("cuda", Choice::Cuda(None)),
            ("cuda:3", Choice::Cuda(Some(3))),
        ] {
            assert_eq!((word.parse(), choice.to_string()), (Ok(choice), word.to_owned()));
        }
        for wrong in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA"] {
            assert_eq!(wrong.parse::<Choice>(), Err(UnknownDevice(wrong.to_owned())));
        }
    }
}
