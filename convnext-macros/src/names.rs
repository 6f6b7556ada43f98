//! The names that a declaration makes.

use crate::hygiene;
use proc_macro2::Ident;
use quote::format_ident;
use syn::ext::IdentExt;

/// The names that a model's declaration makes.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) model: Ident,
    /// What the emitted code calls the model, until [`hygiene::named`] gives it its name.
    pub(crate) code: Ident,
    pub(crate) encoder: Ident,
    pub(crate) fcmae: Ident,
}

impl Names {
    pub(crate) fn new(model: &Ident) -> Self {
        Self {
            model: model.clone(),
            code: hygiene::stand_in(model),
            encoder: format_ident!("{model}Encoder"),
            fcmae: format_ident!("{model}Fcmae"),
        }
    }

    pub(crate) fn all(&self) -> [&Ident; 3] {
        [&self.model, &self.encoder, &self.fcmae]
    }

    /// The name on the command line: lower case, a dash before each word. `AttoV1` is `atto-v1`.
    pub(crate) fn command_line(&self) -> String {
        let declared = self.model.unraw().to_string();
        let letters: Vec<char> = declared.chars().collect();
        let mut name = String::new();
        for (index, &letter) in letters.iter().enumerate() {
            // A dash in front would make an option of the name.
            let is_inside = !name.is_empty() && !name.ends_with('-');
            if is_inside && (letter == '_' || starts_word(&letters, index)) {
                name.push('-');
            }
            if letter != '_' {
                name.extend(letter.to_lowercase());
            }
        }
        match name.trim_end_matches('-') {
            "" => declared,
            name => name.to_owned(),
        }
    }
}

/// A capital starts a word, unless it stands inside an abbreviation: `CIFARNet` is `cifar-net`.
fn starts_word(letters: &[char], index: usize) -> bool {
    let ends_abbreviation = letters.get(index + 1).is_some_and(|next| next.is_lowercase());
    letters[index].is_uppercase() && (!letters[index - 1].is_uppercase() || ends_abbreviation)
}
