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
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// 8-bit floating point, four bits of exponent.
    F8E4m3fn,
    /// The same without a negative zero.
    F8E4m3fnuz,
    /// 8-bit floating point, five bits of exponent.
    F8E5m2,
    /// The same without a negative zero.
    F8E5m2fnuz,
    /// 8 bits of exponent and nothing else.
    F8E8m0fnu,
    /// Two halves: a complex number.
    C32,
    /// Two 32-bit floats: a complex number.
    C64,
    /// Two 64-bit floats: a complex number.
    C128,
    /// Quantised, 8 bits, signed.
    Qi8,
    /// Quantised, 8 bits, unsigned.
    Qu8,
    /// Quantised, 32 bits.
    Qi32,
    /// Two quantised numbers of 4 bits.
    Qu4x2,
    /// Four quantised numbers of 2 bits.
    Qu2x4,
    /// Bytes of a storage whose type each of its tensors says for itself.
    Untyped,
}

/// Converts as many little-endian elements as both sides hold.
pub(super) type Decoder = fn(&[u8], &mut [f32]);

impl Dtype {
    /// All types with the name of their storage class in torch, the name of the type, and the bytes of an element. Types
    /// without a class are kept in storages of bytes.
    const TABLE: [(Self, &'static str, &'static str, u8); 27] = [
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
        (Self::U16, "", "uint16", 2),
        (Self::U32, "", "uint32", 4),
        (Self::U64, "", "uint64", 8),
        (Self::F8E4m3fn, "", "float8_e4m3fn", 1),
        (Self::F8E4m3fnuz, "", "float8_e4m3fnuz", 1),
        (Self::F8E5m2, "", "float8_e5m2", 1),
        (Self::F8E5m2fnuz, "", "float8_e5m2fnuz", 1),
        (Self::F8E8m0fnu, "", "float8_e8m0fnu", 1),
        (Self::C32, "", "complex32", 4),
        (Self::C64, "ComplexFloatStorage", "complex64", 8),
        (Self::C128, "ComplexDoubleStorage", "complex128", 16),
        (Self::Qi8, "QInt8Storage", "qint8", 1),
        (Self::Qu8, "QUInt8Storage", "quint8", 1),
        (Self::Qi32, "QInt32Storage", "qint32", 4),
        (Self::Qu4x2, "QUInt4x2Storage", "quint4x2", 1),
        (Self::Qu2x4, "QUInt2x4Storage", "quint2x4", 1),
        (Self::Untyped, "UntypedStorage", "", 1),
    ];

    /// The type that `torch.<class>` holds.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.1 == class && !class.is_empty()).map(|row| row.0)
    }

    /// The type `torch.<name>`.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::TABLE.iter().find(|row| row.2 == name && !name.is_empty()).map(|row| row.0)
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

    /// Whether it is a floating-point type that can be read as f32.
    pub(crate) fn is_float(self) -> bool {
        self.decoder().is_some()
    }

    /// How to read this type as f32; none for all that are no floating-point numbers of two bytes or more.
    pub(super) fn decoder(self) -> Option<Decoder> {
        match self {
            Self::F32 => Some(|bytes, into| convert(bytes, into, f32::from_le_bytes)),
            Self::F16 => Some(|bytes, into| convert(bytes, into, |half| f16::from_le_bytes(half).to_f32())),
            Self::Bf16 => Some(|bytes, into| convert(bytes, into, |half| bf16::from_le_bytes(half).to_f32())),
            // Rounds to nearest; beyond f32's range it is infinite, as in torch.
            Self::F64 => Some(|bytes, into| convert(bytes, into, |double| f64::from_le_bytes(double) as f32)),
            _ => None,
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
