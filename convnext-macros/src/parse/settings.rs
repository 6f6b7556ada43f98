//! The settings of a declaration: `key: value`, separated by commas.

use super::number::{flat, found, is_mark};
use super::value::group_or_none;
use crate::ast::{Entry, Fcmae, Pretraining, Settings, Value};
use crate::error::{Errors, Wrong};
use crate::suggest;
use proc_macro2::{Delimiter, Group, TokenTree};
use syn::ext::IdentExt;

/// Whether a word is the name of a setting.
pub(super) fn is_setting(word: &str) -> bool {
    Settings::NAMES.contains(&word) || Fcmae::NAMES.contains(&word)
}

/// The settings between the braces of a declaration.
pub(super) fn settings(body: &Group, errors: &mut Errors) -> Settings {
    let mut settings = Settings::all(false);
    let mut meant = Vec::new();
    for entry in &entries(body, errors) {
        if settings.fill(entry, errors) {
            continue;
        }
        if Fcmae::NAMES.contains(&&*entry.name) {
            let inner = &entry.name;
            let message = format!("`{inner}` is a setting of the pre-training part: `fcmae: {{ {inner}: ... }}`");
            errors.add(entry.span, message);
        } else {
            meant.extend(unknown(entry, Settings::NAMES, errors));
        }
    }
    meant.into_iter().for_each(|name| settings.misspelt(name));
    settings
}

impl Value for Pretraining {
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong> {
        match group_or_none(entry, errors)? {
            Some(body) => Ok(Self::On(fcmae(entry, &body, errors))),
            None => Ok(Self::Off),
        }
    }
}

fn fcmae(entry: &Entry, body: &Group, errors: &mut Errors) -> Fcmae {
    let mut fcmae = Fcmae::all(false, entry.span);
    let mut meant = Vec::new();
    for entry in &entries(body, errors) {
        if fcmae.fill(entry, errors) {
            continue;
        }
        if Settings::NAMES.contains(&&*entry.name) {
            let message = format!("`{}` is a setting of the model; move it out of `fcmae: {{ ... }}`", entry.name);
            errors.add(entry.span, message);
        } else {
            meant.extend(unknown(entry, Fcmae::NAMES, errors));
        }
    }
    meant.into_iter().for_each(|name| fcmae.misspelt(name));
    fcmae
}

/// Reports an unknown setting; returns the one that was probably meant.
fn unknown<'a>(entry: &Entry, known: &[&'a str], errors: &mut Errors) -> Option<&'a str> {
    let key = &entry.name;
    errors.add(entry.span, format!("unknown setting `{key}`{}", suggest::did_you_mean(key, known)));
    suggest::nearest(key, known)
}

/// Splits `{ key: value, ... }` at its commas, or where the next key shows that one was forgotten.
fn entries(body: &Group, errors: &mut Errors) -> Vec<Entry> {
    let tokens = flat(body.stream());
    let mut rest = tokens.as_slice();
    let mut entries = Vec::new();
    while !rest.is_empty() {
        if let Some(tail) = superfluous(rest, errors) {
            rest = tail;
        } else if let Some((entry, tail)) = entry(rest, errors) {
            entries.push(entry);
            rest = separator(tail, errors);
        } else {
            errors.add(rest[0].span(), no_setting(rest));
            rest = after_mark(&rest[end(rest).max(1)..]);
        }
    }
    entries
}

/// What follows a comma, or the mark in place of one.
fn after_mark(tokens: &[TokenTree]) -> &[TokenTree] {
    match tokens {
        [mark, rest @ ..] if is_mark(mark, ',') || is_mark(mark, ';') => rest,
        _ => tokens,
    }
}

/// What stands before a setting and should not: it is reported and passed over.
fn superfluous<'a>(tokens: &'a [TokenTree], errors: &mut Errors) -> Option<&'a [TokenTree]> {
    match tokens {
        [mark, rest @ ..] if is_mark(mark, ',') || is_mark(mark, ';') => {
            errors.add(mark.span(), format!("{} with no setting before it; remove it", found(mark)));
            Some(rest)
        }
        [hash, TokenTree::Group(attribute), rest @ ..]
            if is_mark(hash, '#') && attribute.delimiter() == Delimiter::Bracket =>
        {
            let message = "a setting takes no attribute and no `///`; a comment may stand here, `// ...`";
            errors.add(hash.span(), message);
            Some(rest)
        }
        [TokenTree::Ident(word), rest @ ..] if word == "pub" && matches!(rest, [TokenTree::Ident(_), ..]) => {
            errors.add(word.span(), "a setting has no visibility; remove `pub`");
            Some(rest)
        }
        _ => None,
    }
}

fn no_setting(tokens: &[TokenTree]) -> String {
    match tokens {
        [first, second, ..] if is_mark(first, '.') && is_mark(second, '.') => {
            "settings are inherited from a family, named after the model: `model Name: Family { ... }`".into()
        }
        _ => format!("expected a setting, such as `stem: 4`, found {}", found(&tokens[0])),
    }
}

/// The setting that `tokens` begin with, however its colon is written, and what follows it.
fn entry<'a>(tokens: &'a [TokenTree], errors: &mut Errors) -> Option<(Entry, &'a [TokenTree])> {
    let (key, tail) = tokens.split_first()?;
    let marks = tail.iter().take_while(|token| [':', '=', '>'].iter().any(|mark| is_mark(token, *mark))).count();
    let name = key_name(key, marks > 0)?;
    if marks == 0 && !(is_setting(&name) && begins_value(tail)) {
        return None;
    }
    let (colon, tail) = tail.split_at(marks);
    if matches!(key, TokenTree::Literal(_)) {
        errors.add(key.span(), format!("the name of a setting is written without quotes: `{name}: ...`"));
    } else if !(marks == 1 && is_mark(&colon[0], ':')) {
        let span = colon.first().unwrap_or(key).span();
        errors.add(span, format!("a setting is written with a colon: `{name}: ...`"));
    }
    let (value, rest) = tail.split_at(end(tail));
    Some((Entry { name, span: key.span(), value: value.to_vec() }, rest))
}

/// The name of a setting, `r#` and quotes taken off.
fn key_name(key: &TokenTree, has_colon: bool) -> Option<String> {
    match key {
        TokenTree::Ident(word) => Some(IdentExt::unraw(word).to_string()),
        TokenTree::Literal(literal) if has_colon => {
            let text = literal.to_string();
            Some(text.strip_prefix('"')?.strip_suffix('"')?.to_owned())
        }
        _ => None,
    }
}

fn begins_value(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Literal(_) | TokenTree::Group(_) | TokenTree::Ident(_), ..])
}

/// Length of the value that `tokens` begin with: to a comma, or to the next setting.
///
/// A number after a comma belongs to the value: no setting begins with one, and some write `32, 32, 3`.
fn end(tokens: &[TokenTree]) -> usize {
    let is_double_colon = |index: usize| {
        tokens.get(index).is_some_and(|token| is_mark(token, ':'))
            && tokens.get(index + 1).is_some_and(|token| is_mark(token, ':'))
    };
    let ends = |index: usize| match (&tokens[index], tokens.get(index + 1)) {
        (mark, Some(TokenTree::Literal(next))) if is_mark(mark, ',') => index == 0 || next.to_string().contains('"'),
        (mark, _) if is_mark(mark, ',') || is_mark(mark, ';') => true,
        (TokenTree::Ident(word), next) => {
            let follows_path = index > 1 && is_double_colon(index - 2);
            let is_key = next.is_some_and(|next| is_mark(next, ':')) && !is_double_colon(index + 1);
            // A stage's `kernel 5` is a setting by its word only.
            let is_forgotten = word != "kernel" && is_setting(&word.to_string());
            index > 0 && !follows_path && (is_key || is_forgotten)
        }
        _ => false,
    };
    (0..tokens.len()).find(|&index| ends(index)).unwrap_or(tokens.len())
}

/// What follows the comma; one that is missing, or is another mark, is reported.
fn separator<'a>(rest: &'a [TokenTree], errors: &mut Errors) -> &'a [TokenTree] {
    match rest {
        [comma, rest @ ..] if is_mark(comma, ',') => rest,
        [mark, rest @ ..] if is_mark(mark, ';') => {
            errors.add(mark.span(), "settings are separated by commas, not by `;`");
            rest
        }
        [next, ..] => {
            let message = format!("a comma is missing before {}", found(next));
            errors.add(next.span(), message);
            rest
        }
        [] => rest,
    }
}
