//! The layout of the official ConvNeXt V2 code (PyTorch, dense), and of ConvNeXt's where blocks have LayerScale.
//!
//! Convolutions are `[out, in, height, width]`, depthwise ones `[C, 1, height, width]`, linear layers `[out, in]`. In the
//! classifier the encoder's names stand at the top; in the pre-training model below `encoder.`. The values that the
//! prediction makes of a cell are `(y, x, channel)` there as here.

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
    row("encoder.stem.conv", "downsample_layers.0.0", CONVOLUTION),
    row("encoder.stem.norm", "downsample_layers.0.1", NORM),
    row("encoder.stages.{}.downsample.norm", "downsample_layers.{}.0", NORM),
    row("encoder.stages.{}.downsample.conv", "downsample_layers.{}.1", CONVOLUTION),
    row("encoder.stages.{}.blocks.{}.dwconv", "stages.{}.{}.dwconv", DEPTHWISE),
    row("encoder.stages.{}.blocks.{}.norm", "stages.{}.{}.norm", NORM),
    row("encoder.stages.{}.blocks.{}.pwconv1", "stages.{}.{}.pwconv1", LINEAR),
    row("encoder.stages.{}.blocks.{}.grn", "stages.{}.{}.grn", GRN),
    row("encoder.stages.{}.blocks.{}.pwconv2", "stages.{}.{}.pwconv2", LINEAR),
    row("encoder.stages.{}.blocks.{}.layer_scale", "stages.{}.{}", LAYER_SCALE),
];

const HEAD: &[Row] = &[row("head.norm", "norm", NORM), row("head.linear", "head", LINEAR)];

/// What stands behind the encoder in pre-training, dense in the sparse layout too.
pub(super) const DECODER: &[Row] = &[
    row("densify.projection", "proj", POINTWISE),
    row("densify", "", MASK_TOKEN),
    row("decoder.{}.dwconv", "decoder.{}.dwconv", DEPTHWISE),
    row("decoder.{}.norm", "decoder.{}.norm", NORM),
    row("decoder.{}.pwconv1", "decoder.{}.pwconv1", LINEAR),
    row("decoder.{}.grn", "decoder.{}.grn", GRN),
    row("decoder.{}.pwconv2", "decoder.{}.pwconv2", LINEAR),
    row("decoder.{}.layer_scale", "decoder.{}", LAYER_SCALE),
    row("prediction", "pred", POINTWISE),
];

/// Names of the classifier, and of an encoder by itself, which is how pre-trained weights are published.
pub(super) static CLASSIFIER: Naming = Naming { encoder: "", rows: &[ENCODER, HEAD] };

/// Names of the pre-training model.
pub(super) static PRETRAINING: Naming = Naming { encoder: "encoder.", rows: &[ENCODER, DECODER] };
