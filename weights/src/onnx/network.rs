//! The classifier as a graph.
//!
//! Between nodes a value is `[N, C, H, W]`, as the input is: a pointwise layer is a 1x1 convolution, whose bias costs
//! no pass of its own, and the sums of the response normalisation run over neighbours in memory. Only the layer
//! normalisations want channels last; a pair of transpositions goes around each.
//!
//! GELU is written out with `Erf`. Its own operator came three operator sets later than the layer normalisation's, and
//! runtimes join the five nodes to one kernel anyway.

use std::f32::consts::SQRT_2;

use convnext_core::{
    epsilon,
    network::{Kind, names::ENCODER},
    ops::{block, downsample, head, stem},
    plan::{Flavour, Plan},
};

use super::{
    error::OnnxError,
    graph::{Graph, Value, float, int, ints},
    weights::ONE,
};

/// Name of the input, `[batch, C, H, W]`.
pub(super) const IMAGES: &str = "images";

/// Name of the output, `[batch, CLASSES]`.
pub(super) const LOGITS: &str = "logits";

/// Axes of `[height, width, in, out]` in the order `[out, in, height, width]`.
const CONVOLUTION: &[usize] = &[3, 2, 0, 1];
/// Axes of `[height, width, channels]` in the order `[channels, 1, height, width]`.
const DEPTHWISE: &[usize] = &[2, ONE, 0, 1];
/// Axes of `[in, out]` in the order `[out, in, 1, 1]`.
const POINTWISE: &[usize] = &[1, 0, ONE, ONE];
/// A number for each channel of `[N, C, H, W]`.
const CHANNELS: &[usize] = &[ONE, 0, ONE, ONE];
/// A vector as it is.
const VECTOR: &[usize] = &[0];
/// A matrix as it is.
const MATRIX: &[usize] = &[0, 1];

/// The graph of the plan's classifier, from [`IMAGES`] to [`LOGITS`].
///
/// # Errors
/// [`OnnxError::Plan`] if the network has a part that no graph is known for.
pub(super) fn classifier(plan: &Plan) -> Result<Graph, OnnxError> {
    let mut graph = Graph::default();
    let mut x = IMAGES.to_owned();
    for part in plan.classifier().parts() {
        let name = part.name();
        let inner = name.strip_prefix(ENCODER).unwrap_or(&name);
        x = match part.kind {
            Kind::Stem(layer) => stem(&mut graph, inner, &x, layer),
            Kind::Downsample(layer) => downsample(&mut graph, inner, &x, layer),
            Kind::Block(layer) => block(&mut graph, inner, &x, layer),
            Kind::Head(layer) => head(&mut graph, inner, &x, layer),
            _ => {
                let problem = format!("there is no graph for its `{name}`");
                return Err(OnnxError::Plan { variant: plan.name.into(), problem });
            }
        };
    }
    Ok(graph)
}

/// `y = p W + b`, `out = LN(y)` for every square of pixels.
fn stem(graph: &mut Graph, name: &str, images: &str, layer: stem::Layer) -> Value {
    let stem::Layer { stride, channels, dim } = layer;
    let y = patches(graph, &format!("{name}.conv"), images, stride, channels, dim);
    layer_norm(graph, &format!("{name}.norm"), &y, dim)
}

/// `z = LN(x)`, then a projection of every square of 2x2 cells.
fn downsample(graph: &mut Graph, name: &str, x: &str, layer: downsample::Layer) -> Value {
    let downsample::Layer { channels, dim } = layer;
    let z = layer_norm(graph, &format!("{name}.norm"), x, channels);
    patches(graph, &format!("{name}.conv"), &z, 2, channels, dim)
}

/// `x + branch(x)`; LayerScale is part of the branch.
fn block(graph: &mut Graph, name: &str, x: &str, layer: block::Layer) -> Value {
    let block::Layer { channels: dim, hidden, kernel, flavour } = layer;
    let y = dwconv(graph, &format!("{name}.dwconv"), x, dim, kernel);
    let z = layer_norm(graph, &format!("{name}.norm"), &y, dim);
    let h = pointwise(graph, &format!("{name}.pwconv1"), &z, dim, hidden);
    let a = gelu(graph, &format!("{name}.gelu"), &h);
    let branch = match flavour {
        Flavour::V1 => {
            let branch = pointwise(graph, &format!("{name}.pwconv2"), &a, hidden, dim);
            layer_scale(graph, &format!("{name}.layer_scale"), &branch, dim)
        }
        Flavour::V2 => {
            let u = response_norm(graph, &format!("{name}.grn"), &a, hidden);
            pointwise(graph, &format!("{name}.pwconv2"), &u, hidden, dim)
        }
    };
    graph.node("Add", name, [x, &branch], vec![])
}

/// `logits = LN(mean x) W + b`.
fn head(graph: &mut Graph, name: &str, x: &str, layer: head::Layer) -> Value {
    let head::Layer { dim, classes } = layer;
    let pooled = graph.node("ReduceMean", format!("{name}.pool"), [x], vec![ints("axes", &[2, 3]), int("keepdims", 0)]);
    let norm = format!("{name}.norm");
    let normal = normalise_last(graph, &norm, &norm, &pooled, dim);
    let weight = graph.weight(format!("{name}.linear.weight"), vec![dim, classes], MATRIX);
    let bias = graph.weight(format!("{name}.linear.bias"), vec![classes], VECTOR);
    graph.node("Gemm", LOGITS, [&normal, &weight, &bias], vec![])
}

/// A convolution of squares that do not overlap.
fn patches(graph: &mut Graph, name: &str, x: &str, side: usize, dim: usize, dim_out: usize) -> Value {
    let weight = graph.weight(encoder(name, "weight"), vec![side, side, dim, dim_out], CONVOLUTION);
    let bias = graph.weight(encoder(name, "bias"), vec![dim_out], VECTOR);
    let side = side as i64;
    let attributes = vec![ints("kernel_shape", &[side, side]), ints("strides", &[side, side])];
    graph.node("Conv", name, [x, &weight, &bias], attributes)
}

/// A convolution of every channel with its own kernel, zeros around the grid.
fn dwconv(graph: &mut Graph, name: &str, x: &str, dim: usize, kernel: usize) -> Value {
    let weight = graph.weight(encoder(name, "weight"), vec![kernel, kernel, dim], DEPTHWISE);
    let bias = graph.weight(encoder(name, "bias"), vec![dim], VECTOR);
    let (side, pad) = (kernel as i64, (kernel / 2) as i64);
    let attributes =
        vec![int("group", dim as i64), ints("kernel_shape", &[side, side]), ints("pads", &[pad, pad, pad, pad])];
    graph.node("Conv", name, [x, &weight, &bias], attributes)
}

/// A linear layer on the channels of every cell.
fn pointwise(graph: &mut Graph, name: &str, x: &str, dim: usize, dim_out: usize) -> Value {
    let weight = graph.weight(encoder(name, "weight"), vec![dim, dim_out], POINTWISE);
    let bias = graph.weight(encoder(name, "bias"), vec![dim_out], VECTOR);
    graph.node("Conv", name, [x, &weight, &bias], vec![ints("kernel_shape", &[1, 1])])
}

/// Layer normalisation over the channels of every cell.
fn layer_norm(graph: &mut Graph, name: &str, x: &str, dim: usize) -> Value {
    let last = graph.node("Transpose", format!("{name}.channels_last"), [x], vec![ints("perm", &[0, 2, 3, 1])]);
    let normal = normalise_last(graph, &encoder_module(name), &format!("{name}.normal"), &last, dim);
    graph.node("Transpose", name, [&normal], vec![ints("perm", &[0, 3, 1, 2])])
}

/// Layer normalisation over the last axis, with the weights of the layout's `module`.
fn normalise_last(graph: &mut Graph, module: &str, name: &str, x: &str, dim: usize) -> Value {
    let scale = graph.weight(format!("{module}.weight"), vec![dim], VECTOR);
    let shift = graph.weight(format!("{module}.bias"), vec![dim], VECTOR);
    let attributes = vec![int("axis", -1), float("epsilon", epsilon::LAYER_NORM as f32)];
    graph.node("LayerNormalization", name, [x, &scale, &shift], attributes)
}

/// `h * (1 + erf(h / sqrt 2)) / 2`, with the operators in the order that runtimes recognise: a division first.
fn gelu(graph: &mut Graph, name: &str, h: &str) -> Value {
    let (one, half) = (graph.constant("one", 1.0), graph.constant("half", 0.5));
    let sqrt_2 = graph.constant("sqrt_2", SQRT_2);
    let scaled = graph.node("Div", format!("{name}.scaled"), [h, &sqrt_2], vec![]);
    let erf = graph.node("Erf", format!("{name}.erf"), [&scaled], vec![]);
    let sum = graph.node("Add", format!("{name}.sum"), [&erf, &one], vec![]);
    let double = graph.node("Mul", format!("{name}.double"), [h, &sum], vec![]);
    graph.node("Mul", name, [&double, &half], vec![])
}

/// `a * (1 + gamma * n) + beta`, where `n_c = s_c / (mean_c s_c + eps)` and `s_c` is the norm over a sample's cells.
fn response_norm(graph: &mut Graph, name: &str, a: &str, hidden: usize) -> Value {
    let (one, epsilon) = (graph.constant("one", 1.0), graph.constant("grn_epsilon", epsilon::GRN as f32));
    let gamma = graph.weight(encoder(name, "gamma"), vec![hidden], CHANNELS);
    let beta = graph.weight(encoder(name, "beta"), vec![hidden], CHANNELS);
    let reduce = |axes: &[i64]| vec![ints("axes", axes), int("keepdims", 1)];
    let norm = graph.node("ReduceL2", format!("{name}.norm"), [a], reduce(&[2, 3]));
    let mean = graph.node("ReduceMean", format!("{name}.mean"), [&norm], reduce(&[1]));
    let divisor = graph.node("Add", format!("{name}.divisor"), [&mean, &epsilon], vec![]);
    let response = graph.node("Div", format!("{name}.response"), [&norm, &divisor], vec![]);
    // The small tensor [N, F, 1, 1] first: only two passes over all cells are left.
    let weighted = graph.node("Mul", format!("{name}.weighted"), [&response, &gamma], vec![]);
    let scale = graph.node("Add", format!("{name}.scale"), [&weighted, &one], vec![]);
    let scaled = graph.node("Mul", format!("{name}.scaled"), [a, &scale], vec![]);
    graph.node("Add", name, [&scaled, &beta], vec![])
}

/// A factor for each channel.
fn layer_scale(graph: &mut Graph, name: &str, x: &str, dim: usize) -> Value {
    let gamma = graph.weight(encoder(name, "gamma"), vec![dim], CHANNELS);
    graph.node("Mul", name, [x, &gamma], vec![])
}

/// What the layout calls the encoder's module `name`.
fn encoder_module(name: &str) -> String {
    format!("{ENCODER}{name}")
}

/// What the layout calls a tensor of the encoder's module `name`.
fn encoder(name: &str, tensor: &str) -> String {
    format!("{ENCODER}{name}.{tensor}")
}
