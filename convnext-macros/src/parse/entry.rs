//! One setting as it is written.

use crate::ast::example;
use proc_macro2::{Span, TokenTree};

/// `key: value`.
pub(super) struct Entry {
    /// The key.
    pub(super) name: String,
    /// Where the key stands.
    pub(super) span: Span,
    pub(super) value: Vec<TokenTree>,
}

impl Entry {
    /// How the setting is written.
    pub(super) fn example(&self) -> String {
        format!("{}: {}", self.name, example(&self.name))
    }
}
