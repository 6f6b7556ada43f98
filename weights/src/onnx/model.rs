//! The file around a graph: who made it, its operator set, its inputs and outputs, and where the weights' values are.

use std::io::{self, Write};

use convnext_core::plan::Plan;

use super::{
    graph::Graph,
    messages::{
        DataLocation, DataType, Dimension, GraphProto, ModelProto, OperatorSetIdProto, Side, StringStringEntryProto,
        TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto,
    },
    network::{IMAGES, LOGITS},
    weights::{Weight, Weights},
};
use crate::checkpoint::Usage;

/// The first operator set with `LayerNormalization`.
pub(super) const OPERATOR_SET: i64 = 17;

/// The version of the file format that came with it.
pub(super) const IR_VERSION: i64 = 8;

/// Name of the batch's size.
pub(super) const BATCH: &str = "batch";

/// Offsets in a file of weights are multiples of this, so that a reader can map tensors into memory.
pub(super) const ALIGNMENT: u64 = 4096;

/// The whole file. `initializers` are the weights of the graph, with their values or their places.
pub(super) fn model(
    plan: &Plan,
    graph: Graph,
    mut initializers: Vec<TensorProto>,
    usage: Option<&Usage>,
) -> ModelProto {
    let about = std::iter::once(entry("variant", plan.name.into())).chain(usage.into_iter().flat_map(about));
    initializers.extend(graph.constants());
    let graph = GraphProto {
        node: graph.nodes,
        name: if plan.name.is_empty() { "classifier".into() } else { plan.name.into() },
        initializer: initializers,
        doc_string: plan.about.into(),
        input: vec![images(plan)],
        output: vec![logits(plan)],
    };
    ModelProto {
        ir_version: IR_VERSION,
        producer_name: "convnext".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: "A ConvNeXt image classifier: images to logits, before the softmax.".into(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: OPERATOR_SET }],
        metadata_props: about.collect(),
    }
}

/// How the model is to be used, for people and programs that read metadata.
fn about(usage: &Usage) -> [StringStringEntryProto; 5] {
    let json = |value: serde_json::Result<String>| value.expect("plain numbers and names are JSON");
    [
        entry("size", json(serde_json::to_string(&[usage.height, usage.width]))),
        entry("mean", json(serde_json::to_string(&usage.mean))),
        entry("std", json(serde_json::to_string(&usage.std))),
        entry("view", json(serde_json::to_string(&usage.view))),
        entry("classes", json(serde_json::to_string(&usage.classes))),
    ]
}

fn images(plan: &Plan) -> ValueInfoProto {
    let about = "Images [batch, channels, height, width], normalised as in training.";
    value(IMAGES, about, &[plan.channels, plan.height, plan.width])
}

fn logits(plan: &Plan) -> ValueInfoProto {
    value(LOGITS, "Logits [batch, classes].", &[plan.classes])
}

/// A batch of tensors of the shape `sides`.
fn value(name: &str, about: &str, sides: &[usize]) -> ValueInfoProto {
    let batch = Side::Parameter(BATCH.into());
    let sides = std::iter::once(batch).chain(sides.iter().map(|&side| Side::Value(side as i64)));
    let shape = TensorShapeProto { dim: sides.map(|side| Dimension { value: Some(side) }).collect() };
    let tensor_type = Some(TensorType { elem_type: DataType::Float.into(), shape: Some(shape) });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }), doc_string: about.into() }
}

/// The weights with their values in the message itself.
pub(super) fn inline(weights: &Weights) -> Vec<TensorProto> {
    let inline = |(weight, values): (&Weight, &[f32])| TensorProto {
        raw_data: Some(weight.to_bytes(values)),
        ..initializer(weight)
    };
    weights.iter().map(inline).collect()
}

/// Writes the values one tensor after the other to `out`; the weights then say where in the file `location` they are.
///
/// # Errors
/// When `out` refuses.
pub(super) fn external(weights: &Weights, location: &str, out: &mut impl Write) -> io::Result<Vec<TensorProto>> {
    let mut end = 0;
    let mut initializers = Vec::new();
    for (weight, values) in weights.iter() {
        let (bytes, offset) = (weight.to_bytes(values), u64::next_multiple_of(end, ALIGNMENT));
        out.write_all(&vec![0; (offset - end) as usize])?;
        out.write_all(&bytes)?;
        end = offset + bytes.len() as u64;
        initializers.push(elsewhere(weight, location, offset, bytes.len()));
    }
    Ok(initializers)
}

fn elsewhere(weight: &Weight, location: &str, offset: u64, length: usize) -> TensorProto {
    TensorProto {
        external_data: vec![
            entry("location", location.into()),
            entry("offset", offset.to_string()),
            entry("length", length.to_string()),
        ],
        data_location: Some(DataLocation::External.into()),
        ..initializer(weight)
    }
}

fn initializer(weight: &Weight) -> TensorProto {
    TensorProto {
        dims: weight.dims(),
        data_type: DataType::Float.into(),
        name: weight.name().into(),
        ..TensorProto::default()
    }
}

fn entry(key: &str, value: String) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value }
}
