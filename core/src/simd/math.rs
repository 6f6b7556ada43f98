//! Exponential and exact GELU of single values, written so that a loop over them vectorises.
//!
//! Coefficients are minimax fits in relative error: `exp(r) = 1 + r + r^2 q(r)` on `|r| <= ln 2 / 2` (3e-9), and the
//! scaled tail of the normal distribution, `Phi(-z) exp(z^2 / 2) = t p(t)` with `t = 1 / (1 + 0.265 z)` on
//! `0 <= z <= 14` (1.2e-8). In f32 GELU is right to 7 units in the last place above -1 and 9 above -4; the tests have more.

use super::Arithmetic;
#[cfg(test)]
use super::Fused;

/// `1 / sqrt(2 pi)`.
const DENSITY: f32 = 0.398_942_3;

const TAIL_SCALE: f32 = 0.265;

const TAIL: [f32; 9] = [
    0.105_741_56,
    0.105_246_67,
    0.102_700_934,
    0.060_313_32,
    0.137_952_57,
    -0.116_361_76,
    0.217_814_17,
    -0.144_228_22,
    0.030_820_789,
];

const EXP: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_716, 0.001_381_460_2];

/// `c[0] + c[1] x + c[2] x^2 + ...`.
#[inline(always)]
fn polynomial<A: Arithmetic, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    for i in (0..N - 1).rev() {
        sum = A::multiply_add(sum, x, c[i]);
    }
    sum
}

/// `exp(x)`: 0 below -87, held at `exp(88)` above 88.
#[inline(always)]
pub(crate) fn exp<A: Arithmetic>(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has few enough bits that n * HIGH is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let vanishes = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = A::multiply_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = A::multiply_add(n, -LOW, A::multiply_add(n, -HIGH, x));
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    let value = A::multiply_add(r * r, polynomial::<A, 5>(r, EXP), 1.0 + r) * scale;
    if vanishes { 0.0 } else { value }
}

/// `Phi(x)` and `exp(-x^2 / 2)`: the normal distribution, and its density before scaling.
#[inline(always)]
fn normal<A: Arithmetic>(x: f32) -> (f32, f32) {
    let z = x.abs();
    let bell = exp::<A>(-0.5 * x * x);
    let t = 1.0 / A::multiply_add(z, TAIL_SCALE, 1.0);
    let tail = bell * t * polynomial::<A, 9>(t, TAIL);
    (if x < 0.0 { tail } else { 1.0 - tail }, bell)
}

/// `x * Phi(x) = x (1 + erf(x / sqrt 2)) / 2`.
#[inline(always)]
pub(crate) fn gelu<A: Arithmetic>(x: f32) -> f32 {
    x * normal::<A>(x).0
}

/// [`gelu`] and its derivative, `Phi(x) + x phi(x)`.
#[inline(always)]
pub(crate) fn gelu_with_derivative<A: Arithmetic>(x: f32) -> (f32, f32) {
    let (phi, bell) = normal::<A>(x);
    (x * phi, A::multiply_add(x * DENSITY, bell, phi))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(low: f32, high: f32, steps: u32) -> impl Iterator<Item = f32> {
        (0..=steps).map(move |i| low + (high - low) * (i as f32 / steps as f32))
    }

    fn phi(x: f64) -> f64 {
        0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
    }

    fn derivative(x: f64) -> f64 {
        phi(x) + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn exp_has_a_relative_error_below_2e7() {
        for x in sweep(-87.0, 88.0, 1_000_000) {
            let error = (f64::from(exp::<Fused>(x)) / f64::from(x).exp() - 1.0).abs();
            assert!(error < 2e-7, "exp({x}): {error:e}");
        }
    }

    /// Measured on |x| <= 20: distribution 2.1e-7; GELU 1.2e-7 of max(|x|, 1); derivative 2.3e-7.
    #[test]
    fn gelu_agrees_with_erf() {
        let (mut worst_phi, mut worst_gelu, mut worst_derivative) = (0.0f64, 0.0f64, 0.0f64);
        for x in sweep(-20.0, 20.0, 2_000_000) {
            let exact = f64::from(x);
            let (value, slope) = gelu_with_derivative::<Fused>(x);
            worst_phi = worst_phi.max((f64::from(normal::<Fused>(x).0) - phi(exact)).abs());
            worst_gelu = worst_gelu.max((f64::from(value) - exact * phi(exact)).abs() / exact.abs().max(1.0));
            worst_derivative = worst_derivative.max((f64::from(slope) - derivative(exact)).abs());
        }
        println!("phi {worst_phi:e} gelu {worst_gelu:e} derivative {worst_derivative:e}");
        assert!(worst_phi < 2.5e-7 && worst_gelu < 1.5e-7 && worst_derivative < 3e-7);
    }

    /// Far below zero the value is small, but right in its leading digits: no `1 + erf` cancels.
    #[test]
    fn gelu_keeps_its_relative_error_below_zero() {
        let mut worst = 0.0f64;
        for x in sweep(-13.0, -1e-3, 1_000_000) {
            let exact = f64::from(x) * phi(f64::from(x));
            worst = worst.max((f64::from(gelu::<Fused>(x)) / exact - 1.0).abs());
        }
        println!("relative {worst:e}");
        assert!(worst < 8e-6);
    }

    /// In units in the last place of the exact value: 6.8 above zero, 7.4 down to -1, 8.7 down to -4 and 67 down to -13, where
    /// the rounding of `x^2 / 2` counts in `exp`. The derivative is 0 at -0.75: 4.0 above zero, elsewhere as above.
    #[test]
    fn gelu_is_right_to_a_few_units_in_the_last_place() {
        let ulps = |found: f32, exact: f64| {
            let nearest = (exact as f32).abs();
            (f64::from(found) - exact).abs() / (f64::from(nearest.next_up()) - f64::from(nearest))
        };
        for (low, high, bound) in [(1e-3, 20.0, 7.5), (-1.0, -1e-3, 8.0), (-4.0, -1.0, 9.5), (-13.0, -4.0, 75.0)] {
            let (mut worst, mut worst_slope) = (0.0f64, 0.0f64);
            for x in sweep(low, high, 1_000_000) {
                let exact = f64::from(x);
                let (found, slope) = gelu_with_derivative::<Fused>(x);
                worst = worst.max(ulps(found, exact * phi(exact)));
                if x > 0.0 {
                    worst_slope = worst_slope.max(ulps(slope, derivative(exact)));
                }
            }
            println!("{low} to {high}: {worst:.1} ulp, derivative {worst_slope:.1} ulp");
            assert!(worst < bound && worst_slope < 4.5);
        }
    }

    #[test]
    fn gelu_of_extreme_values() {
        assert_eq!(gelu::<Fused>(0.0), 0.0);
        assert_eq!(gelu::<Fused>(1e30), 1e30);
        assert_eq!(gelu::<Fused>(-14.0), 0.0);
        assert_eq!(gelu::<Fused>(-1e30), 0.0);
        assert!(gelu::<Fused>(f32::NAN).is_nan());
        assert!(gelu_with_derivative::<Fused>(f32::NAN).1.is_nan());
        assert_eq!(gelu_with_derivative::<Fused>(1e15).1, 1.0);
    }
}
