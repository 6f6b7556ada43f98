//! Standard output: JSON for machines, text for people, and no panic when the reader goes away.

use std::io::{self, Write};

use convnext_pipeline::tell;
use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// Writes one line of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> Outcome {
    text(&(serde_json::to_string(value)? + "\n"))
}

/// Writes JSON over several lines.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    text(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// Writes text, in which control characters are shown and not obeyed.
pub(crate) fn text(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    out.write_all(tell::printable(text).as_bytes()).and_then(|()| out.flush()).map_err(Failure::output)
}
