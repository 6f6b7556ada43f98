//! The arithmetic of mixup and CutMix: image `n` of a batch is paired with image `N - 1 - n`, the middle one with itself.

use std::ops::Range;

/// `x_n = share x_n + (1 - share) x_(N-1-n)` for `[N, values]`.
pub fn blend_pairs(values: &mut [f32], samples: usize, share: f32) {
    let length = values.len() / samples.max(1);
    for n in 0..samples / 2 {
        let (front, back) = values.split_at_mut((samples - 1 - n) * length);
        for (a, b) in front[n * length..][..length].iter_mut().zip(&mut back[..length]) {
            (*a, *b) = (share * *a + (1.0 - share) * *b, share * *b + (1.0 - share) * *a);
        }
    }
}

/// Swaps a rectangle between the images `[N, height, width, channels]` of each pair.
pub fn swap_in_pairs(
    images: &mut [f32],
    samples: usize,
    (width, channels): (usize, usize),
    (top, bottom): (usize, usize),
    (left, right): (usize, usize),
) {
    let length = images.len() / samples.max(1);
    let row = |y: usize| -> Range<usize> { (y * width + left) * channels..(y * width + right) * channels };
    for n in 0..samples / 2 {
        let (front, back) = images.split_at_mut((samples - 1 - n) * length);
        let (a, b) = (&mut front[n * length..][..length], &mut back[..length]);
        for row in (top..bottom).map(row) {
            a[row.clone()].swap_with_slice(&mut b[row]);
        }
    }
}
