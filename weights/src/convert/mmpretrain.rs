//! The layout of mmpretrain's `ConvNeXt` backbones, and of its classifiers.
//!
//! Axes are PyTorch's, as in the official layout; GRN's gamma and beta have one axis. The norm behind the last stage is
//! called by the stage's number.

use convnext_core::network::names::{BLOCK, DOWNSAMPLE, HEAD, STEM};

use super::{
    official::{CONVOLUTION, DEPTHWISE, LINEAR, NORM},
    table::{Naming, Part, Row, part, row},
};

const GRN: &[Part] = &[part("gamma", &[0]), part("beta", &[0])];
const LAYER_SCALE: &[Part] = &[part("gamma", &[0])];

const ENCODER: &[Row] = &[
    row(STEM, "conv", "downsample_layers.0.0", CONVOLUTION),
    row(STEM, "norm", "downsample_layers.0.1", NORM),
    row(DOWNSAMPLE, "norm", "downsample_layers.{}.0", NORM),
    row(DOWNSAMPLE, "conv", "downsample_layers.{}.1", CONVOLUTION),
    row(BLOCK, "dwconv", "stages.{}.{}.depthwise_conv", DEPTHWISE),
    row(BLOCK, "norm", "stages.{}.{}.norm", NORM),
    row(BLOCK, "pwconv1", "stages.{}.{}.pointwise_conv1", LINEAR),
    row(BLOCK, "grn", "stages.{}.{}.grn", GRN),
    row(BLOCK, "pwconv2", "stages.{}.{}.pointwise_conv2", LINEAR),
    row(BLOCK, "layer_scale", "stages.{}.{}", LAYER_SCALE),
];

/// Names of the classifier, and of its encoder by itself.
pub(super) static CLASSIFIER: Naming = Naming {
    encoder: "backbone.",
    rows: &[ENCODER, &[row(HEAD, "norm", "backbone.norm3", NORM), row(HEAD, "linear", "head.fc", LINEAR)]],
};
