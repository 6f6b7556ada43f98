//! Which patches of each sample are visible.

use thiserror::Error;

/// Marks a removed patch in [`Visibility`]'s inverse table.
const REMOVED: u32 = u32::MAX;

/// The visible patches of every sample of a batch; each sample has the same number `K` of them.
///
/// Holds the table `[N, K]` of visible patch indices, ascending, and its inverse `[N, L]`: the slot of a patch in
/// its sample's row of the table, or none for a removed patch. Patches are numbered row-major over the
/// `patches_high x patches_wide` grid, `L` of them. A patch is visible because the mask says so, never because of
/// its values: a black patch stays visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    patches_high: usize,
    patches_wide: usize,
    visible: usize,
    patches: Vec<u32>,
    slots: Vec<u32>,
}

/// Why a mask was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VisibilityError {
    /// The grid has no patches, or more than fit the tables.
    #[error("a mask needs between 1 and {} patches, not {high} x {wide}", u32::MAX - 1)]
    Grid {
        /// Patches from top to bottom.
        high: usize,
        /// Patches from left to right.
        wide: usize,
    },
    /// The mask's length is not a multiple of the number of patches.
    #[error("a mask of {length} values does not divide into samples of {patches} patches")]
    Length {
        /// Values in the mask.
        length: usize,
        /// Patches of a sample.
        patches: usize,
    },
    /// A value other than 0 (keep) and 1 (remove).
    #[error("sample {sample}, patch {patch}: a mask holds 0 (keep) or 1 (remove), not {value}")]
    Value {
        /// Index of the sample.
        sample: usize,
        /// Index of the patch.
        patch: usize,
        /// What the mask holds there.
        value: u8,
    },
    /// A sample keeps another number of patches than it should.
    #[error("sample {sample} keeps {found} patches, expected {expected}")]
    Count {
        /// Index of the sample.
        sample: usize,
        /// Patches it keeps.
        found: usize,
        /// Patches it should keep.
        expected: usize,
    },
}

impl Visibility {
    /// Reads masks `[N, L]`, 0 = keep, 1 = remove, `L = patches_high * patches_wide`, row-major.
    ///
    /// Every sample must keep exactly `visible` patches.
    pub fn from_mask(
        mask: &[u8],
        patches_high: usize,
        patches_wide: usize,
        visible: usize,
    ) -> Result<Self, VisibilityError> {
        let patches = count(patches_high, patches_wide)?;
        if !mask.len().is_multiple_of(patches) {
            return Err(VisibilityError::Length { length: mask.len(), patches });
        }
        let samples = mask.len() / patches;
        let mut this = Self {
            patches_high,
            patches_wide,
            visible,
            patches: Vec::with_capacity(samples * visible),
            slots: Vec::with_capacity(mask.len()),
        };
        for (sample, mask) in mask.chunks_exact(patches).enumerate() {
            this.push(sample, mask)?;
        }
        Ok(this)
    }

    /// Every patch of every sample visible.
    pub fn all(samples: usize, patches_high: usize, patches_wide: usize) -> Result<Self, VisibilityError> {
        let patches = count(patches_high, patches_wide)?;
        Self::from_mask(&vec![0; samples * patches], patches_high, patches_wide, patches)
    }

    fn push(&mut self, sample: usize, mask: &[u8]) -> Result<(), VisibilityError> {
        let mut found = 0;
        for (patch, &value) in mask.iter().enumerate() {
            match value {
                0 => {
                    self.patches.push(patch as u32);
                    self.slots.push(found as u32);
                    found += 1;
                }
                1 => self.slots.push(REMOVED),
                _ => return Err(VisibilityError::Value { sample, patch, value }),
            }
        }
        let expected = self.visible;
        if found == expected { Ok(()) } else { Err(VisibilityError::Count { sample, found, expected }) }
    }

    /// Number of samples `N`.
    pub fn samples(&self) -> usize {
        self.slots.len() / self.patches_per_sample()
    }

    /// Visible patches `K` of each sample.
    pub fn visible(&self) -> usize {
        self.visible
    }

    /// Removed patches `L - K` of each sample.
    pub fn removed(&self) -> usize {
        self.patches_per_sample() - self.visible
    }

    /// Patches from top to bottom.
    pub fn patches_high(&self) -> usize {
        self.patches_high
    }

    /// Patches from left to right.
    pub fn patches_wide(&self) -> usize {
        self.patches_wide
    }

    /// Patches `L` of each sample, visible and removed.
    pub fn patches_per_sample(&self) -> usize {
        self.patches_high * self.patches_wide
    }

    /// Index of the patch in a slot of a sample, `slot < K`.
    pub fn patch(&self, sample: usize, slot: usize) -> usize {
        self.patches(sample)[slot] as usize
    }

    /// The visible patches of a sample, ascending; `K` of them.
    pub fn patches(&self, sample: usize) -> &[u32] {
        &self.patches[sample * self.visible..][..self.visible]
    }

    /// The slot of the patch at a row and column of the patch grid; `None` if it was removed.
    pub fn slot(&self, sample: usize, patch_y: usize, patch_x: usize) -> Option<usize> {
        assert!(patch_y < self.patches_high && patch_x < self.patches_wide, "no such patch");
        let slot = self.slots[sample * self.patches_per_sample() + patch_y * self.patches_wide + patch_x];
        (slot != REMOVED).then_some(slot as usize)
    }

    /// The removed patches of a sample, ascending; `L - K` of them.
    pub fn removed_patches(&self, sample: usize) -> impl Iterator<Item = usize> + '_ {
        let patches = self.patches_per_sample();
        let slots = &self.slots[sample * patches..][..patches];
        slots.iter().enumerate().filter(|&(_, &slot)| slot == REMOVED).map(|(patch, _)| patch)
    }
}

fn count(high: usize, wide: usize) -> Result<usize, VisibilityError> {
    match high.checked_mul(wide) {
        Some(patches) if 0 < patches && patches < REMOVED as usize => Ok(patches),
        _ => Err(VisibilityError::Grid { high, wide }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_inverse() {
        let mask = [1, 0, 0, 1, 1, 0, /**/ 0, 0, 1, 1, 0, 1];
        let visible = Visibility::from_mask(&mask, 2, 3, 3).unwrap();
        assert_eq!((visible.samples(), visible.visible(), visible.removed()), (2, 3, 3));
        assert_eq!(visible.patches(0), [1, 2, 5]);
        assert_eq!(visible.patches(1), [0, 1, 4]);
        assert_eq!(visible.slot(0, 1, 2), Some(2));
        assert_eq!(visible.slot(1, 1, 2), None);
        assert_eq!(visible.removed_patches(1).collect::<Vec<_>>(), [2, 3, 5]);
    }

    #[test]
    fn bad_masks_are_refused() {
        use VisibilityError::*;
        let read = |mask: &[u8], visible| Visibility::from_mask(mask, 1, 2, visible).unwrap_err();
        assert_eq!(read(&[0, 1, 0], 1), Length { length: 3, patches: 2 });
        assert_eq!(read(&[0, 1, 0, 2], 1), Value { sample: 1, patch: 1, value: 2 });
        assert_eq!(read(&[0, 1, 1, 1], 1), Count { sample: 1, found: 0, expected: 1 });
        assert_eq!(Visibility::from_mask(&[], 0, 2, 1), Err(Grid { high: 0, wide: 2 }));
    }
}
