//! A graph under construction: nodes in the order of computation, each named like the one value it computes.

use std::collections::BTreeMap;

use super::{
    messages::{AttributeKind, AttributeProto, DataType, NodeProto, TensorProto},
    weights::Weight,
};

/// The name of a value: of an input, a weight, a constant or a node's output.
pub(super) type Value = String;

/// Nodes, and the tensors that they read.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// In topological order.
    pub(super) nodes: Vec<NodeProto>,
    /// In the order in which nodes read them.
    pub(super) weights: Vec<Weight>,
    /// Numbers that the formulas hold, by name; many nodes share one.
    constants: BTreeMap<&'static str, f32>,
}

impl Graph {
    /// Adds a node; `name` is also the name of the value it computes, which is returned.
    pub(super) fn node<const N: usize>(
        &mut self,
        operator: &str,
        name: impl Into<String>,
        inputs: [&str; N],
        attribute: Vec<AttributeProto>,
    ) -> Value {
        let (name, input) = (name.into(), inputs.map(str::to_owned).to_vec());
        let output = vec![name.clone()];
        self.nodes.push(NodeProto { input, output, name: name.clone(), op_type: operator.into(), attribute });
        name
    }

    /// Adds the weight that the layout calls `source`.
    pub(super) fn weight(&mut self, source: String, shape: Vec<usize>, axes: &'static [usize]) -> Value {
        let weight = Weight { source, shape, axes };
        let name = weight.name().to_owned();
        self.weights.push(weight);
        name
    }

    /// A number, of one name wherever it is read.
    pub(super) fn constant(&mut self, name: &'static str, value: f32) -> Value {
        self.constants.insert(name, value);
        name.into()
    }

    /// The constants as initializers, scalars all.
    pub(super) fn constants(&self) -> impl Iterator<Item = TensorProto> {
        self.constants.iter().map(|(&name, value)| TensorProto {
            data_type: DataType::Float.into(),
            name: name.into(),
            raw_data: Some(value.to_le_bytes().to_vec()),
            ..TensorProto::default()
        })
    }
}

/// A whole number as an attribute.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: Some(value), kind: AttributeKind::Int.into(), ..AttributeProto::default() }
}

/// A list of whole numbers as an attribute.
pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        ints: values.into(),
        kind: AttributeKind::Ints.into(),
        ..AttributeProto::default()
    }
}

/// A fraction as an attribute.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: Some(value), kind: AttributeKind::Float.into(), ..AttributeProto::default() }
}
