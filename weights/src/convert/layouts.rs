//! Parts of a model's layout.

use convnext_core::optim::Layout;

use super::table::ENCODER;

/// The encoder's part of a model's layout.
pub fn encoder_of(layout: &Layout) -> Layout {
    narrowed(layout, |name| name.starts_with(ENCODER))
}

/// The tensors of `layout` whose names `keep` wants.
pub(super) fn narrowed(layout: &Layout, keep: impl Fn(&str) -> bool) -> Layout {
    let kept = layout.segments().iter().filter(|segment| keep(&segment.name));
    Layout::new(kept.map(|segment| (&segment.name[..], segment.shape.clone()))).expect("part of a layout")
}

/// The sides of a shape that are not 1.
pub(super) fn squeezed(shape: &[usize]) -> impl Iterator<Item = usize> + '_ {
    shape.iter().copied().filter(|&side| side != 1)
}
