//! The layout of Hugging Face transformers' `ConvNextV2` and `ConvNext` models.
//!
//! Axes are PyTorch's, as in the official layout; GRN's gamma and beta are `weight` and `bias`, of four axes. Names stand
//! below the model's, `convnextv2.` or `convnext.`, but for the encoder saved by itself. There is no pre-training model.

use convnext_core::network::names::{BLOCK, DOWNSAMPLE, HEAD, STEM};

use super::{
    official::{CONVOLUTION, DEPTHWISE, LINEAR, NORM},
    table::{Naming, ONE, Part, Row, renamed, row},
};

const GRN: &[Part] = &[renamed("gamma", "weight", &[ONE, ONE, ONE, 0]), renamed("beta", "bias", &[ONE, ONE, ONE, 0])];
const LAYER_SCALE: &[Part] = &[renamed("gamma", "layer_scale_parameter", &[0])];

const ENCODER: &[Row] = &[
    row(STEM, "conv", "embeddings.patch_embeddings", CONVOLUTION),
    row(STEM, "norm", "embeddings.layernorm", NORM),
    row(DOWNSAMPLE, "norm", "encoder.stages.{}.downsampling_layer.0", NORM),
    row(DOWNSAMPLE, "conv", "encoder.stages.{}.downsampling_layer.1", CONVOLUTION),
    row(BLOCK, "dwconv", "encoder.stages.{}.layers.{}.dwconv", DEPTHWISE),
    row(BLOCK, "norm", "encoder.stages.{}.layers.{}.layernorm", NORM),
    row(BLOCK, "pwconv1", "encoder.stages.{}.layers.{}.pwconv1", LINEAR),
    row(BLOCK, "pwconv2", "encoder.stages.{}.layers.{}.pwconv2", LINEAR),
];
const V2: &[Row] = &[row(BLOCK, "grn", "encoder.stages.{}.layers.{}.grn", GRN)];
const V1: &[Row] = &[row(BLOCK, "layer_scale", "encoder.stages.{}.layers.{}", LAYER_SCALE)];
const CLASSES: &[Row] = &[row(HEAD, "linear", "classifier", LINEAR)];

/// Names of `ConvNextV2ForImageClassification`.
pub(super) static CLASSIFIER: Naming = Naming {
    encoder: "convnextv2.",
    rows: &[ENCODER, V2, &[row(HEAD, "norm", "convnextv2.layernorm", NORM)], CLASSES],
};

/// Names of `ConvNextForImageClassification`.
pub(super) static CLASSIFIER_V1: Naming =
    Naming { encoder: "convnext.", rows: &[ENCODER, V1, &[row(HEAD, "norm", "convnext.layernorm", NORM)], CLASSES] };

/// Names of `ConvNextV2Model` and `ConvNextModel`.
pub(super) static ENCODER_ALONE: Naming =
    Naming { encoder: "", rows: &[ENCODER, V2, V1, &[row(HEAD, "norm", "layernorm", NORM)]] };
