//! Tokens to declarations. A mistake ends at the next setting or the next declaration, so that all are found.

mod value;

use crate::ast::{Declaration, Fcmae, Pretraining, Setting, Settings, Spec};
use crate::error::{Errors, Wrong};
use crate::suggest;
use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Attribute, Token, Visibility};

const KEYWORDS: &[&str] = &["family", "model"];

/// Settings of a model or a family, in the order messages list them.
pub(crate) const SETTINGS: &[&str] = &["input", "stem", "stages", "head", "block", "kernel", "drop_path", "fcmae"];

/// Settings of the pre-training part.
const FCMAE_SETTINGS: &[&str] = &["patch", "mask", "decoder", "kernel", "normalised"];

/// How a setting's value is written.
pub(crate) fn example(setting: &str) -> &'static str {
    match setting {
        "input" => "224 x 224 x 3",
        "stem" => "4",
        "stages" => "[40 x 2, 80 x 2, 160 x 6, 320 x 2]",
        "head" => "1000",
        "block" => "V2",
        "kernel" => "7",
        "drop_path" => "0.1",
        "fcmae" => "{ patch: 32 }",
        "patch" => "32",
        "mask" => "0.6",
        "decoder" => "512 x 1",
        _ => "true",
    }
}

/// Parses a block; what could not be read is reported and left out.
pub(crate) fn spec(tokens: TokenStream, errors: &mut Errors) -> Spec {
    let mut spec = Spec::default();
    let declarations = |input: ParseStream<'_>| {
        while !input.is_empty() {
            if let Err(error) = declaration(input, &mut spec, errors) {
                errors.add(error.span(), error.to_string());
                skip_declaration(input);
            }
        }
        Ok(())
    };
    if let Err(error) = declarations.parse2(tokens) {
        errors.add(error.span(), error.to_string());
    }
    spec
}

/// Skips to the end of the next `{ ... }`.
fn skip_declaration(input: ParseStream<'_>) {
    while let Ok(token) = input.parse::<TokenTree>() {
        if matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace) {
            break;
        }
    }
}

fn declaration(input: ParseStream<'_>, spec: &mut Spec, errors: &mut Errors) -> syn::Result<()> {
    let attributes = input.call(Attribute::parse_outer)?;
    let visibility: Visibility = input.parse()?;
    let is_family = keyword(input, errors)? == "family";
    let name = name(input)?;
    let family = base(input, &name)?;
    let body = body(input, &name)?;
    let settings = settings(&body, errors);
    let declaration = Declaration { attributes, visibility, name, family, settings, has_names: true };
    if is_family {
        family_is_plain(&declaration, errors);
        spec.families.push(declaration);
    } else {
        spec.models.push(declaration);
    }
    Ok(())
}

/// `family` or `model`; a misspelt one is reported and taken for the nearest.
fn keyword(input: ParseStream<'_>, errors: &mut Errors) -> syn::Result<&'static str> {
    let word = input
        .call(Ident::parse_any)
        .map_err(|error| syn::Error::new(error.span(), "expected `model Name { ... }` or `family Name { ... }`"))?;
    let text = word.to_string();
    if let Some(keyword) = KEYWORDS.iter().find(|keyword| **keyword == text) {
        return Ok(keyword);
    }
    let message = format!("unknown keyword `{word}`{}", suggest::did_you_mean(&text, KEYWORDS));
    errors.add(word.span(), message);
    Ok(suggest::nearest(&text, KEYWORDS).unwrap_or("model"))
}

fn name(input: ParseStream<'_>) -> syn::Result<Ident> {
    input.parse().map_err(|error| syn::Error::new(error.span(), "expected the name of a type, such as `Atto`"))
}

/// `: Family`, if it is there.
fn base(input: ParseStream<'_>, name: &Ident) -> syn::Result<Option<Ident>> {
    if !input.peek(Token![:]) {
        return Ok(None);
    }
    let colon: Token![:] = input.parse()?;
    let lacking = |_| syn::Error::new(colon.span, format!("expected the name of a family after `{name}:`"));
    input.parse().map(Some).map_err(lacking)
}

fn body(input: ParseStream<'_>, name: &Ident) -> syn::Result<Group> {
    let group = input.step(|cursor| match cursor.token_tree() {
        Some((TokenTree::Group(group), rest)) if group.delimiter() == Delimiter::Brace => Ok((group, rest)),
        Some((other, _)) => {
            let message =
                format!("expected the settings of `{name}` in braces, `{{ ... }}`, found {}", value::found(&other));
            Err(syn::Error::new(other.span(), message))
        }
        None => {
            let message = format!("`{name}` lacks its settings: `{name} {{ ... }}`");
            Err(syn::Error::new(name.span(), message))
        }
    })?;
    Ok(group)
}

/// A family emits no type, so it can carry documentation and nothing else that would need one.
fn family_is_plain(family: &Declaration, errors: &mut Errors) {
    if let Some(base) = &family.family {
        let message = "a family cannot belong to a family; only a model names one";
        errors.add(base.span(), message);
    }
    let others = family.attributes.iter().filter(|attribute| !attribute.path().is_ident("doc"));
    for attribute in others {
        let span = attribute.path().segments[0].ident.span();
        let message = "a family becomes no type, so an attribute has nowhere to go; put it on the models";
        errors.add(span, message);
    }
}

/// `key: value`.
pub(crate) struct Entry {
    pub(crate) key: Ident,
    pub(crate) value: Vec<TokenTree>,
}

fn settings(body: &Group, errors: &mut Errors) -> Settings {
    let mut settings = Settings::default();
    let mut meant = Vec::new();
    for entry in entries(body, errors) {
        let entry = &entry;
        match entry.key.to_string().as_str() {
            "input" => fill(&mut settings.input, entry, value::input, errors),
            "stem" => fill(&mut settings.stem, entry, value::number, errors),
            "stages" => fill(&mut settings.stages, entry, value::stages, errors),
            "head" => fill(&mut settings.head, entry, value::number, errors),
            "block" => fill(&mut settings.block, entry, value::flavour, errors),
            "kernel" => fill(&mut settings.kernel, entry, value::number, errors),
            "drop_path" => fill(&mut settings.drop_path, entry, value::fraction, errors),
            "fcmae" => fill(&mut settings.fcmae, entry, pretraining, errors),
            inner if FCMAE_SETTINGS.contains(&inner) => {
                let message = format!("`{inner}` is a setting of the pre-training part: `fcmae: {{ {inner}: ... }}`");
                errors.add(entry.key.span(), message);
            }
            _ => meant.extend(unknown(entry, SETTINGS, errors)),
        }
    }
    meant.into_iter().for_each(|name| settings.misspelt(name));
    settings
}

fn pretraining(entry: &Entry, errors: &mut Errors) -> Result<Pretraining, Wrong> {
    match value::group_or_none(entry, errors)? {
        Some(body) => Ok(Pretraining::On(fcmae(entry, &body, errors))),
        None => Ok(Pretraining::Off),
    }
}

fn fcmae(entry: &Entry, body: &Group, errors: &mut Errors) -> Fcmae {
    let mut fcmae = Fcmae {
        span: entry.key.span(),
        patch: Setting::Absent,
        mask: Setting::Absent,
        decoder: Setting::Absent,
        kernel: Setting::Absent,
        normalised: Setting::Absent,
    };
    let mut meant = Vec::new();
    for entry in entries(body, errors) {
        let entry = &entry;
        match entry.key.to_string().as_str() {
            "patch" => fill(&mut fcmae.patch, entry, value::number, errors),
            "mask" => fill(&mut fcmae.mask, entry, value::fraction, errors),
            "decoder" => fill(&mut fcmae.decoder, entry, value::decoder, errors),
            "kernel" => fill(&mut fcmae.kernel, entry, value::number, errors),
            "normalised" => fill(&mut fcmae.normalised, entry, value::boolean, errors),
            outer if SETTINGS.contains(&outer) => {
                let message = format!("`{outer}` is a setting of the model; move it out of `fcmae: {{ ... }}`");
                errors.add(entry.key.span(), message);
            }
            _ => meant.extend(unknown(entry, FCMAE_SETTINGS, errors)),
        }
    }
    meant.into_iter().for_each(|name| fcmae.misspelt(name));
    fcmae
}

/// Reads a value into its setting; the first of two wins, so that one mistake is one error.
fn fill<T>(
    setting: &mut Setting<T>,
    entry: &Entry,
    read: impl FnOnce(&Entry, &mut Errors) -> Result<T, Wrong>,
    errors: &mut Errors,
) {
    if !setting.is_absent() {
        let message = format!("`{}` is set twice; remove one of them", entry.key);
        return errors.add(entry.key.span(), message);
    }
    *setting = match read(entry, errors) {
        Ok(value) => Setting::Given(value),
        Err(Wrong) => Setting::Wrong,
    };
}

/// Reports an unknown setting; returns the one that was probably meant.
fn unknown<'a>(entry: &Entry, known: &[&'a str], errors: &mut Errors) -> Option<&'a str> {
    let key = entry.key.to_string();
    errors.add(entry.key.span(), format!("unknown setting `{key}`{}", suggest::did_you_mean(&key, known)));
    suggest::nearest(&key, known)
}

/// Splits `{ key: value, ... }` at its commas, or where the next `key:` shows that one was forgotten.
fn entries(body: &Group, errors: &mut Errors) -> Vec<Entry> {
    let tokens = value::flat(body.stream());
    let mut rest = tokens.as_slice();
    let mut entries = Vec::new();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (TokenTree::Ident(key), [TokenTree::Punct(colon), tail @ ..]) if matches!(colon.as_char(), ':' | '=') => {
                if colon.as_char() == '=' {
                    let message = format!("settings are written with a colon: `{key}: ...`");
                    errors.add(colon.span(), message);
                }
                let (value, rest) = tail.split_at(value::end(tail));
                entries.push(Entry { key: key.clone(), value: value.to_vec() });
                after_comma(rest, errors)
            }
            _ => {
                let message = format!("expected a setting, such as `stem: 4`, found {}", value::found(first));
                errors.add(first.span(), message);
                after_comma(&rest[value::end(rest).max(1)..], errors)
            }
        };
    }
    entries
}

fn after_comma<'a>(rest: &'a [TokenTree], errors: &mut Errors) -> &'a [TokenTree] {
    match rest {
        [TokenTree::Punct(comma), rest @ ..] if comma.as_char() == ',' => rest,
        [next, ..] => {
            let message = format!("a comma is missing before {}", value::found(next));
            errors.add(next.span(), message);
            rest
        }
        [] => rest,
    }
}
