//! One sample on its way, in buffers that are used again.

use convnext_data::{Draw, Example};

/// One sample on its way through the stages.
#[derive(Debug)]
pub struct Item {
    /// Position, counted from the start of the run over epochs.
    pub position: u64,
    /// Whose randomness the sample has.
    pub draw: Draw,
    /// The image as bytes, and its target.
    pub example: Example,
    /// Whether the image is still to be mirrored left to right.
    pub flip: bool,
    /// The image as floats `[H, W, C]`.
    pub pixels: Vec<f32>,
    /// The mask `[L]`, 0 = keep, 1 = remove.
    pub mask: Vec<u8>,
    /// Room for the encoded bytes, where they are not mapped.
    pub bytes: Vec<u8>,
    /// The bad samples that this one stands in for, with what was wrong.
    pub faults: Vec<(u64, String)>,
}

impl Default for Item {
    fn default() -> Self {
        Self {
            position: 0,
            draw: Draw { seed: 0, epoch: 0, sample: 0 },
            example: Example::default(),
            flip: false,
            pixels: Vec::new(),
            mask: Vec::new(),
            bytes: Vec::new(),
            faults: Vec::new(),
        }
    }
}

impl Item {
    pub(crate) fn begin(&mut self, position: u64, draw: Draw) {
        self.position = position;
        self.draw = draw;
        self.faults.clear();
    }
}
