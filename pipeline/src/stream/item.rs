//! One sample on its way, and where it is made, in buffers that are used again.

use std::slice;

use convnext_data::{Draw, Example, Scratch, Target};

use super::slots::Slot;

/// What is made of a sample: its place in a batch. It holds results only, so that the samples in flight are as large as what
/// comes out, whatever the size of the pictures.
#[derive(Debug)]
pub struct Item {
    /// Position, counted from the start of the run over epochs.
    pub position: u64,
    /// Whose randomness the sample has.
    pub draw: Draw,
    /// The image as bytes `[H, W, C]`; empty if it is normalised.
    pub bytes: Slot<u8>,
    /// The image as floats `[H, W, C]`; empty if it is not normalised.
    pub pixels: Slot<f32>,
    /// Whether the image is still to be mirrored left to right.
    pub flip: bool,
    /// The mask `[L]`, 0 = keep, 1 = remove.
    pub mask: Slot<u8>,
    /// What the image teaches, one value.
    pub target: Slot<Target>,
    /// The bad samples that this one stands in for, with what was wrong.
    pub faults: Vec<(u64, String)>,
}

/// Where a worker makes its samples, one after the other: the picture as it was decoded, and what the stages need.
#[derive(Debug, Default)]
pub struct Workspace {
    /// The image as bytes, and its target.
    pub example: Example,
    /// Room for augmentations.
    pub scratch: Scratch,
    /// Room for the encoded bytes, where they are not mapped.
    pub encoded: Vec<u8>,
}

impl Workspace {
    /// Most bytes that a buffer keeps for the next picture: 22 million pixels of RGB.
    const KEPT: usize = 64 << 20;

    /// Originals are decoded into the same buffer each time: augmentations swap it with that of their results.
    pub(super) fn begin(&mut self) {
        if self.scratch.image.pixels.capacity() > self.example.image.pixels.capacity() {
            std::mem::swap(&mut self.scratch.image, &mut self.example.image);
        }
    }

    /// Moves what was made to its place, the image unless it is there as floats already, and lets go of what was for a huge
    /// picture alone. What was in the place of the target comes back, to be used again.
    pub(super) fn end(&mut self, item: &mut Item) {
        item.target.swap_with_slice(slice::from_mut(&mut self.example.target));
        if !item.bytes.is_empty() {
            item.bytes.copy_from_slice(&self.example.image.pixels);
        }
        for buffer in [&mut self.example.image.pixels, &mut self.scratch.image.pixels, &mut self.encoded] {
            if buffer.capacity() > Self::KEPT {
                *buffer = Vec::new();
            }
        }
        self.scratch.resample.keep_at_most(Self::KEPT);
    }
}

#[cfg(test)]
mod tests {
    use convnext_data::{Draw, Image};

    use super::*;
    use crate::stream::batch::{Batch, Places, SampleSizes};

    #[test]
    fn one_buffer_has_the_originals_and_none_stays_huge() {
        let sizes = SampleSizes { images: 0, bytes: 12, masks: 0 };
        let (_making, places) = Batch::default().begin(3, sizes);
        let mut space = Workspace::default();
        let mut original = None;
        for (position, Places { pixels, bytes, mask, target }) in places.into_iter().enumerate() {
            let position = position as u64;
            let draw = Draw { seed: 0, epoch: 0, sample: position };
            let mut item = Item { position, draw, bytes, pixels, flip: false, mask, target, faults: Vec::new() };
            space.begin();
            space.example.image.reset(100, 100, 3);
            let at = space.example.image.pixels.as_ptr();
            assert_eq!(*original.get_or_insert(at), at);
            space.scratch.image = Image::from_pixels(2, 2, 3, vec![position as u8; 12]).unwrap();
            std::mem::swap(&mut space.scratch.image, &mut space.example.image);
            space.end(&mut item);
            assert_eq!(item.bytes[..], [position as u8; 12]);
        }
        space.begin();
        space.example.image.reset(8192, 4096, 3);
        let (_making, places) = Batch::default().begin(1, SampleSizes { images: 0, bytes: 0, masks: 0 });
        let Places { pixels, bytes, mask, target } = places.into_iter().next().unwrap();
        let draw = Draw { seed: 0, epoch: 0, sample: 0 };
        space.end(&mut Item { position: 0, draw, bytes, pixels, flip: false, mask, target, faults: Vec::new() });
        assert_eq!(space.example.image.pixels.capacity(), 0);
    }
}
