//! Where rows lie, for kernels: constants, and the tables that masks become.

use super::{
    element::Element,
    kernel::Module,
    schedule::{Argument, Schedule, View},
};
pub use crate::geometry::Geometry;
use crate::visibility::Visibility;

impl Geometry {
    /// Adds the constants that `common.cuh` calls by these names.
    pub fn define(self, module: Module) -> Module {
        let module = module
            .with("ROWS", self.rows())
            .with("HEIGHT", self.height())
            .with("WIDTH", self.width())
            .with_flag("SPARSE", matches!(self, Self::Sparse { .. }));
        match self {
            Self::Dense { .. } => module,
            Self::Sparse { side, patches_high, patches_wide, visible } => module
                .with("SIDE", side)
                .with("PATCHES", patches_high * patches_wide)
                .with("PATCHES_WIDE", patches_wide)
                .with("VISIBLE", visible),
        }
    }
}

/// The masks of a batch on the device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tables {
    /// Visible patches, ascending: u32 `[N, K]`.
    pub visible: View,
    /// i32 `[N, L]`: the slot of a visible patch; `-1 - rank` of a removed one.
    pub slots: View,
    /// Removed patches, ascending: u32 `[N, L - K]`.
    pub removed: View,
}

impl Tables {
    /// Buffers for the masks of `samples` samples with `visible` of `patches` patches visible.
    pub fn new(schedule: &mut Schedule, samples: usize, patches: usize, visible: usize) -> Self {
        Self {
            visible: schedule.input("mask.visible", Element::U32, samples * visible),
            slots: schedule.input("mask.slots", Element::I32, samples * patches),
            removed: schedule.input("mask.removed", Element::U32, samples * (patches - visible)),
        }
    }
}

/// Arguments `(slots, visible)` of a kernel; both null in a dense geometry.
pub(crate) fn table_arguments(tables: Option<&Tables>) -> (Argument, Argument) {
    match tables {
        None => (Argument::Null, Argument::Null),
        Some(tables) => (Argument::Read(tables.slots), Argument::Read(tables.visible)),
    }
}

/// What [`Tables`] hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableValues {
    /// Visible patches, `[N, K]`.
    pub visible: Vec<u32>,
    /// Slots, `[N, L]`.
    pub slots: Vec<i32>,
    /// Removed patches, `[N, L - K]`.
    pub removed: Vec<u32>,
}

impl From<&Visibility> for TableValues {
    fn from(visibility: &Visibility) -> Self {
        let mut values = Self { visible: Vec::new(), slots: Vec::new(), removed: Vec::new() };
        for sample in 0..visibility.samples() {
            let mut slots = vec![0; visibility.patches_per_sample()];
            for (slot, &patch) in visibility.patches(sample).iter().enumerate() {
                slots[patch as usize] = slot as i32;
                values.visible.push(patch);
            }
            for (rank, patch) in visibility.removed_patches(sample).enumerate() {
                slots[patch] = -1 - rank as i32;
                values.removed.push(patch as u32);
            }
            values.slots.extend(slots);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_inverse() {
        let mask = [1, 0, 0, 1, 1, 0, /**/ 0, 0, 1, 1, 0, 1];
        let values = TableValues::from(&Visibility::from_mask(&mask, 2, 3, 3).unwrap());
        assert_eq!(values.visible, [1, 2, 5, 0, 1, 4]);
        assert_eq!(values.removed, [0, 3, 4, 2, 3, 5]);
        assert_eq!(values.slots, [-1, 0, 1, -2, -3, 2, 0, 1, -1, -2, 2, -3]);
    }
}
