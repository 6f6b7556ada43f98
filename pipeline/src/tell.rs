//! Lines for the person at the terminal, on standard error.
//!
//! A reader that went away, or a full disk under a log, ends nothing that is told about: what cannot be written is lost.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
    io::{self, Write as _},
    sync::atomic::{AtomicU8, Ordering},
};

/// How much is said. It is set once, by the command line, and changes no result.
static MUCH: AtomicU8 = AtomicU8::new(Much::Usual as u8);

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Much {
    /// Errors only.
    Errors,
    /// What one wants to know.
    Usual,
    /// Details too.
    Details,
}

/// Sets how much is said from now on.
pub fn set(much: Much) {
    MUCH.store(much as u8, Ordering::Relaxed);
}

/// Whether more is said than errors.
pub fn says() -> bool {
    MUCH.load(Ordering::Relaxed) >= Much::Usual as u8
}

/// Writes a line to standard error, unless only errors are wanted.
pub fn say(line: impl Display) {
    if says() {
        write(line);
    }
}

/// Writes a line, if details are wanted.
pub fn detail(line: impl Display) {
    if MUCH.load(Ordering::Relaxed) >= Much::Details as u8 {
        write(line);
    }
}

/// Writes a line that begins with `error: `.
pub fn error(line: impl Display) {
    write(format_args!("error: {line}"));
}

fn write(line: impl Display) {
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
