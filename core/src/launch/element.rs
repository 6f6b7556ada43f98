//! Types of values on a device.

/// The type of a buffer's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// The upper half of a 32-bit float.
    Bf16,
    /// 64-bit float; only sums of squares need it.
    F64,
    /// Unsigned: tables.
    U32,
    /// Signed: tables.
    I32,
    /// Bytes: pixels as they arrive.
    U8,
}

impl Element {
    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::Bf16 => 2,
            Self::F32 | Self::U32 | Self::I32 => 4,
            Self::F64 => 8,
        }
    }

    /// Its name in kernels.
    pub const fn c_type(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::Bf16 => "bf16",
            Self::F64 => "double",
            Self::U32 => "u32",
            Self::I32 => "int",
            Self::U8 => "u8",
        }
    }
}
