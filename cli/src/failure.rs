//! How a command fails: what is said, and with which exit code.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use convnext_pipeline::tell;

/// Exit code of a command line that is wrong.
pub(crate) const USAGE: u8 = 2;
const FAILED: u8 = 1;

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command could not be carried out.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// It was right, and something went wrong: exit code 1.
    Failed {
        /// What went wrong, where, and what to do.
        what: String,
        /// What is behind it, nearest first.
        because: Vec<String>,
    },
    /// Standard output is closed: nobody listens any more.
    OutputClosed,
}

impl Failure {
    /// A mistake in the command line.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage(what.into())
    }

    /// Something that went wrong without an error behind it.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), because: Vec::new() }
    }

    /// Something that went wrong because of `error`.
    pub fn because(what: impl Into<String>, error: impl Error) -> Self {
        let mut texts = vec![what.into()];
        follow(&mut texts, &error);
        Self::of(texts)
    }

    /// What writing to standard output said.
    pub(crate) fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::because("standard output cannot be written", error),
        }
    }

    fn of(mut texts: Vec<String>) -> Self {
        let because = texts.split_off(1);
        Self::Failed { what: texts.swap_remove(0), because }
    }

    /// Writes the failure to standard error, in the form `error: what` and lines `  because: ...`.
    pub(crate) fn report(self) -> ExitCode {
        let (what, because, code) = match self {
            Self::OutputClosed => return ExitCode::SUCCESS,
            Self::Usage(what) => (what, Vec::new(), USAGE),
            Self::Failed { what, because } => (what, because, FAILED),
        };
        let mut text = format!("error: {what}\n");
        for because in because {
            text += &format!("  because: {because}\n");
        }
        // If even this cannot be written, the exit code has to do.
        let _ = io::stderr().write_all(tell::printable(&text).as_bytes());
        ExitCode::from(code)
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut texts = Vec::new();
        follow(&mut texts, &error);
        Self::of(texts)
    }
}

/// Adds an error and what is behind it, without those whose text the one before has already said.
fn follow(texts: &mut Vec<String>, error: &dyn Error) {
    let text = error.to_string();
    if texts.last().is_none_or(|last| !last.contains(&text)) {
        texts.push(text);
    }
    if let Some(source) = error.source() {
        follow(texts, source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {source}")]
    struct Outer {
        source: Inner,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("inner")]
    struct Inner(#[source] io::Error);

    #[test]
    fn nothing_is_said_twice() {
        let Failure::Failed { what, because } = Outer { source: Inner(io::Error::other("disk")) }.into() else {
            panic!()
        };
        assert_eq!((what.as_str(), because), ("outer: inner", vec!["disk".to_owned()]));
    }
}
