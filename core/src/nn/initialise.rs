//! How parameters start: the values of the paper's classifier code, once.
//!
//! Convolutions, linear layers and the mask token are drawn from a normal distribution of standard deviation 0.02,
//! truncated at -2 and 2; biases, GRN's gamma and beta are 0; norm weights are 1; LayerScale's gamma is 1e-6.
//!
//! 0.02 suits layers a few hundred channels wide. Narrower ones start too small with it and learn slowly, so
//! [`scale_to_fan_in`](super::scale_to_fan_in) offers the other usual rule.

use dfdx::prelude::*;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

pub(super) const STANDARD_DEVIATION: f64 = 0.02;
const BOUND: f64 = 2.0;
const LAYER_SCALE: f64 = 1e-6;

/// Options of a tensor drawn from the truncated normal distribution.
pub(crate) fn normal<S: ConstShape, E: Dtype, D: Device<E>>() -> TensorOptions<S, E, D> {
    TensorOptions::reset_with(|tensor| {
        let draws = draws(tensor.device().random_u64(), tensor.shape().num_elements());
        tensor.copy_from(&draws.map(convert).collect::<Vec<E>>());
        Ok(())
    })
}

/// Options of LayerScale's gamma.
pub(crate) fn layer_scale<S: ConstShape, E: Dtype, D: Device<E>>() -> TensorOptions<S, E, D> {
    TensorOptions::reset_with(|tensor| {
        tensor.copy_from(&vec![convert(LAYER_SCALE); tensor.shape().num_elements()]);
        Ok(())
    })
}

/// `count` draws from the truncated normal distribution.
pub(crate) fn draws(seed: u64, count: usize) -> impl Iterator<Item = f64> {
    let mut random = SplitMix64::seed_from_u64(seed);
    (0..count).map(move |_| truncated_normal(&mut random))
}

fn convert<E: Dtype>(value: f64) -> E {
    E::from_f64(value).expect("a small constant fits every dtype")
}

/// One draw by Box and Muller's method, repeated until it lies within the bounds.
fn truncated_normal(random: &mut SplitMix64) -> f64 {
    loop {
        let radius = (-2.0 * (1.0 - uniform(random)).ln()).sqrt();
        let value = STANDARD_DEVIATION * radius * (std::f64::consts::TAU * uniform(random)).cos();
        if value.abs() <= BOUND {
            return value;
        }
    }
}

/// Uniform in `[0, 1)`.
fn uniform(random: &mut SplitMix64) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_stated_moments() {
        let mut random = SplitMix64::seed_from_u64(7);
        let count = 200_000;
        let values: Vec<f64> = (0..count).map(|_| truncated_normal(&mut random)).collect();
        let mean = values.iter().sum::<f64>() / count as f64;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count as f64;
        // Standard errors: 0.02 / sqrt(n) = 4.5e-5 and 0.02 / sqrt(2 n) = 3.2e-5; five of each.
        assert!(mean.abs() < 2.3e-4, "{mean}");
        assert!((variance.sqrt() - STANDARD_DEVIATION).abs() < 1.6e-4, "{variance}");
    }
}
