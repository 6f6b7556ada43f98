//! Classifiers as ONNX models, for the runtimes that read them.
//!
//! ```text
//! images [batch, channels, height, width]  f32, as PyTorch's users feed them
//! logits [batch, classes]                  f32, before the softmax
//! ```
//!
//! The batch is free, the rest is the plan's. A weight keeps its name, without the `encoder.` in front, and lies in the
//! order of axes that its operator wants: convolutions are `[out, in, height, width]`. Drop path is not in the graph:
//! it acts in training only.
//!
//! The operator set is 17, the first one with layer normalisation as one operator. Weights of more than
//! [`INLINE_LIMIT`] bytes go to a second file, `<file name>.data` beside the model, because a protobuf message ends at
//! 2 GiB; the two must stay together.
//!
//! The way of a model: `check` its plan, build its `network` as a `graph`, find its `weights`, make the `model`'s
//! `messages`, write its `file`s.

mod check;
mod error;
mod file;
mod graph;
mod messages;
mod model;
mod network;
#[cfg(test)]
mod tests;
mod weights;

use std::{io::Write, mem, path::Path};

use prost::Message;

pub use error::{OnnxError, TensorProblem};

use crate::checkpoint::Usage;
use convnext_core::{optim::Layout, plan::Plan};
use file::Unfinished;
use graph::Graph;
use weights::Weights;

/// Bytes of weights up to which a model is one file: half of what a protobuf message can hold.
pub const INLINE_LIMIT: usize = 1 << 30;

/// Writes the classifier of `plan` with weights `values` (flat buffer in `layout`, our names and shapes) as an ONNX
/// model. What is known of its use stands in the model's metadata: `mean` and `std` of pixels from 0 to 1, `classes`, `view`,
/// each as JSON.
///
/// Up to [`INLINE_LIMIT`] bytes of weights are in the file itself; more of them are in `<file name>.data` beside it,
/// and only then is an older file of that name touched. Both are written under temporary names, synced, then renamed.
///
/// # Errors
/// When the layout's tensors are not those of the plan's classifier, when the plan or the path makes no sense, or when
/// the disk refuses. Older files are then as they were, unless the error is [`OnnxError::Sync`].
pub fn export(
    path: &Path,
    plan: &Plan,
    layout: &Layout,
    values: &[f32],
    usage: Option<&Usage>,
) -> Result<(), OnnxError> {
    export_with(INLINE_LIMIT, path, plan, layout, values, usage)
}

/// As [`export`], with another limit.
fn export_with(
    inline_limit: usize,
    path: &Path,
    plan: &Plan,
    layout: &Layout,
    values: &[f32],
    usage: Option<&Usage>,
) -> Result<(), OnnxError> {
    check::check(plan, layout)?;
    let mut graph = network::classifier(plan)?;
    let weights = Weights::new(plan, mem::take(&mut graph.weights), layout, values)?;
    if weights.bytes() <= inline_limit {
        write_one(path, model::model(plan, graph, model::inline(&weights), usage))?;
    } else {
        write_two(path, plan, graph, &weights, usage)?;
    }
    file::sync_folder(path)
}

/// The model with its weights.
fn write_one(path: &Path, model: messages::ModelProto) -> Result<(), OnnxError> {
    file_name(path)?;
    write_model(path, model)?.put()
}

/// The model, and its weights in a file beside it.
fn write_two(
    path: &Path,
    plan: &Plan,
    graph: Graph,
    weights: &Weights,
    usage: Option<&Usage>,
) -> Result<(), OnnxError> {
    let location = format!("{}.data", file_name(path)?);
    let mut initializers = Vec::new();
    let data = Unfinished::write(&path.with_file_name(&location), |out| {
        initializers = model::external(weights, &location, out)?;
        Ok(())
    })?;
    let model = write_model(path, model::model(plan, graph, initializers, usage))?;
    data.put_before(model)
}

fn write_model(path: &Path, model: messages::ModelProto) -> Result<Unfinished, OnnxError> {
    Unfinished::write(path, |out| out.write_all(&model.encode_to_vec()))
}

/// The name that a model refers to its weights by.
fn file_name(path: &Path) -> Result<&str, OnnxError> {
    path.file_name().and_then(|name| name.to_str()).ok_or_else(|| OnnxError::FileName(path.into()))
}
