//! What was declared about a variant, as constants, and the grids, strides and rates that follow from it.
//!
//! The `convnext!` macro writes one [`Plan`] per variant, which holds declared sizes only. What a network of these sizes
//! is made of - its parts, their parameters and their cost - is in [`network`](crate::network).

use crate::geometry::Geometry;

/// Hidden features for each channel of a block.
pub const EXPANSION: usize = 4;

/// Block flavour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// ConvNeXt: LayerScale on the residual branch, no response normalisation.
    V1,
    /// ConvNeXt V2: global response normalisation (GRN) on the hidden features.
    V2,
}

/// Everything that is fixed about one declared variant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Name in lower case, as the command line takes it.
    pub name: &'static str,
    /// First line of the declaration's doc comment; empty if it has none.
    pub about: &'static str,
    /// Input height in pixels.
    pub height: usize,
    /// Input width in pixels.
    pub width: usize,
    /// Input channels.
    pub channels: usize,
    /// Side and stride of the stem's patches, in pixels.
    pub stem: usize,
    /// Block flavour.
    pub flavour: Flavour,
    /// The stages, first to last.
    pub stages: &'static [StagePlan],
    /// Classes of the head.
    pub classes: usize,
    /// Rate of the last block's drop path; the rates before it rise linearly from 0.
    pub drop_path: f32,
    /// The pre-training part, if declared.
    pub fcmae: Option<FcmaePlan>,
}

/// One stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StagePlan {
    /// Channels.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Side of the depthwise kernel; odd.
    pub kernel: usize,
}

/// The pre-training part: a fully convolutional masked autoencoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FcmaePlan {
    /// Side of a patch, in pixels; a multiple of the total stride and a divisor of the input.
    pub patch: usize,
    /// Share of the patches that is removed.
    pub mask: Decimal,
    /// Channels of the decoder.
    pub decoder_dim: usize,
    /// Blocks of the decoder.
    pub decoder_depth: usize,
    /// Side of the decoder's depthwise kernels.
    pub decoder_kernel: usize,
    /// Whether the target is each patch's pixels normalised to mean 0 and variance 1.
    pub normalised: bool,
}

/// A share as it was written, exactly: `digits / one`, where `one` is a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decimal {
    /// 6 in 0.6.
    pub digits: u64,
    /// 10 in 0.6.
    pub one: u64,
}

/// The masking grid of a pre-training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Patches from top to bottom.
    pub high: usize,
    /// Patches from left to right.
    pub wide: usize,
    /// Visible patches of an image, `K`: `floor(L * (1 - mask))`.
    pub visible: usize,
}

impl Decimal {
    /// The nearest `f32`.
    pub const fn as_f32(self) -> f32 {
        (self.digits as f64 / self.one as f64) as f32
    }

    /// `floor(count * (1 - self))`, in whole numbers: 10 at 0.3 leave 7, where floating point finds 6.99... .
    const fn rest_of(self, count: usize) -> usize {
        let rest = self.one.saturating_sub(self.digits) as u128;
        (count as u128 * rest / self.one as u128) as usize
    }
}

impl Patches {
    /// Patches of an image, `L`.
    pub const fn count(self) -> usize {
        self.high * self.wide
    }

    /// Removed patches of an image.
    pub const fn removed(self) -> usize {
        self.count() - self.visible
    }

    /// The cells of the visible patches, `side` cells a side each.
    pub const fn cells(self, side: usize) -> Geometry {
        Geometry::Sparse { side, patches_high: self.high, patches_wide: self.wide, visible: self.visible }
    }
}

impl Plan {
    /// One pixel, one class and no stage: what other plans are written on top of (`Plan { stem: 4, ..Plan::blank("own") }`),
    /// and what stands in for that of a declaration that does not compile.
    pub const fn blank(name: &'static str) -> Self {
        Self {
            name,
            about: "",
            height: 1,
            width: 1,
            channels: 1,
            stem: 1,
            flavour: Flavour::V2,
            stages: &[],
            classes: 1,
            drop_path: 0.0,
            fcmae: None,
        }
    }

    /// Total stride of the encoder: pixels to a side of one cell of the last grid.
    pub const fn stride(&self) -> usize {
        self.stride_of(self.stages.len() - 1)
    }

    /// Pixels to a side of one cell of a stage's grid.
    pub const fn stride_of(&self, stage: usize) -> usize {
        self.stem << stage
    }

    /// The whole grid of a stage.
    pub const fn grid(&self, stage: usize) -> Geometry {
        let stride = self.stride_of(stage);
        Geometry::Dense { height: self.height / stride, width: self.width / stride }
    }

    /// The last stage.
    ///
    /// # Panics
    /// If there is none.
    pub const fn last(&self) -> StagePlan {
        self.stages[self.stages.len() - 1]
    }

    /// Number of blocks in the encoder.
    pub const fn blocks(&self) -> usize {
        self.blocks_before(self.stages.len())
    }

    /// Number of blocks in the stages before this one.
    pub const fn blocks_before(&self, stage: usize) -> usize {
        let (mut blocks, mut before) = (0, 0);
        while before < stage {
            blocks += self.stages[before].depth;
            before += 1;
        }
        blocks
    }

    /// Declared drop-path rate of a block, counted over all stages.
    pub const fn drop_path_of(&self, block: usize) -> f32 {
        drop_path(self.drop_path, block, self.blocks())
    }

    /// The masking grid, if a pre-training is declared.
    pub const fn patches(&self) -> Option<Patches> {
        let Some(fcmae) = self.fcmae else { return None };
        let (high, wide) = (self.height / fcmae.patch, self.width / fcmae.patch);
        Some(Patches { high, wide, visible: fcmae.mask.rest_of(high * wide) })
    }
}

/// Drop-path rate of a block: it rises linearly from 0 at the first of `blocks` to `rate` at the last.
pub const fn drop_path(rate: f32, block: usize, blocks: usize) -> f32 {
    match blocks {
        0 | 1 => 0.0,
        _ => rate * block as f32 / (blocks - 1) as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(count: usize, digits: u64, one: u64) -> usize {
        Decimal { digits, one }.rest_of(count)
    }

    /// floor(L * (1 - mask)) in decimals, where binary floating point would often miss by one.
    #[test]
    fn visible_patches_are_exact() {
        assert_eq!(visible(49, 6, 10), 19);
        assert_eq!(visible(10, 3, 10), 7);
        assert_eq!(visible(10, 9, 10), 1);
        assert_eq!(visible(100, 71, 100), 29);
        for tenths in 1..10 {
            assert_eq!(visible(100, tenths, 10), 100 - 10 * tenths as usize);
        }
    }

    #[test]
    fn drop_path_rises_linearly() {
        assert_eq!([0, 1, 2].map(|block| drop_path(0.3, block, 3)), [0.0, 0.15, 0.3]);
        assert_eq!(drop_path(0.3, 0, 1), 0.0);
    }
}
