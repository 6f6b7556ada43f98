//! Mistakes, collected so that one build reports all of them.

use proc_macro2::{Span, TokenStream};

/// A model cannot be compiled; why is already in [`Errors`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wrong;

/// The mistakes found so far, in the order they were found.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<Mistake>);

#[derive(Debug)]
struct Mistake {
    span: Span,
    message: String,
    family: Option<Inherited>,
}

/// A mistake written in a family shows only in the models that inherit it; it is reported once and names them.
#[derive(Debug)]
struct Inherited {
    family: String,
    models: Vec<String>,
}

impl Errors {
    /// Reports a mistake on a token.
    pub(crate) fn add(&mut self, span: Span, message: impl Into<String>) {
        self.0.push(Mistake { span, message: message.into(), family: None });
    }

    /// Reports a mistake that `model` inherits from `family`, where the token is.
    pub(crate) fn add_inherited(&mut self, span: Span, message: String, family: String, model: String) {
        let same = |mistake: &&mut Mistake| {
            mistake.message == message && mistake.family.as_ref().is_some_and(|inherited| inherited.family == family)
        };
        match self.0.iter_mut().find(same) {
            Some(Mistake { family: Some(inherited), .. }) => inherited.models.push(model),
            _ => {
                let family = Some(Inherited { family, models: vec![model] });
                self.0.push(Mistake { span, message, family });
            }
        }
    }

    /// One `compile_error!` for each mistake.
    pub(crate) fn into_tokens(self) -> TokenStream {
        self.0.into_iter().map(|mistake| syn::Error::new(mistake.span, mistake.text()).into_compile_error()).collect()
    }

    /// The messages, for tests.
    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.0.iter().map(Mistake::text).collect()
    }
}

impl Mistake {
    fn text(&self) -> String {
        let Some(Inherited { family, models }) = &self.family else {
            return self.message.clone();
        };
        let named = match models.as_slice() {
            [one] => format!("model {one}"),
            [first, second] => format!("models {first} and {second}"),
            [first, rest @ ..] => format!("model {first} and {} more", rest.len()),
            [] => String::new(),
        };
        format!("{}\n(family {family}, as inherited by {named})", self.message)
    }
}
