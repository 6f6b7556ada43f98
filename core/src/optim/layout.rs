//! Which range of a flat buffer is which tensor.

use std::{collections::HashMap, ops::Range};

use thiserror::Error;

/// One tensor's place in a flat buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Name of the parameter, e.g. `encoder.stages.0.blocks.1.grn.gamma`.
    pub name: String,
    /// Shape, row-major; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements of the flat buffer.
    pub range: Range<usize>,
}

/// The tensors of a model in a fixed order, back to back in one flat buffer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layout {
    segments: Vec<Segment>,
    index: HashMap<String, usize>,
    len: usize,
}

/// Why a list of tensors makes no layout.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// Two tensors have one name.
    #[error("two parameters are named `{0}`; give each its own name")]
    Duplicate(String),
    /// The number of elements does not fit in a `usize`.
    #[error("the shape {shape:?} of `{name}` has more elements than memory has addresses")]
    TooLarge {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
}

impl Layout {
    /// Lays tensors out back to back, in the order given.
    ///
    /// # Errors
    /// [`LayoutError`] when a name comes twice or the sizes overflow.
    pub fn new<N: Into<String>>(tensors: impl IntoIterator<Item = (N, Vec<usize>)>) -> Result<Self, LayoutError> {
        let mut layout = Self::default();
        for (name, shape) in tensors {
            layout.push(name.into(), shape)?;
        }
        Ok(layout)
    }

    fn push(&mut self, name: String, shape: Vec<usize>) -> Result<(), LayoutError> {
        let end = shape.iter().try_fold(1usize, |n, &side| n.checked_mul(side)).and_then(|n| n.checked_add(self.len));
        let Some(end) = end else {
            return Err(LayoutError::TooLarge { name, shape });
        };
        if self.index.insert(name.clone(), self.segments.len()).is_some() {
            return Err(LayoutError::Duplicate(name));
        }
        self.segments.push(Segment { name, shape, range: self.len..end });
        self.len = end;
        Ok(())
    }

    /// The tensors, in the order of the buffer.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The first value that is NaN or infinite: its tensor, the element there, the value.
    ///
    /// # Panics
    /// If `values` has another length than the layout.
    pub fn not_finite(&self, values: &[f32]) -> Option<(&str, usize, f32)> {
        assert_eq!(values.len(), self.len, "a flat buffer of another layout");
        self.segments.iter().find_map(|segment| {
            let values = &values[segment.range.clone()];
            let element = values.iter().position(|value| !value.is_finite())?;
            Some((&segment.name[..], element, values[element]))
        })
    }

    /// Elements of the flat buffer.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Segment> {
        self.index.get(name).map(|&at| &self.segments[at])
    }

    /// The elements of the tensor of that name in `flat`.
    ///
    /// # Panics
    /// If `flat` has another length than the layout.
    pub fn view<'a>(&self, flat: &'a [f32], name: &str) -> Option<&'a [f32]> {
        assert_eq!(flat.len(), self.len, "a flat buffer of another layout");
        self.get(name).map(|segment| &flat[segment.range.clone()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_lie_back_to_back() {
        let layout = Layout::new([("a", vec![2, 3]), ("empty", vec![0]), ("b", vec![4])]).unwrap();
        assert_eq!(layout.len(), 10);
        assert_eq!(layout.get("b").unwrap().range, 6..10);
        let flat: Vec<f32> = (0..10).map(|i| i as f32).collect();
        assert_eq!(layout.view(&flat, "b").unwrap(), [6.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn a_name_comes_once() {
        let twice = Layout::new([("a", vec![1]), ("a", vec![2])]);
        assert_eq!(twice, Err(LayoutError::Duplicate("a".into())));
    }

    #[test]
    fn sizes_must_not_overflow() {
        let huge = Layout::new([("a", vec![usize::MAX, 2])]);
        assert!(matches!(huge, Err(LayoutError::TooLarge { .. })));
    }
}
