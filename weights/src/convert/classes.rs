//! How many classes the classifier in a file tells apart.

use std::path::Path;

use convnext_core::{optim::Layout, plan::Plan};

use super::{
    load::LoadOptions,
    recognise::{recognise, shapes},
};
use crate::checkpoint::Source;

/// The tensor that has one value a class, in every layout.
const BIAS: &str = "head.linear.bias";

/// Most classes that a variant may declare, and that a file is believed to have.
pub const MOST_CLASSES: usize = 1_000_000;

/// Classes of the classifier at `path`, a variant of `plan` but for their number, in whatever layout it is. `None` where
/// there is no such classifier: reading it says what is wrong.
pub fn classes_of<'a>(path: impl AsRef<Path>, plan: &Plan, options: impl Into<LoadOptions<'a>>) -> Option<usize> {
    let options = options.into();
    let parameters = plan.classifier().declared().map(|parameter| (parameter.name, parameter.shape));
    let layout = Layout::new(parameters).ok()?;
    let source = Source::open(path.as_ref(), options.which, options.key).ok()?;
    let (_, translation) = recognise(source.header(), &[&layout], options.key).ok()?;
    let bias = translation.narrowed(|name| name == BIAS);
    match shapes(source.header()).get(&bias.theirs().segments().first()?.name[..]) {
        Some(&[classes]) if (1..=MOST_CLASSES).contains(classes) => Some(*classes),
        _ => None,
    }
}
