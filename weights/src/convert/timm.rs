//! The layout of timm's `convnext` and `convnextv2` models.
//!
//! Axes are PyTorch's, as in the official layout; GRN's gamma and beta are `weight` and `bias`, of one axis. The sizes below
//! Tiny are built with 1x1 convolutions where the others have linear layers: their weights have two axes more; where a file
//! is read, either is taken. A model made with `features_only` has an underscore for the first dot. timm has no
//! pre-training model: there is nothing to call a decoder.

use convnext_core::{
    network::names::{BLOCK, DOWNSAMPLE, HEAD, STEM},
    optim::Layout,
};

use super::{
    official::{CONVOLUTION, DEPTHWISE, LINEAR, NORM, POINTWISE},
    table::{Naming, Part, Row, part, renamed, row},
};

const GRN: &[Part] = &[renamed("gamma", "weight", &[0]), renamed("beta", "bias", &[0])];
const LAYER_SCALE: &[Part] = &[part("gamma", &[0])];

const ROWS: &[Row] = &[
    row(STEM, "conv", "stem.0", CONVOLUTION),
    row(STEM, "norm", "stem.1", NORM),
    row(DOWNSAMPLE, "norm", "stages.{}.downsample.0", NORM),
    row(DOWNSAMPLE, "conv", "stages.{}.downsample.1", CONVOLUTION),
    row(BLOCK, "dwconv", "stages.{}.blocks.{}.conv_dw", DEPTHWISE),
    row(BLOCK, "norm", "stages.{}.blocks.{}.norm", NORM),
    row(BLOCK, "grn", "stages.{}.blocks.{}.mlp.grn", GRN),
    row(BLOCK, "layer_scale", "stages.{}.blocks.{}", LAYER_SCALE),
    row(HEAD, "norm", "head.norm", NORM),
    row(HEAD, "linear", "head.fc", LINEAR),
];

const FC1: (&str, &str) = ("pwconv1", "stages.{}.blocks.{}.mlp.fc1");
const FC2: (&str, &str) = ("pwconv2", "stages.{}.blocks.{}.mlp.fc2");

/// Names of the classifier, and of its encoder by itself.
pub(super) static CLASSIFIER: Naming =
    Naming { encoder: "", rows: &[ROWS, &[row(BLOCK, FC1.0, FC1.1, LINEAR), row(BLOCK, FC2.0, FC2.1, LINEAR)]] };

/// The same for the sizes below Tiny.
pub(super) static SMALL_CLASSIFIER: Naming =
    Naming { encoder: "", rows: &[ROWS, &[row(BLOCK, FC1.0, FC1.1, POINTWISE), row(BLOCK, FC2.0, FC2.1, POINTWISE)]] };

/// Names of the encoder that `features_only` leaves.
pub(super) static FEATURES: Naming = Naming {
    encoder: "",
    rows: &[&[
        row(STEM, "conv", "stem_0", CONVOLUTION),
        row(STEM, "norm", "stem_1", NORM),
        row(DOWNSAMPLE, "norm", "stages_{}.downsample.0", NORM),
        row(DOWNSAMPLE, "conv", "stages_{}.downsample.1", CONVOLUTION),
        row(BLOCK, "dwconv", "stages_{}.blocks.{}.conv_dw", DEPTHWISE),
        row(BLOCK, "norm", "stages_{}.blocks.{}.norm", NORM),
        row(BLOCK, "pwconv1", "stages_{}.blocks.{}.mlp.fc1", LINEAR),
        row(BLOCK, "grn", "stages_{}.blocks.{}.mlp.grn", GRN),
        row(BLOCK, "pwconv2", "stages_{}.blocks.{}.mlp.fc2", LINEAR),
        row(BLOCK, "layer_scale", "stages_{}.blocks.{}", LAYER_SCALE),
    ]],
};

/// Widths of the stages of the sizes below Tiny: Atto, Femto, Pico, Nano.
const SMALL: [[usize; 4]; 4] = [[40, 80, 160, 320], [48, 96, 192, 384], [64, 128, 256, 512], [80, 160, 320, 640]];

/// Whether `layout` has the widths of a size below Tiny.
pub(super) fn is_small(layout: &Layout) -> bool {
    let stem = layout.get("encoder.stem.norm.weight").map(|norm| norm.shape[0]);
    let downsampled = (1..).map_while(|stage| {
        let convolution = layout.get(&format!("encoder.stages.{stage}.downsample.conv.bias"))?;
        Some(convolution.shape[0])
    });
    let widths: Vec<usize> = stem.into_iter().chain(downsampled).collect();
    has_convolutions(&widths)
}

/// Whether timm builds models of such `widths` with 1x1 convolutions.
pub(super) fn has_convolutions(widths: &[usize]) -> bool {
    SMALL.iter().any(|small| small[..] == *widths)
}
