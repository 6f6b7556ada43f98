//! The layout of Hugging Face transformers' `ConvNextV2` and `ConvNext` models.
//!
//! Axes are PyTorch's, as in the official layout; GRN's gamma and beta are `weight` and `bias`, of four axes. Names stand
//! below the model's, `convnextv2.` or `convnext.`, but for the encoder saved by itself. There is no pre-training model.

use super::{
    official::{CONVOLUTION, DEPTHWISE, LINEAR, NORM},
    table::{Naming, ONE, Part, Row, renamed, row},
};

const GRN: &[Part] = &[renamed("gamma", "weight", &[ONE, ONE, ONE, 0]), renamed("beta", "bias", &[ONE, ONE, ONE, 0])];
const LAYER_SCALE: &[Part] = &[renamed("gamma", "layer_scale_parameter", &[0])];

const ENCODER: &[Row] = &[
    row("encoder.stem.conv", "embeddings.patch_embeddings", CONVOLUTION),
    row("encoder.stem.norm", "embeddings.layernorm", NORM),
    row("encoder.stages.{}.downsample.norm", "encoder.stages.{}.downsampling_layer.0", NORM),
    row("encoder.stages.{}.downsample.conv", "encoder.stages.{}.downsampling_layer.1", CONVOLUTION),
    row("encoder.stages.{}.blocks.{}.dwconv", "encoder.stages.{}.layers.{}.dwconv", DEPTHWISE),
    row("encoder.stages.{}.blocks.{}.norm", "encoder.stages.{}.layers.{}.layernorm", NORM),
    row("encoder.stages.{}.blocks.{}.pwconv1", "encoder.stages.{}.layers.{}.pwconv1", LINEAR),
    row("encoder.stages.{}.blocks.{}.pwconv2", "encoder.stages.{}.layers.{}.pwconv2", LINEAR),
];
const V2: &[Row] = &[row("encoder.stages.{}.blocks.{}.grn", "encoder.stages.{}.layers.{}.grn", GRN)];
const V1: &[Row] = &[row("encoder.stages.{}.blocks.{}.layer_scale", "encoder.stages.{}.layers.{}", LAYER_SCALE)];
const HEAD: &[Row] = &[row("head.linear", "classifier", LINEAR)];

/// Names of `ConvNextV2ForImageClassification`.
pub(super) static CLASSIFIER: Naming =
    Naming { encoder: "convnextv2.", rows: &[ENCODER, V2, &[row("head.norm", "convnextv2.layernorm", NORM)], HEAD] };

/// Names of `ConvNextForImageClassification`.
pub(super) static CLASSIFIER_V1: Naming =
    Naming { encoder: "convnext.", rows: &[ENCODER, V1, &[row("head.norm", "convnext.layernorm", NORM)], HEAD] };

/// Names of `ConvNextV2Model` and `ConvNextModel`.
pub(super) static ENCODER_ALONE: Naming =
    Naming { encoder: "", rows: &[ENCODER, V2, V1, &[row("head.norm", "layernorm", NORM)]] };
