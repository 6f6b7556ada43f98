//! First weights by the number of inputs.

use super::{initialise::STANDARD_DEVIATION, model::Flat};

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

#[cfg(test)]
mod tests {
    use dfdx::prelude::*;

    use super::*;
    use crate::nn::Block;

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
