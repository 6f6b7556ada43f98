//! What the spec compiler knows about a variant: every size, count and rate, as plain constants.
//!
//! The `convnext!` macro writes one [`Plan`] per variant. [`Plan::sizes`] computes the derived numbers again from the
//! declared ones at run time, and a test holds the two equal.

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
    /// Declared rate of the last block's drop path; the rates in between rise linearly from 0.
    pub drop_path: f32,
    /// The pre-training part, if declared.
    pub fcmae: Option<FcmaePlan>,
    /// Trainable parameters of the classifier.
    pub parameters: u64,
    /// Multiply-adds of the classifier for one image (convolutions and matrix products).
    pub multiply_adds: u64,
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
    /// Grid height in cells.
    pub height: usize,
    /// Grid width in cells.
    pub width: usize,
    /// Drop-path rate of each block; `depth` values.
    pub drop_path: &'static [f32],
    /// Trainable parameters, the downsampling before the stage included (the stem for the first).
    pub parameters: u64,
    /// Multiply-adds for one image, the downsampling before the stage included (the stem for the first).
    pub multiply_adds: u64,
}

/// The pre-training part: a fully convolutional masked autoencoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FcmaePlan {
    /// Side of a patch, in pixels; a multiple of the total stride and a divisor of the input.
    pub patch: usize,
    /// Share of the patches that is removed.
    pub mask: f32,
    /// Patches from top to bottom.
    pub patches_high: usize,
    /// Patches from left to right.
    pub patches_wide: usize,
    /// Visible patches: `floor(patches * (1 - mask))`.
    pub visible: usize,
    /// Channels of the decoder.
    pub decoder_dim: usize,
    /// Blocks of the decoder.
    pub decoder_depth: usize,
    /// Side of the decoder's depthwise kernels.
    pub decoder_kernel: usize,
    /// Whether the target is each patch's pixels normalised to mean 0 and variance 1.
    pub normalised: bool,
    /// Trainable parameters of encoder, projection, mask token, decoder and prediction together.
    pub parameters: u64,
    /// Multiply-adds of one image's pre-training forward pass, removed patches not computed in the encoder.
    pub multiply_adds: u64,
}

impl Plan {
    /// Total stride of the encoder: pixels to a side of one cell of the last grid.
    pub const fn stride(&self) -> usize {
        self.stem << (self.stages.len() - 1)
    }

    /// Number of blocks in the encoder.
    pub fn blocks(&self) -> usize {
        self.stages.iter().map(|stage| stage.depth).sum()
    }
}

impl FcmaePlan {
    /// Number of patches `L` of an image.
    pub const fn patches(&self) -> usize {
        self.patches_high * self.patches_wide
    }
}

/// The numbers of a [`Plan`] that follow from what was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Of each stage: grid height, grid width, parameters, multiply-adds.
    pub stages: Vec<(usize, usize, u64, u64)>,
    /// Of the classifier: parameters, multiply-adds.
    pub classifier: (u64, u64),
    /// Of the pre-training part: visible patches, parameters, multiply-adds.
    pub fcmae: Option<(usize, u64, u64)>,
}

/// Hidden features for each channel of a block.
const EXPANSION: usize = 4;

impl Plan {
    /// Derives grids, parameters and multiply-adds from the declared sizes.
    pub fn sizes(&self) -> Sizes {
        let stages: Vec<_> = (0..self.stages.len()).map(|stage| self.stage_sizes(stage)).collect();
        let (last, classes) = (self.stages[self.stages.len() - 1].dim, self.classes);
        let sum = |field: fn(&(usize, usize, u64, u64)) -> u64| stages.iter().map(field).sum::<u64>();
        let parameters = sum(|stage| stage.2) + (2 * last + last * classes + classes) as u64;
        let multiply_adds = sum(|stage| stage.3) + (last * classes) as u64;
        let fcmae = self.fcmae.map(|fcmae| self.fcmae_sizes(&fcmae, &stages));
        Sizes { stages, classifier: (parameters, multiply_adds), fcmae }
    }

    fn stage_sizes(&self, stage: usize) -> (usize, usize, u64, u64) {
        let StagePlan { dim, depth, kernel, .. } = self.stages[stage];
        let stride = self.stem << stage;
        let (height, width) = (self.height / stride, self.width / stride);
        // The stem projects, then normalises its output; a downsampling normalises its input, then projects.
        let (inputs, normalised) = match stage {
            0 => (self.stem * self.stem * self.channels, dim),
            _ => (4 * self.stages[stage - 1].dim, self.stages[stage - 1].dim),
        };
        let before = inputs * dim + dim + 2 * normalised;
        let parameters = before + depth * block_parameters(self.flavour, dim, kernel);
        let multiply_adds = height * width * (inputs * dim + depth * block_multiply_adds(dim, kernel));
        (height, width, parameters as u64, multiply_adds as u64)
    }

    fn fcmae_sizes(&self, fcmae: &FcmaePlan, stages: &[(usize, usize, u64, u64)]) -> (usize, u64, u64) {
        let patches = fcmae.patches();
        // The ratio was declared in decimal: 10 * (1 - 0.3) is 7, whatever binary fractions make of it.
        let visible = (patches as f64 * (1.0 - f64::from(fcmae.mask)) + 1e-4).floor() as usize;
        let encoder: u64 = stages.iter().map(|stage| stage.2).sum();
        let sparse: u64 = stages.iter().map(|stage| stage.3 / patches as u64 * visible as u64).sum();
        let (dim, last) = (fcmae.decoder_dim, self.stages[self.stages.len() - 1]);
        let out = self.stride() * self.stride() * self.channels;
        let block = block_parameters(self.flavour, dim, fcmae.decoder_kernel);
        let parameters = last.dim * dim + 2 * dim + fcmae.decoder_depth * block + dim * out + out;
        let (cells, seen) = (last.height * last.width, last.height * last.width / patches * visible);
        let decoder = fcmae.decoder_depth * block_multiply_adds(dim, fcmae.decoder_kernel) + dim * out;
        (visible, encoder + parameters as u64, sparse + (seen * last.dim * dim + cells * decoder) as u64)
    }
}

fn block_parameters(flavour: Flavour, dim: usize, kernel: usize) -> usize {
    let hidden = EXPANSION * dim;
    let scale = match flavour {
        Flavour::V1 => dim,
        Flavour::V2 => 2 * hidden,
    };
    kernel * kernel * dim + dim + 2 * dim + dim * hidden + hidden + scale + hidden * dim + dim
}

fn block_multiply_adds(dim: usize, kernel: usize) -> usize {
    kernel * kernel * dim + 2 * EXPANSION * dim * dim
}
