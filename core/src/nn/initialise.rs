//! How parameters start: the values of the paper's classifier code, once.
//!
//! Convolutions, linear layers and the mask token are drawn from a normal distribution of standard deviation 0.02,
//! truncated at -2 and 2; biases, GRN's gamma and beta are 0; norm weights are 1; LayerScale's gamma is 1e-6.
//!
//! 0.02 suits layers a few hundred channels wide. Narrower ones start too small with it and learn slowly, so
//! [`scale_to_fan_in`] offers the other usual rule.

use dfdx::prelude::*;
use rand_xoshiro::{
    SplitMix64,
    rand_core::{Rng, SeedableRng},
};

use super::model::Flat;

const STANDARD_DEVIATION: f64 = 0.02;
const BOUND: f64 = 2.0;
const LAYER_SCALE: f64 = 1e-6;

/// Options of a tensor drawn from the truncated normal distribution.
pub(crate) fn normal<S: ConstShape, E: Dtype, D: Device<E>>() -> TensorOptions<S, E, D> {
    TensorOptions::reset_with(|tensor| {
        let mut random = SplitMix64::seed_from_u64(tensor.device().random_u64());
        let values: Vec<E> =
            (0..tensor.shape().num_elements()).map(|_| convert(truncated_normal(&mut random))).collect();
        tensor.copy_from(&values);
        Ok(())
    })
}

/// Rescales a fresh model's convolutions and linear layers, so that each tensor's standard deviation is
/// `1 / sqrt(fan_in)`, `fan_in` being the number of inputs of one output: a layer then keeps the variance of its input
/// (LeCun et al., Efficient BackProp, 1998). Everything else stays as it is.
pub fn scale_to_fan_in(model: &mut dyn Flat) {
    let layout = model.layout();
    let mut values = vec![0.0; layout.len()];
    model.read(&mut values);
    for segment in layout.segments() {
        // Weights have their outputs on the last axis; biases, norms and tokens have no other.
        let [inputs @ .., _] = &segment.shape[..] else { continue };
        if inputs.is_empty() {
            continue;
        }
        let fan_in: usize = inputs.iter().product();
        let scale = (1.0 / (STANDARD_DEVIATION * (fan_in as f64).sqrt())) as f32;
        values[segment.range.clone()].iter_mut().for_each(|value| *value *= scale);
    }
    model.write(&values);
}

/// Options of LayerScale's gamma.
pub(crate) fn layer_scale<S: ConstShape, E: Dtype, D: Device<E>>() -> TensorOptions<S, E, D> {
    TensorOptions::reset_with(|tensor| {
        tensor.copy_from(&vec![convert(LAYER_SCALE); tensor.shape().num_elements()]);
        Ok(())
    })
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
    use crate::nn::Block;

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

    #[test]
    fn layers_keep_the_variance_of_their_input() {
        let device = Cpu::seed_from_u64(3);
        let mut model = device.build_module::<Block<8, 8, 32, 128, 7>, f32>();
        scale_to_fan_in(&mut model);
        let layout = model.layout();
        let mut values = vec![0.0; layout.len()];
        model.read(&mut values);
        for (name, fan_in) in [("dwconv.weight", 49), ("pwconv1.weight", 32), ("pwconv2.weight", 128)] {
            let weights = layout.view(&values, name).unwrap();
            let deviation = (weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32).sqrt();
            // 1,568 values and more: a standard error of 1.8 %; five of them.
            assert!((deviation * (fan_in as f32).sqrt() - 1.0).abs() < 0.09, "{name}: {deviation}");
        }
        for (name, constant) in [("dwconv.bias", 0.0), ("norm.weight", 1.0), ("grn.gamma", 0.0)] {
            assert!(layout.view(&values, name).unwrap().iter().all(|&value| value == constant), "{name}");
        }
    }
}
