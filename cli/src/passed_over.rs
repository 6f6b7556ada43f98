//! What a folder holds beside its samples, in words.

use convnext_data::pack::PassedOver;
use convnext_pipeline::tell;

/// Says what a folder holds beside what is used.
pub(crate) fn tell(PassedOver { kinds, unreadable, empty, absent, links }: &PassedOver) {
    let quoted = |names: &[String]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let left_out = PassedOver { kinds: kinds.clone(), ..PassedOver::default() };
    if !kinds.is_empty() {
        tell::warn(format_args!("left out {} files: {}", left_out.files(), left_out.by_kind()));
    }
    if !unreadable.is_empty() {
        tell::warn(format_args!("class folders without an image that can be read: {}", quoted(unreadable)));
    }
    if !empty.is_empty() {
        let number = if absent.is_empty() { "; they have no number, which --classes would give them" } else { "" };
        tell::warn(format_args!("empty class folders: {}{number}", quoted(empty)));
    }
    if !absent.is_empty() {
        tell::warn(format_args!("classes without an image, which keep their numbers: {}", quoted(absent)));
    }
    if *links > 0 {
        tell::warn(format_args!("{links} linked folders inside class folders were not entered"));
    }
}
