//! Buffers that are used again: no allocation, and no page fault, in the steady state.

use std::{
    cell::RefCell,
    fmt, mem,
    ops::{Deref, DerefMut},
};

/// Values of a cache line; buffers begin on one.
const LINE: usize = 16;

/// Buffers a thread keeps at most.
const KEPT: usize = 512;

thread_local! {
    static POOL: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer from the thread's pool; it goes back to the pool of the thread that drops it.
#[derive(Default)]
pub(crate) struct Buffer {
    store: Vec<f32>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// A buffer whose contents are whatever was left there.
    pub(crate) fn new(length: usize) -> Self {
        let store = POOL.with_borrow_mut(|pool| take(pool, length + LINE));
        let start = store.as_ptr().align_offset(LINE * size_of::<f32>());
        Self { start: if start < LINE { start } else { 0 }, store, length }
    }

    /// A buffer of zeros.
    pub(crate) fn zeros(length: usize) -> Self {
        let mut this = Self::new(length);
        this.fill(0.0);
        this
    }
}

/// The smallest kept buffer that is long enough and not far too long, or a new one.
fn take(pool: &mut Vec<Vec<f32>>, length: usize) -> Vec<f32> {
    let fits = length..=2 * length + 1024;
    let kept = pool.iter().enumerate().filter(|(_, store)| fits.contains(&store.len()));
    match kept.min_by_key(|(_, store)| store.len()).map(|(index, _)| index) {
        Some(index) => pool.swap_remove(index),
        None => vec![0.0; length],
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let store = mem::take(&mut self.store);
        if store.is_empty() {
            return;
        }
        // A thread that ends may have lost its pool already; then the buffer is freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(store);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.store[self.start..][..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.store[self.start..][..self.length]
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_aligned() {
        let first = Buffer::zeros(1000);
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::new(990);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(address as usize % 64, 0);
        assert_ne!(Buffer::new(100_000).as_ptr(), address);
    }
}
