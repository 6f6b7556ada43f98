//! The layout of mmpretrain's `ConvNeXt` backbones, and of its classifiers.
//!
//! Axes are PyTorch's, as in the official layout; GRN's gamma and beta have one axis. The norm behind the last stage is
//! called by the stage's number.

use super::{
    official::{CONVOLUTION, DEPTHWISE, LINEAR, NORM},
    table::{Naming, Part, Row, part, row},
};

const GRN: &[Part] = &[part("gamma", &[0]), part("beta", &[0])];
const LAYER_SCALE: &[Part] = &[part("gamma", &[0])];

const ENCODER: &[Row] = &[
    row("encoder.stem.conv", "downsample_layers.0.0", CONVOLUTION),
    row("encoder.stem.norm", "downsample_layers.0.1", NORM),
    row("encoder.stages.{}.downsample.norm", "downsample_layers.{}.0", NORM),
    row("encoder.stages.{}.downsample.conv", "downsample_layers.{}.1", CONVOLUTION),
    row("encoder.stages.{}.blocks.{}.dwconv", "stages.{}.{}.depthwise_conv", DEPTHWISE),
    row("encoder.stages.{}.blocks.{}.norm", "stages.{}.{}.norm", NORM),
    row("encoder.stages.{}.blocks.{}.pwconv1", "stages.{}.{}.pointwise_conv1", LINEAR),
    row("encoder.stages.{}.blocks.{}.grn", "stages.{}.{}.grn", GRN),
    row("encoder.stages.{}.blocks.{}.pwconv2", "stages.{}.{}.pointwise_conv2", LINEAR),
    row("encoder.stages.{}.blocks.{}.layer_scale", "stages.{}.{}", LAYER_SCALE),
];

/// Names of the classifier, and of its encoder by itself.
pub(super) static CLASSIFIER: Naming = Naming {
    encoder: "backbone.",
    rows: &[ENCODER, &[row("head.norm", "backbone.norm3", NORM), row("head.linear", "head.fc", LINEAR)]],
};
