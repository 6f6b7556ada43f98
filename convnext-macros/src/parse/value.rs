//! Values of settings: sizes (`40 x 2`), fractions, words and lists.

use super::{Entry, example};
use crate::ast::{Decoder, Flavour, Fraction, Input, Number, Stage, Stages};
use crate::error::{Errors, Wrong};
use crate::suggest;
use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};

/// Decimals of a fraction; more would not change an `f32`.
const MAX_SCALE: u32 = 9;

/// A token that is wrong, and why.
type Fault = (Span, String);

/// The tokens, out of the invisible groups in which a `macro_rules!` passes its fragments.
pub(super) fn flat(stream: TokenStream) -> Vec<TokenTree> {
    let open = |token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => flat(group.stream()),
        other => vec![other],
    };
    stream.into_iter().flat_map(open).collect()
}

/// A token as messages quote it.
pub(super) fn found(token: &TokenTree) -> String {
    match token {
        TokenTree::Group(group) => match group.delimiter() {
            Delimiter::Brace => "`{ ... }`".into(),
            Delimiter::Bracket => "`[ ... ]`".into(),
            _ => "`( ... )`".into(),
        },
        token => format!("`{token}`"),
    }
}

/// Length of the value that `tokens` begins with: to a comma, or to the next `key:`.
pub(super) fn end(tokens: &[TokenTree]) -> usize {
    let ends = |index: usize| match (&tokens[index], tokens.get(index + 1)) {
        (TokenTree::Punct(comma), _) if comma.as_char() == ',' => true,
        (TokenTree::Ident(_), Some(TokenTree::Punct(colon))) => index > 0 && colon.as_char() == ':',
        _ => false,
    };
    (0..tokens.len()).find(|&index| ends(index)).unwrap_or(tokens.len())
}

/// `height x width x channels`.
pub(super) fn input(entry: &Entry, errors: &mut Errors) -> Result<Input, Wrong> {
    let numbers = sizes(entry, errors)?;
    match numbers[..] {
        [height, width, channels] => Ok(Input { height: Ok(height), width: Ok(width), channels: Ok(channels) }),
        [height, width] => {
            let (height, width) = (height.value, width.value);
            let message = format!(
                "`input` lacks its channels: `{height} x {width} x 3` for colour, `{height} x {width} x 1` for grey"
            );
            refuse(errors, (numbers[1].span, message))
        }
        _ => {
            let count = numbers.len();
            let message = format!(
                "`input` wants three numbers, height x width x channels, not {count}: `input: {}`",
                example("input")
            );
            refuse(errors, (numbers[0].span, message))
        }
    }
}

/// One whole number.
pub(super) fn number(entry: &Entry, errors: &mut Errors) -> Result<Number, Wrong> {
    let numbers = sizes(entry, errors)?;
    let [number] = numbers[..] else {
        let key = &entry.key;
        let message =
            format!("`{key}` wants one number, not {}: `{key}: {}`", numbers.len(), example(&key.to_string()));
        return refuse(errors, (numbers[1].span, message));
    };
    Ok(number)
}

/// `dim x depth`.
pub(super) fn decoder(entry: &Entry, errors: &mut Errors) -> Result<Decoder, Wrong> {
    let numbers = sizes(entry, errors)?;
    let [dim, depth] = numbers[..] else {
        let message = format!(
            "`decoder` wants two numbers, dim x depth, not {}: `decoder: {} x 1`",
            numbers.len(),
            numbers[0].value
        );
        return refuse(errors, (numbers[0].span, message));
    };
    Ok(Decoder { dim, depth })
}

/// A number with decimals, read exactly.
pub(super) fn fraction(entry: &Entry, errors: &mut Errors) -> Result<Fraction, Wrong> {
    let (token, rest) = first(entry).or_else(|fault| refuse(errors, fault))?;
    let fraction = decimal(token, entry).or_else(|fault| refuse(errors, fault))?;
    nothing_after(rest, entry).or_else(|fault| refuse(errors, fault))?;
    Ok(fraction)
}

/// `true` or `false`.
pub(super) fn boolean(entry: &Entry, errors: &mut Errors) -> Result<bool, Wrong> {
    Ok(word(entry, &["true", "false"], errors)? == "true")
}

/// `V1` or `V2`.
pub(super) fn flavour(entry: &Entry, errors: &mut Errors) -> Result<Flavour, Wrong> {
    match word(entry, &["V1", "V2"], errors)? {
        "V1" => Ok(Flavour::V1),
        _ => Ok(Flavour::V2),
    }
}

/// `{ ... }`, or `none`.
pub(super) fn group_or_none(entry: &Entry, errors: &mut Errors) -> Result<Option<Group>, Wrong> {
    match entry.value.as_slice() {
        [TokenTree::Group(group)] if group.delimiter() == Delimiter::Brace => Ok(Some(group.clone())),
        [TokenTree::Ident(none)] if none == "none" => Ok(None),
        [] => refuse(errors, lacking(entry)),
        [other, ..] => {
            let message = format!(
                "expected `fcmae: {}`, or `fcmae: none` for a model without pre-training, found {}",
                example("fcmae"),
                found(other)
            );
            refuse(errors, (other.span(), message))
        }
    }
}

/// `[dim x depth kernel k, ...]`.
pub(super) fn stages(entry: &Entry, errors: &mut Errors) -> Result<Stages, Wrong> {
    let list = match entry.value.as_slice() {
        [TokenTree::Group(list)] if list.delimiter() == Delimiter::Bracket => list,
        [] => return refuse(errors, lacking(entry)),
        [other, ..] => {
            let message = format!(
                "expected a list of stages, dim x depth each, in brackets: `stages: {}`, found {}",
                example("stages"),
                found(other)
            );
            return refuse(errors, (other.span(), message));
        }
    };
    let tokens = flat(list.stream());
    let parts = tokens.split_inclusive(is_comma).enumerate();
    let read = |(index, part)| stage(index + 1, part).or_else(|fault| refuse(errors, fault));
    Ok(Stages { list: parts.map(read).collect(), span: list.span() })
}

fn is_comma(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',')
}

/// A stage, with the comma after it if it has one.
fn stage(index: usize, part: &[TokenTree]) -> Result<Stage, Fault> {
    let tokens = match part {
        [tokens @ .., last] if is_comma(last) => tokens,
        tokens => tokens,
    };
    let (numbers, rest) = product(tokens).map_err(|(span, why)| (span, format!("stage {index}: {why}")))?;
    let (dim, depth) = match numbers[..] {
        [dim, depth] => (dim, depth),
        [dim] => {
            let value = dim.value;
            let message = format!("stage {index}: `{value}` lacks its depth, the number of blocks: `{value} x 2`");
            return Err((dim.span, message));
        }
        [dim, depth, kernel, ..] => {
            let message = format!(
                "stage {index}: only dim x depth are joined by `x`; for a kernel size write `{} x {} kernel {}`",
                dim.value, depth.value, kernel.value
            );
            return Err((kernel.span, message));
        }
        [] => {
            let message = format!("stage {index}: expected dim x depth, such as `40 x 2`, found {}", found(&part[0]));
            return Err((part[0].span(), message));
        }
    };
    let kernel = stage_kernel(index, rest)?;
    Ok(Stage { dim, depth, kernel })
}

/// `kernel k` after a stage's sizes, if it is there.
fn stage_kernel(index: usize, tokens: &[TokenTree]) -> Result<Option<Number>, Fault> {
    let (word, value) = match tokens {
        [] => return Ok(None),
        [TokenTree::Ident(word), value @ ..] => (word, value),
        [other, ..] => {
            let message = format!("stage {index}: expected a comma or `kernel 5`, found {}", found(other));
            return Err((other.span(), message));
        }
    };
    if word != "kernel" {
        let text = word.to_string();
        let message = format!("stage {index}: unknown setting `{word}`{}", suggest::did_you_mean(&text, &["kernel"]));
        return Err((word.span(), message));
    }
    match product(value)? {
        (numbers, []) if numbers.len() == 1 => Ok(Some(numbers[0])),
        (_, rest) => {
            let span = rest.first().map_or(word.span(), TokenTree::span);
            let message = format!("stage {index}: expected one number after `kernel`, such as `kernel 5`");
            Err((span, message))
        }
    }
}

/// The whole value as numbers joined by `x`; at least one.
fn sizes(entry: &Entry, errors: &mut Errors) -> Result<Vec<Number>, Wrong> {
    let read = || {
        let (token, _) = first(entry)?;
        let (numbers, rest) = product(&entry.value)?;
        if numbers.is_empty() {
            return Err((token.span(), expected(entry, token)));
        }
        nothing_after(rest, entry)?;
        Ok(numbers)
    };
    read().or_else(|fault| refuse(errors, fault))
}

fn first(entry: &Entry) -> Result<(&TokenTree, &[TokenTree]), Fault> {
    entry.value.split_first().ok_or_else(|| lacking(entry))
}

fn lacking(entry: &Entry) -> Fault {
    let key = &entry.key;
    (key.span(), format!("`{key}` lacks its value; for example `{key}: {}`", example(&key.to_string())))
}

fn expected(entry: &Entry, token: &TokenTree) -> String {
    let key = &entry.key;
    let (form, found) = (example(&key.to_string()), found(token));
    match token {
        TokenTree::Punct(minus) if minus.as_char() == '-' => {
            format!("`{key}` cannot be negative; expected a number, such as `{key}: {form}`")
        }
        _ => format!("expected a number, such as `{key}: {form}`, found {found}"),
    }
}

fn nothing_after(rest: &[TokenTree], entry: &Entry) -> Result<(), Fault> {
    match rest {
        [] => Ok(()),
        [TokenTree::Punct(star), ..] if star.as_char() == '*' => {
            Err((star.span(), format!("sizes are joined by `x`: `{}: {}`", entry.key, example(&entry.key.to_string()))))
        }
        [token, ..] => {
            Err((token.span(), format!("expected a comma after the value of `{}`, found {}", entry.key, found(token))))
        }
    }
}

fn word<'a>(entry: &Entry, options: &[&'a str], errors: &mut Errors) -> Result<&'a str, Wrong> {
    let (token, rest) = first(entry).or_else(|fault| refuse(errors, fault))?;
    let text = token.to_string();
    let bare = text.trim_matches('"');
    match options.iter().find(|option| **option == text) {
        Some(option) => nothing_after(rest, entry).map(|()| *option),
        None if text != bare && options.contains(&bare) => {
            Err((token.span(), format!("write `{}: {bare}`, without quotes", entry.key)))
        }
        None => {
            let message =
                format!("unknown value {} of `{}`{}", found(token), entry.key, suggest::did_you_mean(&text, options));
            Err((token.span(), message))
        }
    }
    .or_else(|fault| refuse(errors, fault))
}

fn refuse<T>(errors: &mut Errors, (span, message): Fault) -> Result<T, Wrong> {
    errors.add(span, message);
    Err(Wrong)
}

/// Part of a product: a number, or the `x` between two.
#[derive(Clone, Copy)]
enum Piece {
    Number(Number),
    Times(Span),
}

/// Numbers joined by `x` at the start of `tokens`, and what follows them.
///
/// Rust's lexer reads `40 x 2` as three tokens, `40 x2` and `40x 2` as two and `40x2` as one: a number with a
/// suffix. All are taken apart here.
fn product(tokens: &[TokenTree]) -> Result<(Vec<Number>, &[TokenTree]), Fault> {
    let mut pieces = Vec::new();
    let mut rest = tokens;
    while let [token, tail @ ..] = rest {
        match token {
            TokenTree::Literal(literal) => take_apart(&literal.to_string(), literal.span(), &mut pieces)?,
            TokenTree::Ident(word) if is_times(&word.to_string()) => {
                take_apart(&word.to_string(), word.span(), &mut pieces)?;
            }
            _ => break,
        }
        rest = tail;
    }
    Ok((factors(&pieces)?, rest))
}

/// Whether a word is the `x` of a product, alone or with what stands close to it.
fn is_times(word: &str) -> bool {
    word.starts_with('x') && word.chars().all(|letter| letter == 'x' || letter.is_ascii_digit())
}

fn take_apart(text: &str, span: Span, pieces: &mut Vec<Piece>) -> Result<(), Fault> {
    if ["0x", "0b", "0o"].iter().any(|prefix| text.starts_with(prefix)) {
        let message = format!("Rust reads `{text}` as one number; sizes are decimal, with spaces around `x`");
        return Err((span, message));
    }
    for (index, part) in text.split('x').enumerate() {
        if index > 0 {
            pieces.push(Piece::Times(span));
        }
        if !part.is_empty() {
            pieces.push(Piece::Number(whole(part, span)?));
        }
    }
    Ok(())
}

fn whole(text: &str, span: Span) -> Result<Number, Fault> {
    let digits = text.replace('_', "");
    if let Ok(value) = digits.parse() {
        return Ok(Number { value, span });
    }
    let message = if digits.chars().all(|letter| letter.is_ascii_digit()) {
        format!("`{text}` is too large for any size")
    } else if let Ok(value) = digits.parse::<f64>() {
        let rounded = value.round();
        format!("expected a whole number, found `{text}`; did you mean `{rounded}`?")
    } else {
        let number: String = digits.chars().take_while(char::is_ascii_digit).collect();
        match number.as_str() {
            "" => format!("expected a whole number, found `{text}`"),
            number => format!("expected a whole number, found `{text}`; did you mean `{number}`?"),
        }
    };
    Err((span, message))
}

/// The numbers of `number x number x ...`.
fn factors(pieces: &[Piece]) -> Result<Vec<Number>, Fault> {
    let mut numbers: Vec<Number> = Vec::new();
    let mut joined = true;
    for piece in pieces {
        match *piece {
            Piece::Number(number) if joined => {
                numbers.push(number);
                joined = false;
            }
            Piece::Number(number) => {
                let before = numbers.last().map_or(0, |number| number.value);
                let message = format!("an `x` is missing between two numbers: `{before} x {}`", number.value);
                return Err((number.span, message));
            }
            Piece::Times(span) if joined => {
                return Err((span, "expected a number before this `x`".into()));
            }
            Piece::Times(_) => joined = true,
        }
    }
    match pieces.last() {
        Some(Piece::Times(span)) => Err((*span, "expected a number after this `x`".into())),
        _ => Ok(numbers),
    }
}

/// A literal such as `0.6`, exactly.
fn decimal(token: &TokenTree, entry: &Entry) -> Result<Fraction, Fault> {
    let fault = |message: String| (token.span(), message);
    let TokenTree::Literal(literal) = token else {
        return Err(fault(expected(entry, token)));
    };
    let text = literal.to_string().replace('_', "");
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let decimals = decimals.trim_end_matches('0');
    let digits = format!("{whole}{decimals}");
    if !digits.chars().all(|letter| letter.is_ascii_digit()) {
        return Err(fault(format!(
            "expected a plain decimal number, such as `{}: {}`, found `{literal}`",
            entry.key,
            example(&entry.key.to_string())
        )));
    }
    let scale = decimals.len() as u32;
    match digits.parse() {
        Ok(digits) if scale <= MAX_SCALE => Ok(Fraction { digits, scale, span: token.span() }),
        _ => Err(fault(format!("`{literal}` has too many digits; at most {MAX_SCALE} decimals count"))),
    }
}
