//! One model's tensors in another layout: names, shapes, order of values.

use std::collections::HashMap;

use convnext_core::optim::{Layout, Segment};

use super::{
    dialect::Dialect,
    error::ConvertError,
    layouts::{narrowed, squeezed},
    table::{Axes, ENCODER, Naming},
};

/// What wrappers put before the names of a layout, each empty or ending in a dot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Before the encoder's names.
    pub(super) encoder: String,
    /// Before the others: the same, or what stands at its start where an encoder was given another head.
    pub(super) rest: String,
}

/// A flat buffer in our layout, and the same tensors in another.
#[derive(Debug, Clone)]
pub struct Translation {
    pub(super) dialect: Dialect,
    pub(super) naming: Option<&'static Naming>,
    pub(super) prefix: Prefix,
    pub(super) ours: Layout,
    pub(super) theirs: Layout,
    /// Of each tensor: which of our axes theirs are; `None` where values keep their order.
    axes: Vec<Option<Axes>>,
}

impl Translation {
    /// Between `layout` (of a classifier, of a pre-training model, or of the encoder of either) and `dialect`.
    ///
    /// # Errors
    /// [`ConvertError::Inexpressible`] when a tensor has no name there.
    pub fn new(layout: &Layout, dialect: Dialect) -> Result<Self, ConvertError> {
        let of = |&naming: &Option<_>| Self::with_naming(layout, dialect, naming, &Prefix::default());
        let mut all = dialect.namings(layout).iter().map(of);
        let first = all.next().expect("every layout has a table");
        match first {
            Ok(found) => Ok(found),
            Err(error) => all.find_map(Result::ok).ok_or(error),
        }
    }

    pub(super) fn with_naming(
        layout: &Layout,
        dialect: Dialect,
        naming: Option<&'static Naming>,
        prefix: &Prefix,
    ) -> Result<Self, ConvertError> {
        let mut tensors = Vec::new();
        let mut axes = Vec::new();
        for Segment { name, shape, .. } in layout.segments() {
            let before = if name.starts_with(ENCODER) { &prefix.encoder } else { &prefix.rest };
            let Some(naming) = naming else {
                tensors.push((format!("{before}{name}"), shape.clone()));
                axes.push(None);
                continue;
            };
            let inexpressible = || ConvertError::Inexpressible { dialect, name: name.clone() };
            let (their_name, their_axes) = naming.translate(name, shape.len()).ok_or_else(inexpressible)?;
            tensors.push((format!("{before}{their_name}"), their_axes.shape(shape)));
            axes.push((shape.len() > 1).then_some(their_axes));
        }
        let theirs = Layout::new(tensors).expect("a table names different tensors differently");
        Ok(Self { dialect, naming, prefix: prefix.clone(), ours: layout.clone(), theirs, axes })
    }

    /// The same layout and prefix for other tensors of the model.
    pub(super) fn of(&self, layout: &Layout) -> Result<Self, ConvertError> {
        Self::with_naming(layout, self.dialect, self.naming, &self.prefix)
    }

    /// The same for some of the tensors only.
    pub(super) fn narrowed(&self, keep: impl Fn(&str) -> bool) -> Self {
        self.of(&narrowed(&self.ours, keep)).expect("a part of what was expressed")
    }

    /// Takes the shapes of `found` where they differ from ours only by axes of length 1: the order of values is the
    /// same. Published files have GRN's gamma as `(1, 1, 1, C)`, `(1, C)` and `(C)`.
    pub(super) fn accepting(mut self, found: &HashMap<&str, &[usize]>) -> Self {
        let tensors = self.theirs.segments().iter().map(|Segment { name, shape, .. }| {
            let same = found.get(&name[..]).filter(|found| squeezed(found).eq(squeezed(shape)));
            (name.clone(), same.map_or_else(|| shape.clone(), |found| found.to_vec()))
        });
        self.theirs = Layout::new(tensors).expect("the names of a layout");
        self
    }

    /// The other layout's name.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Names and shapes in the other layout, in our order.
    pub fn theirs(&self) -> &Layout {
        &self.theirs
    }

    /// Whether a file must not have other tensors of this name: it stands where the model's do.
    pub(super) fn claims(&self, name: &str) -> bool {
        name.starts_with(&self.prefix.encoder) || self.theirs.get(name).is_some()
    }

    /// Their shape of our tensor `name`, if it had `length` in its axis `axis`.
    pub(super) fn shape_with(&self, name: &str, axis: usize, length: usize) -> Option<Vec<usize>> {
        let at = self.ours.segments().iter().position(|segment| segment.name == name)?;
        let mut shape = self.ours.segments()[at].shape.clone();
        *shape.get_mut(axis)? = length;
        Some(self.axes[at].map_or(shape.clone(), |axes| axes.shape(&shape)))
    }

    /// From ours to theirs.
    ///
    /// # Panics
    /// If `values` has another length than the layout.
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(values.len());
        for (segment, axes) in self.tensors(values) {
            let values = &values[segment.range.clone()];
            match axes {
                Some(axes) => out.extend(axes.places(&segment.shape).map(|place| values[place])),
                None => out.extend_from_slice(values),
            }
        }
        out
    }

    /// From theirs to ours.
    ///
    /// # Panics
    /// If `values` has another length than the layout.
    pub fn invert(&self, values: &[f32]) -> Vec<f32> {
        let mut out = values.to_vec();
        for (segment, axes) in self.tensors(values) {
            let (values, out) = (&values[segment.range.clone()], &mut out[segment.range.clone()]);
            if let Some(axes) = axes {
                axes.places(&segment.shape).zip(values).for_each(|(place, &value)| out[place] = value);
            }
        }
        out
    }

    fn tensors(&self, values: &[f32]) -> impl Iterator<Item = (&Segment, Option<Axes>)> {
        assert_eq!(values.len(), self.ours.len(), "a flat buffer of another layout");
        self.ours.segments().iter().zip(self.axes.iter().copied())
    }
}
