//! Vectors that several threads fill, each its own part, without a copy and without a lock.

use std::{
    cell::UnsafeCell,
    mem::ManuallyDrop,
    ops::{Deref, DerefMut, Range},
    slice,
    sync::Arc,
};

/// A vector that was given away in slots.
#[derive(Debug)]
pub(super) struct Whole<T>(Arc<Cells<T>>);

/// One part of it, which nobody else has.
#[derive(Debug)]
pub struct Slot<T> {
    cells: Arc<Cells<T>>,
    range: Range<usize>,
}

#[derive(Debug)]
struct Cells<T>(Vec<UnsafeCell<T>>);

// SAFETY: the cells are reached through slots alone, whose ranges do not overlap, and through `Whole::join`, which has the
// only reference left. So a thread that has a slot may change its values, which are sent to it, and threads that share a slot
// share its values: they must be fit for both.
unsafe impl<T: Send + Sync> Sync for Cells<T> {}

/// Gives `values` away in `count` slots of equal length.
///
/// # Panics
/// If they cannot be divided so.
pub(super) fn split<T>(values: Vec<T>, count: usize) -> (Whole<T>, impl Iterator<Item = Slot<T>>) {
    assert!(count > 0 && values.len().is_multiple_of(count), "{} values in {count} slots", values.len());
    let length = values.len() / count;
    let mut values = ManuallyDrop::new(values);
    // SAFETY: the pointer, length and capacity are a vector's that is not used or dropped any more, and `UnsafeCell<T>` has
    // the layout of `T`.
    let cells = unsafe { Vec::from_raw_parts(values.as_mut_ptr().cast(), values.len(), values.capacity()) };
    let cells = Arc::new(Cells(cells));
    let whole = Whole(cells.clone());
    let slot = move |at: usize| Slot { cells: cells.clone(), range: at * length..(at + 1) * length };
    (whole, (0..count).map(slot))
}

impl<T> Whole<T> {
    /// The vector again; `None` while there are slots.
    pub(super) fn join(self) -> Option<Vec<T>> {
        let mut cells = ManuallyDrop::new(Arc::into_inner(self.0)?.0);
        // SAFETY: as in `split`, the other way round. Nobody else has a reference to the cells.
        Some(unsafe { Vec::from_raw_parts(cells.as_mut_ptr().cast(), cells.len(), cells.capacity()) })
    }
}

impl<T> Deref for Slot<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let cells = &self.cells.0[self.range.clone()];
        // SAFETY: the cells are in the vector, have the layout of `T`, and are this slot's alone; the result borrows it.
        unsafe { slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }
}

impl<T> DerefMut for Slot<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let cells = &self.cells.0[self.range.clone()];
        // SAFETY: as in `deref`; the result borrows the slot mutably. Writing through a shared reference to an `UnsafeCell`
        // is what it is for.
        unsafe { slice::from_raw_parts_mut(cells.as_ptr().cast::<T>().cast_mut(), cells.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_filled_by_threads_and_joined() {
        let mut values = Vec::with_capacity(100);
        values.resize(12, String::new());
        let (whole, slots) = split(values, 4);
        std::thread::scope(|scope| {
            for (number, mut slot) in slots.enumerate() {
                scope.spawn(move || slot.iter_mut().for_each(|value| *value = format!("{number}")));
            }
        });
        let joined = whole.join().unwrap();
        assert_eq!(joined.concat(), "000111222333");
        assert_eq!(joined.capacity(), 100);
    }

    #[test]
    fn nothing_is_joined_while_there_is_a_slot() {
        let (whole, slots) = split(vec![1, 2, 3], 3);
        let kept: Vec<_> = slots.skip(2).collect();
        assert_eq!(&kept[0][..], [3]);
        assert!(whole.join().is_none());
        assert_eq!(&kept[0][..], [3]);
        let (whole, slots) = split(Vec::<u8>::new(), 5);
        assert!(slots.map(|slot| slot.len()).eq([0; 5]));
        assert_eq!(whole.join(), Some(Vec::new()));
    }
}
