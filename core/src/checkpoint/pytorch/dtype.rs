//! Element types and their conversion to f32.

use std::fmt;

use half::{bf16, f16};

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

/// Converts as many little-endian elements as both sides hold.
pub(super) type Decoder = fn(&[u8], &mut [f32]);

impl Dtype {
    /// All types with the name of their storage class in torch, the name of the type, and the bytes of an element.
    const TABLE: [(Self, &'static str, &'static str, u8); 10] = [
        (Self::F32, "FloatStorage", "float32", 4),
        (Self::F64, "DoubleStorage", "float64", 8),
        (Self::F16, "HalfStorage", "float16", 2),
        (Self::Bf16, "BFloat16Storage", "bfloat16", 2),
        (Self::I64, "LongStorage", "int64", 8),
        (Self::I32, "IntStorage", "int32", 4),
        (Self::I16, "ShortStorage", "int16", 2),
        (Self::I8, "CharStorage", "int8", 1),
        (Self::U8, "ByteStorage", "uint8", 1),
        (Self::Bool, "BoolStorage", "bool", 1),
    ];

    /// The type that `torch.<class>` holds.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == class).map(|row| row.0)
    }

    fn row(self) -> (&'static str, &'static str, u8) {
        let row = Self::TABLE.iter().find(|row| row.0 == self);
        row.map_or(("", "", 0), |row| (row.1, row.2, row.3))
    }

    /// Class of a storage of this type, without `torch.`.
    pub(super) fn storage(self) -> &'static str {
        self.row().0
    }

    /// Bytes of one element.
    pub(super) fn width(self) -> u8 {
        self.row().2
    }

    /// How to read this type as f32; none for whole numbers and truth values.
    pub(super) fn decoder(self) -> Option<Decoder> {
        match self {
            Self::F32 => Some(|bytes, into| convert(bytes, into, f32::from_le_bytes)),
            Self::F16 => Some(|bytes, into| convert(bytes, into, |half| f16::from_le_bytes(half).to_f32())),
            Self::Bf16 => Some(|bytes, into| convert(bytes, into, |half| bf16::from_le_bytes(half).to_f32())),
            // Rounds to nearest; beyond f32's range it is infinite, as in torch.
            Self::F64 => Some(|bytes, into| convert(bytes, into, |double| f64::from_le_bytes(double) as f32)),
            Self::I64 | Self::I32 | Self::I16 | Self::I8 | Self::U8 | Self::Bool => None,
        }
    }
}

fn convert<const N: usize>(bytes: &[u8], into: &mut [f32], one: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in into.iter_mut().zip(bytes.as_chunks().0) {
        *value = one(*bytes);
    }
}

/// As torch calls it, without `torch.`: `float32`.
impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().1)
    }
}
