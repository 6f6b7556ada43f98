//! Batches, and how single samples become one.

use convnext_data::Target;

use super::{
    Form, Item, Replaced,
    slots::{Slot, Whole, split},
};

/// Samples side by side, in the order of their positions.
#[derive(Debug, Default)]
pub struct Batch {
    /// Position of the first sample, counted from the start of the run over epochs.
    pub position: u64,
    /// Number of samples `N`.
    pub samples: usize,
    /// Images, `[N, H, W, C]`, normalised; empty if they come as bytes.
    pub images: Vec<f32>,
    /// Images, `[N, H, W, C]`, as bytes; empty if they are normalised.
    pub bytes: Vec<u8>,
    /// Which images are still to be mirrored left to right, `[N]`, 1 = mirror; empty if they are normalised.
    pub flips: Vec<u8>,
    /// Masks, `[N, L]`, 0 = keep, 1 = remove; empty without a mask stage.
    pub masks: Vec<u8>,
    /// What each sample teaches, `[N]`.
    pub targets: Vec<Target>,
    /// Sample ids, `[N]`.
    pub ids: Vec<u64>,
    /// Epoch of each sample, `[N]`.
    pub epochs: Vec<u64>,
    /// What has been replaced since the start of the run, up to the last sample.
    pub replaced: Replaced,
}

/// A batch whose samples are being made.
#[derive(Debug)]
pub(super) struct Making {
    images: Whole<f32>,
    bytes: Whole<u8>,
    masks: Whole<u8>,
    targets: Whole<Target>,
    /// Samples that it is to have.
    wanted: usize,
    /// What is known of it so far, with the rest of its buffers.
    batch: Batch,
}

/// How many values a sample has in each buffer of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SampleSizes {
    pub(super) images: usize,
    pub(super) bytes: usize,
    pub(super) masks: usize,
}

impl SampleSizes {
    /// Of samples of `form`; nothing of those whose size nobody knows.
    pub(super) fn of(form: Form) -> Self {
        let (values, masks) = match form {
            Form::Stored | Form::Encoded | Form::Image { .. } => (0, 0),
            Form::Sized { height, width, channels } | Form::Pixels { height, width, channels } => {
                (height * width * channels, 0)
            }
            Form::Masked { height, width, channels, patches, .. } => (height * width * channels, patches),
        };
        match form.normalised() {
            true => Self { images: values, bytes: 0, masks },
            false => Self { images: 0, bytes: values, masks },
        }
    }

    /// Bytes of a sample.
    pub(super) fn total(self) -> usize {
        self.images.saturating_mul(size_of::<f32>()).saturating_add(self.bytes).saturating_add(self.masks)
    }
}

impl Batch {
    /// Its buffers for a batch of `samples`, and the places that they have for each: what workers are given.
    pub(super) fn begin(mut self, samples: usize, sizes: SampleSizes) -> (Making, Vec<Places>) {
        self.targets.resize_with(samples, Target::default);
        let (images, image) = split(sized(self.images, samples * sizes.images), samples);
        let (bytes, byte) = split(sized(self.bytes, samples * sizes.bytes), samples);
        let (masks, mask) = split(sized(self.masks, samples * sizes.masks), samples);
        let (targets, target) = split(self.targets, samples);
        let rest = Self { flips: self.flips, ids: self.ids, epochs: self.epochs, ..Self::default() };
        let places = image.zip(byte).zip(mask.zip(target));
        let places = places.map(|((pixels, bytes), (mask, target))| Places { pixels, bytes, mask, target });
        // At once: whoever splits a buffer has it until the last slot is taken.
        let places = places.collect();
        (Making { images, bytes, masks, targets, wanted: samples, batch: rest.emptied() }, places)
    }

    fn emptied(mut self) -> Self {
        self.flips.clear();
        self.ids.clear();
        self.epochs.clear();
        self
    }
}

/// A sample's places in the buffers of a batch.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) pixels: Slot<f32>,
    pub(super) bytes: Slot<u8>,
    pub(super) mask: Slot<u8>,
    pub(super) target: Slot<Target>,
}

impl Making {
    /// Notes a sample that has been made, and gives its places back.
    pub(super) fn note(&mut self, item: Item) {
        let batch = &mut self.batch;
        if batch.samples == 0 {
            batch.position = item.position;
        }
        batch.samples += 1;
        if !item.bytes.is_empty() {
            batch.flips.push(item.flip.into());
        }
        batch.ids.push(item.draw.sample);
        batch.epochs.push(item.draw.epoch);
    }

    /// Whether all of its samples have been noted.
    pub(super) fn is_full(&self) -> bool {
        self.batch.samples == self.wanted
    }

    /// The batch, once it is full.
    ///
    /// # Panics
    /// If somebody still has a place in it.
    pub(super) fn end(self, replaced: Replaced) -> Batch {
        let joined = || {
            let (images, bytes) = (self.images.join()?, self.bytes.join()?);
            Some((images, bytes, self.masks.join()?, self.targets.join()?))
        };
        let (images, bytes, masks, targets) = joined().expect("every sample was noted with its places");
        Batch { images, bytes, masks, targets, replaced, ..self.batch }
    }
}

/// A buffer of `length`, with whatever was in it: all of it is written before it is read.
fn sized<T: Copy + Default>(buffer: Vec<T>, length: usize) -> Vec<T> {
    if buffer.len() == length { buffer } else { vec![T::default(); length] }
}
