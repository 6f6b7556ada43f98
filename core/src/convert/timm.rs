//! The layout of timm's `convnext` and `convnextv2` models.
//!
//! Axes are PyTorch's, as in the official layout; GRN's gamma and beta are `weight` and `bias`, of one axis. timm has no
//! pre-training model: there is nothing to call a decoder.

use super::{
    official::{CONVOLUTION, DEPTHWISE, LINEAR, NORM},
    table::{Naming, Part, Row, part, renamed, row},
};

const GRN: &[Part] = &[renamed("gamma", "weight", &[0]), renamed("beta", "bias", &[0])];
const LAYER_SCALE: &[Part] = &[part("gamma", &[0])];

const ROWS: &[Row] = &[
    row("encoder.stem.conv", "stem.0", CONVOLUTION),
    row("encoder.stem.norm", "stem.1", NORM),
    row("encoder.stages.{}.downsample.norm", "stages.{}.downsample.0", NORM),
    row("encoder.stages.{}.downsample.conv", "stages.{}.downsample.1", CONVOLUTION),
    row("encoder.stages.{}.blocks.{}.dwconv", "stages.{}.blocks.{}.conv_dw", DEPTHWISE),
    row("encoder.stages.{}.blocks.{}.norm", "stages.{}.blocks.{}.norm", NORM),
    row("encoder.stages.{}.blocks.{}.pwconv1", "stages.{}.blocks.{}.mlp.fc1", LINEAR),
    row("encoder.stages.{}.blocks.{}.grn", "stages.{}.blocks.{}.mlp.grn", GRN),
    row("encoder.stages.{}.blocks.{}.pwconv2", "stages.{}.blocks.{}.mlp.fc2", LINEAR),
    row("encoder.stages.{}.blocks.{}.layer_scale", "stages.{}.blocks.{}", LAYER_SCALE),
    row("head.norm", "head.norm", NORM),
    row("head.linear", "head.fc", LINEAR),
];

/// Names of the classifier, and of its encoder by itself.
pub(super) static CLASSIFIER: Naming = Naming { encoder: "", rows: &[ROWS] };
