//! Batches, and how single samples become one.

use convnext_data::Target;

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
    pub replaced: super::Replaced,
}

impl Batch {
    /// Empties it, but for old targets: [`push`](Self::push) gives their allocations to the samples whose it takes.
    pub(crate) fn clear(&mut self) {
        self.samples = 0;
        self.images.clear();
        self.bytes.clear();
        self.flips.clear();
        self.masks.clear();
        self.ids.clear();
        self.epochs.clear();
    }

    /// Adds a sample, and takes its target.
    pub(crate) fn push(&mut self, item: &mut super::Item, normalised: bool) {
        if self.samples == 0 {
            self.position = item.position;
        }
        match self.targets.get_mut(self.samples) {
            Some(old) => std::mem::swap(old, &mut item.example.target),
            None => self.targets.push(std::mem::take(&mut item.example.target)),
        }
        self.samples += 1;
        if normalised {
            self.images.extend_from_slice(&item.pixels);
        } else {
            self.bytes.extend_from_slice(&item.example.image.pixels);
            self.flips.push(item.flip.into());
        }
        self.masks.extend_from_slice(&item.mask);
        self.ids.push(item.draw.sample);
        self.epochs.push(item.draw.epoch);
    }

    /// Drops what is left of an earlier batch that had more samples.
    pub(crate) fn finish(&mut self) {
        self.targets.truncate(self.samples);
    }
}
