//! How many classes the classifier in a file tells apart.

use std::path::Path;

use convnext_core::{optim::Layout, plan::Plan};

use super::{
    load::LoadOptions,
    recognise::{recognise, shapes},
};
use crate::checkpoint::{Header, Source};

/// The tensor that has one value a class, in every layout.
const BIAS: &str = "head.linear.bias";

/// Most classes that a variant may declare, and that a file is believed to have.
pub const MOST_CLASSES: usize = 1_000_000;

/// Classes of the classifier at `path`, a variant of `plan` but for their number, in whatever layout it is. `None` where
/// there is no such classifier: reading it says what is wrong.
pub fn classes_of<'a>(path: impl AsRef<Path>, plan: &Plan, options: impl Into<LoadOptions<'a>>) -> Option<usize> {
    let options = options.into();
    let source = Source::open(path.as_ref(), options.which, options.key).ok()?;
    classes_in(source.header(), plan, options.key)
}

/// As [`classes_of`], for a file whose header has been read: its weights are not verified a second time.
pub fn classes_in(header: &Header, plan: &Plan, key: Option<&str>) -> Option<usize> {
    let parameters = plan.classifier().declared().map(|parameter| (parameter.name, parameter.shape));
    let layout = Layout::new(parameters).ok()?;
    let (_, translation) = recognise(header, &[&layout], key).ok()?;
    let bias = translation.narrowed(|name| name == BIAS);
    match shapes(header).get(&bias.theirs().segments().first()?.name[..]) {
        Some(&[classes]) if (1..=MOST_CLASSES).contains(classes) => Some(*classes),
        _ => None,
    }
}
