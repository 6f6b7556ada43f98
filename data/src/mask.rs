//! The random patch mask of masked pre-training.

use crate::random::Random;

/// Writes a mask that keeps exactly `visible` of the `mask.len()` patches, uniformly among all such masks.
///
/// `mask: [L]`, row-major over the patch grid, 0 = keep, 1 = remove. With `visible >= L` everything is kept.
pub fn random_mask(random: &mut Random, visible: usize, mask: &mut [u8]) {
    // Selection sampling (Knuth, volume 2, algorithm S): one pass, no memory.
    let mut wanted = visible.min(mask.len()) as u64;
    let mut left = mask.len() as u64;
    for patch in mask {
        let keep = random.range(left) < wanted;
        wanted -= u64::from(keep);
        left -= 1;
        *patch = u8::from(!keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn keeps_exactly_what_is_asked() {
        let mut mask = [9; 49];
        for visible in 0..=49 {
            random_mask(&mut Random::new(1, 2, visible as u64, Purpose::Mask), visible, &mut mask);
            assert_eq!(mask.iter().filter(|&&m| m == 0).count(), visible);
            assert_eq!(mask.iter().filter(|&&m| m == 1).count(), 49 - visible);
        }
    }

    #[test]
    fn every_patch_is_kept_equally_often() {
        let mut kept = [0u32; 49];
        for sample in 0..10_000 {
            let mut mask = [0; 49];
            random_mask(&mut Random::new(1, 0, sample, Purpose::Mask), 19, &mut mask);
            kept.iter_mut().zip(mask).for_each(|(n, m)| *n += u32::from(m == 0));
        }
        // 10000 * 19 / 49 = 3878, standard deviation 49.
        assert!(kept.iter().all(|n| (3_650..4_100).contains(n)), "{kept:?}");
    }
}
