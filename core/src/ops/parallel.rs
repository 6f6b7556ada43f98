//! How a batch is cut up: by its shapes alone, so that the number of threads changes no bit.

use std::ops::Range;

use rayon::prelude::*;

use crate::scratch::Buffer;
use crate::{profile::timed, simd};

/// Rows that a matrix product should have: enough to pay for packing, few enough for the cache.
pub(crate) const TILE: usize = 256;

/// From this many rows on a sample is worked on alone, unless matrices are large.
pub(crate) const LARGE: usize = 128;

/// Chunks of a batch at most. Each has its own gradients.
const CHUNKS: usize = 8;

/// Chunks that stay chunks although their matrices are large and their rows few: threads want work.
const FEW: usize = 4;

/// From this many parameters on an operation has matrices that no core keeps in its cache: more rows go together, so that
/// they are read, and their gradients written, less often.
const LARGE_PARAMETERS: usize = 1 << 19;

/// Values in the gradients of all chunks together, at most (unless one chunk alone needs more).
const CHUNK_VALUES: usize = 64 << 20;

/// A batch cut into chunks, and each chunk into groups of samples that are worked on together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunking {
    samples: usize,
    chunk: usize,
    group: usize,
}

impl Chunking {
    /// For `samples` of `rows` rows each, and an operation of `parameters` parameters.
    ///
    /// A chunk has 128 rows or more, 256 if matrices are large and there are more than four chunks; there is a power of two of
    /// them.
    pub(crate) fn new(samples: usize, rows: usize, parameters: usize) -> Self {
        let (large, tile) = if parameters < LARGE_PARAMETERS { (LARGE, TILE) } else { (2 * LARGE, 2 * TILE) };
        let all = samples * rows;
        let most = [CHUNKS, samples, all / LARGE, (all / large).max(FEW), CHUNK_VALUES / parameters.max(1)];
        let most = most.into_iter().min().unwrap_or(1).max(1);
        let chunk = samples.div_ceil(1 << most.ilog2()).max(1);
        let group = if rows < large { (tile / rows.max(1)).min(chunk) } else { 1 };
        let groups = chunk.div_ceil(group);
        Self { samples, chunk, group: chunk.div_ceil(groups) }
    }

    /// The chunks: ranges of samples.
    pub(crate) fn chunks(&self) -> Vec<Range<usize>> {
        ranges(0..self.samples, self.chunk).collect()
    }

    /// The groups of a chunk.
    pub(crate) fn groups(&self, chunk: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        ranges(chunk, self.group)
    }

    /// The groups of all chunks.
    pub(crate) fn all_groups(&self) -> Vec<Range<usize>> {
        self.chunks().into_iter().flat_map(|chunk| self.groups(chunk)).collect()
    }

    /// Samples of the largest group.
    pub(crate) fn group(&self) -> usize {
        self.group
    }

    /// Runs `work(chunk, its part of values, gradients)` on every chunk, each with its own gradients, and returns these in
    /// order, to be added up. They begin as whatever was left there: `work` sets all of them, or calls [`zero`] first.
    /// `values` has `each` values a sample.
    pub(crate) fn accumulate(
        &self,
        parameters: usize,
        values: &mut [f32],
        each: usize,
        work: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
    ) -> Vec<Buffer> {
        let chunks = self.chunks();
        let mut gradients: Vec<_> = chunks.iter().map(|_| Buffer::new(parameters)).collect();
        let parts = split(values, &chunks, each);
        let jobs: Vec<_> = chunks.into_iter().zip(parts).zip(&mut gradients).collect();
        jobs.into_par_iter().with_max_len(1).for_each(|((chunk, part), gradients)| {
            work(chunk, part, gradients);
        });
        gradients
    }
}

/// Gradients to be added to.
pub(crate) fn zero(gradients: &mut [f32]) {
    timed!(Kernel, "gradients zeroed");
    gradients.fill(0.0);
}

/// Cuts a range into pieces of `length`, the last one shorter.
pub(crate) fn ranges(range: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(length).map(move |start| start..end.min(start + length))
}

/// The parts of `values` that belong to consecutive ranges of samples, `each` values a sample.
///
/// No values at all become empty parts: an output that nobody asked for.
pub(crate) fn split<'a>(mut values: &'a mut [f32], samples: &[Range<usize>], each: usize) -> Vec<&'a mut [f32]> {
    let each = if values.is_empty() { 0 } else { each };
    let part = |range: &Range<usize>| values.split_off_mut(..range.len() * each).expect("values for every sample");
    samples.iter().map(part).collect()
}

/// Values that are worth a thread of their own.
const PIECE: usize = 1 << 14;

/// `into += buffer[start..]` for every buffer, first to last; on all threads if it is long.
pub(crate) fn add_all(into: &mut [f32], buffers: &[Buffer], start: usize) {
    let add = |(index, into): (usize, &mut [f32])| {
        timed!(Kernel, "gradients added up");
        for buffer in buffers {
            simd::add(into, &buffer[start + index * PIECE..][..into.len()]);
        }
    };
    // To wake a thread takes longer than a short sum.
    match into.len() {
        ..=PIECE => add((0, into)),
        _ => into.par_chunks_mut(PIECE).enumerate().for_each(add),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_the_batch_in_order() {
        for samples in 0..40 {
            for rows in [1, 19, 49, 127, 128, 3136] {
                let chunking = Chunking::new(samples, rows, 1000);
                let all: Vec<_> = chunking.all_groups().into_iter().flatten().collect();
                assert_eq!(all, (0..samples).collect::<Vec<_>>());
                assert!(chunking.chunks().len() <= CHUNKS);
                assert!(chunking.all_groups().iter().all(|group| group.len() == 1 || group.len() * rows <= TILE));
            }
        }
    }

    #[test]
    fn large_gradients_have_few_chunks() {
        assert_eq!(Chunking::new(64, 49, 1 << 20).chunks().len(), 8);
        assert_eq!(
            (Chunking::new(8, 196, 1 << 20).chunks().len(), Chunking::new(8, 196, 1 << 18).chunks().len()),
            (4, 8)
        );
        assert_eq!(
            (Chunking::new(8, 76, 1 << 20).chunks().len(), Chunking::new(8, 49, 1 << 20).chunks().len()),
            (4, 2)
        );
        assert_eq!((Chunking::new(8, 196, 1 << 20).group(), Chunking::new(8, 196, 1 << 18).group()), (2, 1));
        assert_eq!(Chunking::new(64, 49, 30 << 20).chunks().len(), 2);
        assert_eq!(Chunking::new(64, 49, 100 << 20).chunks().len(), 1);
    }
}
