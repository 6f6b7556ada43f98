//! Lines for the person at the terminal, on standard error.
//!
//! A reader that went away, or a full disk under a log, ends nothing that is told about: what cannot be written is lost.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
    io::{self, Write as _},
};

/// Writes a line to standard error.
pub fn say(line: impl Display) {
    let text = printable(&line.to_string()).into_owned() + "\n";
    // There is nobody else to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes a line that begins with `warning: `.
pub fn warn(line: impl Display) {
    say(format_args!("warning: {line}"));
}

/// `text` with control characters, but for line breaks and tabs, as escapes: names in files come from anywhere, and a
/// terminal obeys some of them.
pub fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match obeyed(c) {
            true => write!(shown, "{}", c.escape_default()).expect("a string takes everything"),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_given_orders() {
        assert_eq!(printable("dog\tand\ncat ü"), "dog\tand\ncat ü");
        assert_eq!(printable("a\u{1b}[2Jb\r\u{9b}"), "a\\u{1b}[2Jb\\r\\u{9b}");
    }
}
