//! Tokens to declarations. A mistake ends at the next setting or the next declaration, so that all are found.

mod number;
mod settings;
mod stages;
mod value;

use crate::ast::{Declaration, Settings, Spec};
use crate::error::Errors;
use crate::suggest;
use number::{found, is_mark};
use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use settings::is_setting;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, Token, Visibility};

const KEYWORDS: &[&str] = &["family", "model"];

/// Parses a block; what could not be read is reported and left out.
pub(crate) fn spec(tokens: TokenStream, errors: &mut Errors) -> Spec {
    let mut spec = Spec::default();
    let declarations = |input: ParseStream<'_>| {
        while !input.is_empty() {
            let start = input.cursor();
            if is_separator(input, errors) {
                continue;
            }
            if let Err(error) = declaration(input, &mut spec, errors) {
                errors.add(error.span(), error.to_string());
                skip_declaration(input, input.cursor() == start);
            }
        }
        Ok(())
    };
    if let Err(error) = declarations.parse2(tokens) {
        errors.add(error.span(), error.to_string());
    }
    spec
}

/// The token to come.
fn next(input: ParseStream<'_>) -> Option<TokenTree> {
    input.cursor().token_tree().map(|(token, _)| token)
}

/// The token after that.
fn second(input: ParseStream<'_>) -> Option<TokenTree> {
    let (_, rest) = input.cursor().token_tree()?;
    rest.token_tree().map(|(token, _)| token)
}

/// Passes over the token to come.
fn skip(input: ParseStream<'_>) {
    // Called where there is one, so that it cannot fail.
    let _ = input.parse::<TokenTree>();
}

/// Passes over a comma or semicolon between declarations, and reports it.
fn is_separator(input: ParseStream<'_>, errors: &mut Errors) -> bool {
    let Some(mark) = next(input).filter(|token| is_mark(token, ',') || is_mark(token, ';')) else { return false };
    errors.add(mark.span(), format!("declarations are not separated by {}; remove it", found(&mark)));
    skip(input);
    true
}

/// Skips to the end of the next `{ ... }`, or to the beginning of the next declaration; at least one token if asked.
fn skip_declaration(input: ParseStream<'_>, at_least_one: bool) {
    if at_least_one {
        skip(input);
    }
    while let Some(token) = next(input).filter(|token| !begins_declaration(token)) {
        skip(input);
        if is_braced(&token) {
            break;
        }
    }
}

fn is_braced(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

fn begins_declaration(token: &TokenTree) -> bool {
    match token {
        TokenTree::Ident(word) => word == "pub" || KEYWORDS.iter().any(|keyword| word == keyword),
        token => is_mark(token, '#'),
    }
}

fn declaration(input: ParseStream<'_>, spec: &mut Spec, errors: &mut Errors) -> syn::Result<()> {
    let attributes = input.call(Attribute::parse_outer)?;
    let mut visibility: Visibility = input.parse()?;
    let before = attributes.last().map(Spanned::span).unwrap_or_else(Span::call_site);
    let before = if visibility == Visibility::Inherited { before } else { visibility.span() };
    let keyword = keyword(input, before, errors)?;
    let name = name(input, &keyword, &mut visibility, errors)?;
    let family = base(input, &name, errors)?;
    // A model whose settings cannot be read still declares its types.
    let settings = match body(input, &name, errors) {
        Ok(body) => settings::settings(&body, errors),
        Err(error) => {
            errors.add(error.span(), error.to_string());
            skip_declaration(input, false);
            Settings::all(true)
        }
    };
    let declaration = Declaration { attributes, visibility, name, family, settings, has_names: true };
    if keyword.is_family {
        family_is_plain(&declaration, errors);
        spec.families.push(declaration);
    } else {
        spec.models.push(declaration);
    }
    Ok(())
}

/// `family` or `model`.
struct Keyword {
    text: &'static str,
    is_family: bool,
    span: Span,
}

/// The keyword; one that is misspelt or forgotten is reported and taken for the nearest.
fn keyword(input: ParseStream<'_>, before: Span, errors: &mut Errors) -> syn::Result<Keyword> {
    const EXPECTED: &str = "expected `model Name { ... }` or `family Name { ... }`";
    let keyword = |text, span| Ok(Keyword { text, is_family: text == "family", span });
    let word = match next(input) {
        Some(TokenTree::Ident(word)) => word,
        Some(other) => return Err(syn::Error::new(other.span(), format!("{EXPECTED}, found {}", found(&other)))),
        None => return Err(syn::Error::new(before, format!("{EXPECTED} after this"))),
    };
    let text = word.to_string();
    if let Some(known) = KEYWORDS.iter().find(|keyword| **keyword == text) {
        skip(input);
        return keyword(known, word.span());
    }
    match second(input) {
        _ if is_setting(&text) => {
            let message = format!("`{text}` stands in no declaration; {EXPECTED}");
            Err(syn::Error::new(word.span(), message))
        }
        Some(TokenTree::Ident(name)) if !begins_declaration(&TokenTree::Ident(name.clone())) => {
            let message = format!("unknown keyword `{word}`{}", suggest::did_you_mean(&text, KEYWORDS));
            errors.add(word.span(), message);
            skip(input);
            keyword(suggest::nearest(&text, KEYWORDS).unwrap_or("model"), word.span())
        }
        Some(token) if is_braced(&token) || is_mark(&token, ':') => {
            errors.add(word.span(), format!("`model` is missing before `{word}`: `model {word} {{ ... }}`"));
            keyword("model", word.span())
        }
        _ => Err(syn::Error::new(word.span(), format!("{EXPECTED}, found `{word}`"))),
    }
}

/// The declared name. A `pub` before it is reported and applied.
fn name(
    input: ParseStream<'_>,
    keyword: &Keyword,
    visibility: &mut Visibility,
    errors: &mut Errors,
) -> syn::Result<Ident> {
    let keyword_text = keyword.text;
    if input.peek(Token![pub]) {
        *visibility = input.parse()?;
        errors.add(visibility.span(), format!("`pub` stands before the keyword: `pub {keyword_text} Name {{ ... }}`"));
    }
    let token = match next(input) {
        Some(TokenTree::Ident(_)) if input.peek(syn::Ident) => return input.parse(),
        Some(token) if !is_braced(&token) && !is_mark(&token, ':') => token,
        _ => {
            let message = format!("a name is missing after `{keyword_text}`: `{keyword_text} Name {{ ... }}`");
            return Err(syn::Error::new(keyword.span, message));
        }
    };
    let text = token.to_string();
    let message = match &token {
        TokenTree::Ident(_) if input.peek(syn::Ident::peek_any) && text != "_" => {
            format!("`{text}` is a keyword of Rust and cannot name a type; choose a name such as `Atto`")
        }
        TokenTree::Literal(_) if text.ends_with('"') => {
            format!("a name is written without quotes: `{keyword_text} {}`", text.trim_matches('"'))
        }
        token => format!("expected the name of a type, such as `Atto`, found {}", found(token)),
    };
    Err(syn::Error::new(token.span(), message))
}

/// `: Family`, if it is there. Of a path its last word counts.
fn base(input: ParseStream<'_>, name: &Ident, errors: &mut Errors) -> syn::Result<Option<Ident>> {
    if !input.peek(Token![:]) || input.peek(Token![::]) {
        return Ok(base_without_colon(input, name, errors));
    }
    let colon: Token![:] = input.parse()?;
    if !input.peek(syn::Ident::peek_any) {
        let message = format!("expected the name of a family after `{name}:`; without one, remove the colon");
        errors.add(colon.span, message);
        return Ok(None);
    }
    let mut family = input.call(Ident::parse_any)?;
    while input.peek(Token![::]) && input.peek3(syn::Ident::peek_any) {
        input.parse::<Token![::]>()?;
        family = input.call(Ident::parse_any)?;
    }
    Ok(Some(family))
}

/// A family that follows the name with no colon between them, or with a word of another language; it is reported.
fn base_without_colon(input: ParseStream<'_>, name: &Ident, errors: &mut Errors) -> Option<Ident> {
    let is_family =
        |word: &Ident| !begins_declaration(&TokenTree::Ident(word.clone())) && !is_setting(&word.to_string());
    let word = match next(input) {
        Some(TokenTree::Ident(word)) if is_family(&word) => word,
        _ => return None,
    };
    let family = match second(input) {
        Some(TokenTree::Ident(family)) if is_family(&family) => {
            skip(input);
            family
        }
        Some(token) if is_braced(&token) => word.clone(),
        _ => return None,
    };
    skip(input);
    errors.add(word.span(), format!("a family follows a colon: `{name}: {family} {{ ... }}`"));
    Some(family)
}

/// The settings of a declaration in their braces; other tokens and other brackets are reported.
fn body(input: ParseStream<'_>, name: &Ident, errors: &mut Errors) -> syn::Result<Group> {
    let Some(token) = next(input) else {
        let message = format!("`{name}` lacks its settings: `{name} {{ ... }}`");
        return Err(syn::Error::new(name.span(), message));
    };
    if !matches!(token, TokenTree::Group(_)) {
        let wrong = syn::Error::new(token.span(), no_body(&token, name));
        // Settings that stand open are not those in some later setting's braces.
        let is_open = matches!(&token, TokenTree::Ident(word) if is_setting(&word.to_string()));
        if is_open || !skip_to_group(input) {
            return Err(wrong);
        }
        errors.add(wrong.span(), wrong.to_string());
    }
    let Some(TokenTree::Group(group)) = next(input) else { unreachable!("a group is next") };
    skip(input);
    let what = format!("the settings of `{name}` stand");
    Ok(value::enclosed(&group, Delimiter::Brace, &what, errors))
}

fn no_body(token: &TokenTree, name: &Ident) -> String {
    match token {
        token if is_mark(token, '<') => format!("`{name}` takes no type parameters: its sizes are numbers"),
        token if is_mark(token, '+') || is_mark(token, ',') => {
            format!("expected the settings of `{name}` after its one family, `{{ ... }}`, found {}", found(token))
        }
        token => format!("expected the settings of `{name}` in braces, `{{ ... }}`, found {}", found(token)),
    }
}

/// Skips to a group that belongs to this declaration, if there is one.
fn skip_to_group(input: ParseStream<'_>) -> bool {
    let ahead = input.fork();
    while let Some(token) = next(&ahead).filter(|token| !begins_declaration(token)) {
        if matches!(token, TokenTree::Group(_)) {
            while input.cursor() != ahead.cursor() {
                skip(input);
            }
            return true;
        }
        skip(&ahead);
    }
    false
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
