//! A model may have any name, also that of a type parameter of the emitted code.
//!
//! For types stable Rust has no hygiene: within `impl<E, D> Trait for E<E, D>` the first `E` is the parameter too. The
//! code of such a model is emitted for a stand-in, the parameter gets an underscore, and the stand-in the name.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::format_ident;

/// Type parameters of the emitted code: all that it names without a path, but for what a model declares.
const PARAMETERS: &[&str] = &["B", "C", "D", "D0", "E", "E0", "H", "T", "ToD", "ToE", "V", "W"];

/// What the code calls a model of this name while it is emitted.
pub(crate) fn stand_in(name: &Ident) -> Ident {
    match is_parameter(name) {
        true => format_ident!("{name}__", span = name.span()),
        false => name.clone(),
    }
}

/// The emitted code of a model, with its name in place of the stand-in.
pub(crate) fn named(name: &Ident, items: TokenStream) -> TokenStream {
    if !is_parameter(name) {
        return items;
    }
    let (stand_in, parameter) = (stand_in(name), format_ident!("{name}_"));
    rename(items, &|word| match word {
        word if word == stand_in => name.clone(),
        word if word == *name => parameter.clone(),
        word => word,
    })
}

fn is_parameter(name: &Ident) -> bool {
    PARAMETERS.iter().any(|parameter| name == parameter)
}

fn rename(tokens: TokenStream, to: &impl Fn(Ident) -> Ident) -> TokenStream {
    let renamed = |token| match token {
        TokenTree::Ident(word) => TokenTree::Ident(to(word)),
        TokenTree::Group(group) => {
            let mut inner = Group::new(group.delimiter(), rename(group.stream(), to));
            inner.set_span(group.span());
            TokenTree::Group(inner)
        }
        other => other,
    };
    tokens.into_iter().map(renamed).collect()
}
