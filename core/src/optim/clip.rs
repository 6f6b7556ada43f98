//! The gradient's norm: clipping, and catching what is not finite before it reaches the weights.

use rayon::prelude::*;
use thiserror::Error;

use super::{CHUNK, Layout};
use crate::{
    profile::timed,
    simd::{self, Level},
};

/// A NaN or an infinity, and where it is.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("`{name}` holds {value} at element {element} of shape {shape:?}")]
pub struct NonFinite {
    /// The tensor.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Row-major position in the tensor.
    pub element: usize,
    /// The value: NaN or an infinity.
    pub value: f32,
}

/// Euclidean norm over all values of all tensors, summed in f64 over fixed chunks: the same bits for any number of threads.
///
/// Squares of f32 cannot overflow an f64, so the result is finite exactly if every value is.
pub fn global_norm<T: AsRef<[f32]>>(tensors: &[T]) -> f64 {
    timed!(Operation, "norm of the gradients");
    let level = Level::current();
    let chunks: Vec<&[f32]> = tensors.iter().flat_map(|tensor| tensor.as_ref().chunks(CHUNK)).collect();
    let partial: Vec<f64> = chunks.into_par_iter().map(|values| simd::sum_of_squares(level, values, 0.0)).collect();
    partial.iter().sum::<f64>().sqrt()
}

/// Sets gradients to zero, on all threads.
pub fn clear(gradients: &mut [f32]) {
    gradients.par_chunks_mut(CHUNK).for_each(|chunk| chunk.fill(0.0));
}

/// Factor that brings gradients of norm `norm` down to `max`; 1 if they are there already.
///
/// `min(1, max / (norm + 1e-6))`, as PyTorch's `clip_grad_norm_`. A norm that is not finite gives 1: the caller is
/// to look at the norm first, and not to step.
pub fn clip_scale(norm: f64, max: f64) -> f32 {
    if norm.is_finite() { (max / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 }
}

/// The first NaN or infinity of tensors in the order of the layout, with the name of its tensor.
///
/// # Panics
/// If there is another number of tensors than in the layout.
pub fn first_non_finite<T: AsRef<[f32]>>(layout: &Layout, tensors: &[T]) -> Option<NonFinite> {
    assert_eq!(tensors.len(), layout.segments().len(), "tensors of another layout");
    layout.segments().iter().zip(tensors).find_map(|(segment, values)| {
        let values = values.as_ref();
        let element = values.iter().position(|x| !x.is_finite())?;
        let (name, shape) = (segment.name.clone(), segment.shape.clone());
        Some(NonFinite { name, shape, element, value: values[element] })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_is_the_plain_sum_s_root() {
        let values: Vec<f32> = (0..100_003).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01).collect();
        let plain: f64 = values.iter().map(|&x| f64::from(x).powi(2)).sum();
        assert!((global_norm(&[&values[..]]) - plain.sqrt()).abs() < 1e-9);
        assert!((global_norm(&[&values[..7], &values[7..]]) - plain.sqrt()).abs() < 1e-9);
        assert_eq!(global_norm::<[f32; 0]>(&[]), 0.0);
        assert_eq!(global_norm(&[[3.0], [4.0]]), 5.0);
    }

    #[test]
    fn norm_has_the_same_bits_for_any_thread_count() {
        let values: Vec<f32> = (0..200_001).map(|i| (i as f32 * 0.7).sin()).collect();
        let bits = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| global_norm(&[&values[..]])).to_bits()
        };
        assert_eq!(bits(1), bits(2));
        assert_eq!(bits(1), bits(7));
    }

    #[test]
    fn norm_is_finite_exactly_if_all_values_are() {
        let mut values = vec![f32::MAX; 50_000];
        assert!(global_norm(&[&values[..]]).is_finite());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            values[49_999] = bad;
            assert!(!global_norm(&[&values[..]]).is_finite());
        }
    }

    #[test]
    fn scale_clips_and_never_grows() {
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
        assert_eq!(clip_scale(0.0, 1.0), 1.0);
        assert!((clip_scale(4.0, 1.0) - 0.25).abs() < 1e-6);
        assert_eq!(clip_scale(f64::NAN, 1.0), 1.0);
    }

    #[test]
    fn the_bad_tensor_is_named() {
        let layout = Layout::new([("a", vec![2]), ("b", vec![2, 2])]).unwrap();
        let found = first_non_finite(&layout, &[&[0.0, 1.0][..], &[2.0, f32::INFINITY, 0.0, f32::NAN]]).unwrap();
        assert_eq!((found.name.as_str(), found.element, found.value), ("b", 1, f32::INFINITY));
        assert_eq!(first_non_finite(&layout, &[&[0.0; 2][..], &[0.0; 4]]), None);
    }
}
