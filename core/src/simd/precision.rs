//! In what precision products are computed.

use std::{fmt, str::FromStr};

use super::Level;

/// The type of a product's operands. Sums, and everything that is not a product, are f32 in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bf16: 8 bits of mantissa, the range of f32. Operands are rounded as a product reads them; weights, activations,
    /// gradients and the optimiser's state stay f32.
    Bf16,
}

/// The name of a precision that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no precision `{name}`; there are f32 and bf16")]
pub struct ParsePrecisionError {
    name: String,
}

impl Precision {
    /// Name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = ParsePrecisionError;

    fn from_str(name: &str) -> Result<Self, ParsePrecisionError> {
        let found = [Self::F32, Self::Bf16].into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| ParsePrecisionError { name: name.to_owned() })
    }
}

/// How the operations of a call compute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compute {
    /// The instruction set.
    pub(crate) level: Level,
    /// The precision of products.
    pub(crate) precision: Precision,
}

impl Compute {
    /// At this process's level.
    pub(crate) fn new(precision: Precision) -> Self {
        Self { level: Level::current(), precision }
    }

    /// In f32, whatever the precision of the call: for small products whose digits count.
    pub(crate) fn exact(level: Level) -> Self {
        Self { level, precision: Precision::F32 }
    }
}
