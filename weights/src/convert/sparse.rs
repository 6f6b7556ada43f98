//! The layout of the official pre-training files: an encoder of sparse convolutions, everything else dense.
//!
//! The kernels of the sparse library are `[positions, in, out]`, depthwise ones `[positions, C]`, with the width as the
//! slower of the two axes that `positions` runs over; its biases, and GRN's parameters, are `[1, C]`. Linear layers and
//! norms lie one name deeper than in the dense layout. The stem is dense.

use convnext_core::network::names::{BLOCK, DOWNSAMPLE, STEM};

use super::{
    official::{CONVOLUTION, DECODER, NORM},
    table::{Naming, ONE, Part, Row, part, renamed, row},
};

const BIAS: Part = part("bias", &[ONE, 0]);
const SPARSE_CONVOLUTION: &[Part] = &[renamed("weight", "kernel", &[1, 0, 2, 3]).merging(2), BIAS];
const SPARSE_DEPTHWISE: &[Part] = &[renamed("weight", "kernel", &[1, 0, 2]).merging(2), BIAS];
const SPARSE_NORM: &[Part] = &[renamed("weight", "ln.weight", &[0]), renamed("bias", "ln.bias", &[0])];
const SPARSE_LINEAR: &[Part] = &[renamed("weight", "linear.weight", &[1, 0]), renamed("bias", "linear.bias", &[0])];
const SPARSE_GRN: &[Part] = &[part("gamma", &[ONE, 0]), part("beta", &[ONE, 0])];

const ENCODER: &[Row] = &[
    row(STEM, "conv", "downsample_layers.0.0", CONVOLUTION),
    row(STEM, "norm", "downsample_layers.0.1", NORM),
    row(DOWNSAMPLE, "norm", "downsample_layers.{}.0", SPARSE_NORM),
    row(DOWNSAMPLE, "conv", "downsample_layers.{}.1", SPARSE_CONVOLUTION),
    row(BLOCK, "dwconv", "stages.{}.{}.dwconv", SPARSE_DEPTHWISE),
    row(BLOCK, "norm", "stages.{}.{}.norm", SPARSE_NORM),
    row(BLOCK, "pwconv1", "stages.{}.{}.pwconv1", SPARSE_LINEAR),
    row(BLOCK, "grn", "stages.{}.{}.grn", SPARSE_GRN),
    row(BLOCK, "pwconv2", "stages.{}.{}.pwconv2", SPARSE_LINEAR),
];

/// Names of the pre-training model.
pub(super) static PRETRAINING: Naming = Naming { encoder: "encoder.", rows: &[ENCODER, DECODER] };
