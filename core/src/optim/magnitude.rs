//! The largest absolute value of many, as a maximum of integers.

/// The bits without their sign: ordered as absolute values are, infinity above all of them and NaN above that. A maximum
/// of integers is a vector instruction, and passes over no NaN.
#[inline(always)]
pub(super) fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// The absolute value with these bits; infinity for NaN.
pub(super) fn of_magnitude(bits: u32) -> f32 {
    let value = f32::from_bits(bits);
    if value.is_nan() { f32::INFINITY } else { value }
}
