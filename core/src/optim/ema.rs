//! An exponential moving average of the weights.

use super::magnitude::magnitude;

/// Moving average `e += (1 - d) (p - e)`, taken after every update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ema {
    /// Decay `d`, in `[0, 1)`; the paper's is 0.9999.
    pub decay: f64,
    /// Whether the decay rises to `decay` as `(1 + n) / (10 + n)` over the first updates, for runs too short to
    /// forget their starting point.
    pub warmup: bool,
}

impl Ema {
    /// The decay for update number `update`, counted from 1.
    pub fn decay_at(&self, update: u64) -> f64 {
        let n = update as f64;
        if self.warmup { self.decay.min((1.0 + n) / (10.0 + n)) } else { self.decay }
    }

    /// The factor `1 - d` for update number `update`, counted from 1.
    pub fn rate(&self, update: u64) -> f32 {
        (1.0 - self.decay_at(update)) as f32
    }
}

/// Moves the average, and returns the [`magnitude`] of its largest value.
#[inline(always)]
pub(super) fn move_towards(average: &mut [f32], values: &[f32], rate: f32) -> u32 {
    let mut largest = 0;
    for (average, &value) in average.iter_mut().zip(values) {
        *average += rate * (value - *average);
        largest = largest.max(magnitude(*average));
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_is_constant_without_warm_up() {
        let ema = Ema { decay: 0.9999, warmup: false };
        assert_eq!((ema.decay_at(1), ema.decay_at(1_000_000)), (0.9999, 0.9999));
    }

    #[test]
    fn decay_rises_to_its_value_with_warm_up() {
        let ema = Ema { decay: 0.999, warmup: true };
        assert_eq!(ema.decay_at(1), 2.0 / 11.0);
        assert!(ema.decay_at(100) < ema.decay_at(101));
        assert_eq!(ema.decay_at(1_000_000), 0.999);
    }

    #[test]
    fn average_follows_a_plain_loop() {
        let mut average = vec![1.0f32, -2.0];
        let mut plain = [1.0f64, -2.0];
        for k in 0..50 {
            let values = [k as f32 * 0.1, 3.0];
            move_towards(&mut average, &values, 0.01);
            for (plain, value) in plain.iter_mut().zip(values) {
                *plain = 0.99 * *plain + 0.01 * f64::from(value);
            }
        }
        for (average, plain) in average.iter().zip(plain) {
            assert!((f64::from(*average) - plain).abs() < 1e-5);
        }
    }
}
