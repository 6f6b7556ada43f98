//! How a command fails: what is said, and with which exit code.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use convnext_pipeline::{
    input::InputError, recipe::RecipeError, run_dir::RunDirError, runs::RunError, tell, trainer::ModelError,
};

/// Exit code of a command line or recipe that is wrong.
pub(crate) const USAGE: u8 = 2;
const FAILED: u8 = 1;

/// What a command returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command could not be carried out.
#[derive(Debug)]
pub enum Failure {
    /// The command line, or the recipe, is wrong: exit code 2.
    Usage(String),
    /// It was right, and something went wrong: exit code 1.
    Failed {
        /// What went wrong, where, and what to do.
        what: String,
        /// The errors behind it, nearest first.
        because: Vec<String>,
    },
    /// What went wrong has been said, where it happened: exit code 1.
    Told,
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
            Self::Told => return ExitCode::from(FAILED),
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

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut texts = Vec::new();
        follow(&mut texts, &error);
        match is_usage(&error) {
            true => Self::Usage(texts.join("\n  because: ")),
            false => Self::of(texts),
        }
    }
}

/// Whether the recipe itself is wrong, rather than a file missing.
fn is_usage(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<RecipeError>() {
        return !matches!(error, RecipeError::Read { .. });
    }
    if let Some(error) = error.downcast_ref::<ModelError>() {
        return matches!(error, ModelError::Input(inner) if is_usage(inner));
    }
    match error.downcast_ref::<RunError>() {
        Some(RunError::Recipe(inner)) => is_usage(inner),
        Some(RunError::RunDir(inner)) => is_usage(inner),
        Some(RunError::Model(inner)) => is_usage(inner),
        Some(RunError::OtherTask { .. } | RunError::NothingToTrain | RunError::NothingToStopBy) => true,
        Some(_) => false,
        None => match (error.downcast_ref::<RunDirError>(), error.downcast_ref::<InputError>()) {
            (Some(RunDirError::Recipe(inner)), _) => is_usage(inner),
            (_, Some(InputError::Stream(_)) | None) => false,
            _ => true,
        },
    }
}

/// Adds an error and the ones behind it, but for those whose text the one before has already said.
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
    fn a_recipe_that_is_wrong_is_usage_and_one_that_is_missing_is_not() {
        use convnext_pipeline::recipe::Recipe;
        let code = |failure: Failure| matches!(failure, Failure::Usage(_));
        let invalid = || Recipe::parse("r", "seed = 1", &[""; 0]).unwrap().resolve().unwrap_err();
        assert!(code(Recipe::parse("r", "sed = 1", &[""; 0]).unwrap_err().into()));
        assert!(code(invalid().into()) && code(RunError::from(invalid()).into()));
        assert!(code(RunError::from(InputError::Normalisation("data.mean".into())).into()));
        assert!(!code(Recipe::load("/no/recipe", &[""; 0]).unwrap_err().into()));
        assert!(!code(RunDirError::Exists("run".into()).into()) && !code(io::Error::other("disk").into()));
    }

    #[test]
    fn nothing_is_said_twice() {
        let Failure::Failed { what, because } = Outer { source: Inner(io::Error::other("disk")) }.into() else {
            panic!()
        };
        assert_eq!((what.as_str(), because), ("outer: inner", vec!["disk".to_owned()]));
    }
}
