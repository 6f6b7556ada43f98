//! Batches, and how single samples become one.

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
    /// Labels, `[N]`; `None` for a sample without one.
    pub labels: Vec<Option<u32>>,
    /// Sample ids, `[N]`.
    pub ids: Vec<u64>,
    /// Epoch of each sample, `[N]`.
    pub epochs: Vec<u64>,
    /// What has been replaced since the start of the run, up to the last sample.
    pub replaced: super::Replaced,
}

impl Batch {
    pub(crate) fn clear(&mut self) {
        self.samples = 0;
        self.images.clear();
        self.bytes.clear();
        self.flips.clear();
        self.masks.clear();
        self.labels.clear();
        self.ids.clear();
        self.epochs.clear();
    }

    pub(crate) fn push(&mut self, item: &super::Item, normalised: bool) {
        if self.samples == 0 {
            self.position = item.position;
        }
        self.samples += 1;
        if normalised {
            self.images.extend_from_slice(&item.pixels);
        } else {
            self.bytes.extend_from_slice(&item.image.pixels);
            self.flips.push(item.flip.into());
        }
        self.masks.extend_from_slice(&item.mask);
        self.labels.push(item.label);
        self.ids.push(item.draw.sample);
        self.epochs.push(item.draw.epoch);
    }
}
