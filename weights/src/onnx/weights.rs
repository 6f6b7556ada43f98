//! From the layout's tensors to ONNX's: names, shapes and the order of the values.

use convnext_core::{
    network::names::ENCODER,
    optim::{Layout, Segment},
    plan::Plan,
};

use super::error::{OnnxError, TensorProblem};

/// An axis of length 1 that only ONNX's tensor has.
pub(super) const ONE: usize = usize::MAX;

/// A tensor of the model: what it is in the layout, and which of those axes each axis in ONNX is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Weight {
    /// Name in the layout.
    pub(super) source: String,
    /// Shape in the layout.
    pub(super) shape: Vec<usize>,
    /// For each axis in ONNX, the axis in the layout, or [`ONE`].
    pub(super) axes: &'static [usize],
}

impl Weight {
    /// Name in ONNX: the layout's without what the encoder's begin with.
    pub(super) fn name(&self) -> &str {
        self.source.strip_prefix(ENCODER).unwrap_or(&self.source)
    }

    /// Shape in ONNX.
    pub(super) fn dims(&self) -> Vec<i64> {
        self.axes.iter().map(|&axis| if axis == ONE { 1 } else { self.shape[axis] as i64 }).collect()
    }

    /// Bytes in ONNX.
    pub(super) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }

    /// The values in ONNX's order, as little-endian bytes.
    pub(super) fn to_bytes(&self, values: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        gather(&self.strides(), 0, &mut |at| bytes.extend_from_slice(&values[at].to_le_bytes()));
        bytes
    }

    /// Of each axis in ONNX: its length, and how far apart its values lie in the layout's tensor.
    fn strides(&self) -> Vec<(usize, usize)> {
        let stride = |axis: usize| self.shape[axis + 1..].iter().product::<usize>();
        let real = self.axes.iter().filter(|&&axis| axis != ONE);
        real.map(|&axis| (self.shape[axis], stride(axis))).collect()
    }

    /// How the layout's tensor differs from this one.
    fn problem(&self, layout: &Layout) -> Option<TensorProblem> {
        let Some(segment) = layout.get(&self.source) else {
            return Some(TensorProblem::Missing(self.source.clone()));
        };
        let (name, expected, found) = (self.source.clone(), self.shape.clone(), segment.shape.clone());
        (expected != found).then_some(TensorProblem::Shape { name, expected, found })
    }
}

/// Visits the places of all values, the last axis fastest.
fn gather(axes: &[(usize, usize)], start: usize, visit: &mut impl FnMut(usize)) {
    match axes {
        [] => visit(start),
        [(len, stride)] => (0..*len).for_each(|i| visit(start + i * stride)),
        [(len, stride), inner @ ..] => (0..*len).for_each(|i| gather(inner, start + i * stride, visit)),
    }
}

/// The weights of a model that has been checked: every tensor is in the layout, and has the plan's shape.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    tensors: Vec<(Weight, &'a [f32])>,
}

impl<'a> Weights<'a> {
    /// Finds each of `wanted` in `values`.
    ///
    /// # Errors
    /// When the layout holds other tensors, or the buffer is not in the layout.
    pub(super) fn new(plan: &Plan, wanted: Vec<Weight>, layout: &Layout, values: &'a [f32]) -> Result<Self, OnnxError> {
        let problems = problems(&wanted, layout);
        if !problems.is_empty() {
            return Err(OnnxError::Tensors { variant: plan.name.into(), problems });
        }
        if values.len() != layout.len() {
            return Err(OnnxError::Length { expected: layout.len(), found: values.len() });
        }
        let find = |weight: Weight| Some((layout.view(values, &weight.source)?, weight));
        Ok(Self { tensors: wanted.into_iter().filter_map(find).map(|(values, weight)| (weight, values)).collect() })
    }

    /// Bytes of all weights together.
    pub(super) fn bytes(&self) -> usize {
        self.tensors.iter().map(|(weight, _)| weight.bytes()).sum()
    }

    /// Each tensor with its values in the layout's order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Weight, &'a [f32])> {
        self.tensors.iter().map(|(weight, values)| (weight, *values))
    }
}

fn problems(wanted: &[Weight], layout: &Layout) -> Vec<TensorProblem> {
    let is_known = |segment: &&Segment| wanted.iter().any(|weight| weight.source == segment.name);
    let unknown = layout.segments().iter().filter(|segment| !is_known(segment));
    let unknown = unknown.map(|segment| TensorProblem::Unknown(segment.name.clone()));
    wanted.iter().filter_map(|weight| weight.problem(layout)).chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
    }

    #[test]
    fn values_follow_the_axes() {
        // Ours [2, 3]; ONNX's [3, 2, 1] is the transpose with an axis behind.
        let weight = Weight { source: "encoder.a".into(), shape: vec![2, 3], axes: &[1, 0, ONE] };
        assert_eq!((weight.name(), weight.dims()), ("a", vec![3, 2, 1]));
        assert_eq!(floats(&weight.to_bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    }

    #[test]
    fn a_convolution_turns_outputs_first() {
        // Ours [height, width, in, out], a value being its own index in decimal.
        let shape = vec![2, 3, 4, 5];
        let weight = Weight { source: "conv".into(), shape, axes: &[3, 2, 0, 1] };
        let places = (0..2).flat_map(|y| (0..3).map(move |x| (y, x)));
        let inner = places.flat_map(|(y, x)| (0..4).map(move |i| (y, x, i)));
        let digits = |(y, x, i, o)| (1000 * y + 100 * x + 10 * i + o) as f32;
        let values: Vec<f32> = inner.flat_map(|(y, x, i)| (0..5).map(move |o| digits((y, x, i, o)))).collect();
        let turned = floats(&weight.to_bytes(&values));
        assert_eq!(turned[..4], [0.0, 100.0, 200.0, 1000.0], "along the width, then the height");
        assert_eq!((turned[6], turned[24]), (10.0, 1.0), "then the inputs, then the outputs");
    }
}
