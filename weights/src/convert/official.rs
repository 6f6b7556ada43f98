//! The layout of the official ConvNeXt V2 code (PyTorch, dense), and of ConvNeXt's where blocks have LayerScale.
//!
//! Convolutions are `[out, in, height, width]`, depthwise ones `[C, 1, height, width]`, linear layers `[out, in]`. In the
//! classifier the encoder's names stand at the top; in the pre-training model below `encoder.`. The values that the
//! prediction makes of a cell are `(y, x, channel)` there as here.

use convnext_core::network::names::{BLOCK, DECODER as DECODER_BLOCK, DENSIFY, DOWNSAMPLE, HEAD, PREDICTION, STEM};

use super::table::{Naming, ONE, Part, Row, part, row};

pub(super) const BIAS: Part = part("bias", &[0]);
pub(super) const NORM: &[Part] = &[part("weight", &[0]), BIAS];
pub(super) const CONVOLUTION: &[Part] = &[part("weight", &[3, 2, 0, 1]), BIAS];
pub(super) const DEPTHWISE: &[Part] = &[part("weight", &[2, ONE, 0, 1]), BIAS];
pub(super) const LINEAR: &[Part] = &[part("weight", &[1, 0]), BIAS];
/// A linear layer that is written as a 1x1 convolution.
pub(super) const POINTWISE: &[Part] = &[part("weight", &[1, 0, ONE, ONE]), BIAS];
const GRN: &[Part] = &[part("gamma", &[ONE, ONE, ONE, 0]), part("beta", &[ONE, ONE, ONE, 0])];
const LAYER_SCALE: &[Part] = &[part("gamma", &[0])];
const MASK_TOKEN: &[Part] = &[part("mask_token", &[ONE, 0, ONE, ONE])];

const ENCODER: &[Row] = &[
    row(STEM, "conv", "downsample_layers.0.0", CONVOLUTION),
    row(STEM, "norm", "downsample_layers.0.1", NORM),
    row(DOWNSAMPLE, "norm", "downsample_layers.{}.0", NORM),
    row(DOWNSAMPLE, "conv", "downsample_layers.{}.1", CONVOLUTION),
    row(BLOCK, "dwconv", "stages.{}.{}.dwconv", DEPTHWISE),
    row(BLOCK, "norm", "stages.{}.{}.norm", NORM),
    row(BLOCK, "pwconv1", "stages.{}.{}.pwconv1", LINEAR),
    row(BLOCK, "grn", "stages.{}.{}.grn", GRN),
    row(BLOCK, "pwconv2", "stages.{}.{}.pwconv2", LINEAR),
    row(BLOCK, "layer_scale", "stages.{}.{}", LAYER_SCALE),
];

const CLASSES: &[Row] = &[row(HEAD, "norm", "norm", NORM), row(HEAD, "linear", "head", LINEAR)];

/// What stands behind the encoder in pre-training, dense in the sparse layout too.
pub(super) const DECODER: &[Row] = &[
    row(DENSIFY, "projection", "proj", POINTWISE),
    row(DENSIFY, "", "", MASK_TOKEN),
    row(DECODER_BLOCK, "dwconv", "decoder.{}.dwconv", DEPTHWISE),
    row(DECODER_BLOCK, "norm", "decoder.{}.norm", NORM),
    row(DECODER_BLOCK, "pwconv1", "decoder.{}.pwconv1", LINEAR),
    row(DECODER_BLOCK, "grn", "decoder.{}.grn", GRN),
    row(DECODER_BLOCK, "pwconv2", "decoder.{}.pwconv2", LINEAR),
    row(DECODER_BLOCK, "layer_scale", "decoder.{}", LAYER_SCALE),
    row(PREDICTION, "", "pred", POINTWISE),
];

/// Names of the classifier, and of an encoder by itself, which is how pre-trained weights are published.
pub(super) static CLASSIFIER: Naming = Naming { encoder: "", rows: &[ENCODER, CLASSES] };

/// Names of the pre-training model.
pub(super) static PRETRAINING: Naming = Naming { encoder: "encoder.", rows: &[ENCODER, DECODER] };
