//! Values of settings: sizes (`40 x 2`), fractions, words and lists.

use super::number::{Fault, Piece, decimal, flat, found, is_mark, numbers_in, pieces, product, quoted};
use super::stages;
use crate::ast::example;
use crate::ast::{Decoder, Entry, Flavour, Fraction, Input, Number, Stages, Value};
use crate::error::{Errors, Wrong};
use crate::suggest;
use proc_macro2::{Delimiter, Group, TokenTree};

/// `height x width x channels`.
impl Value for Input {
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong> {
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
}

/// One whole number.
impl Value for Number {
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong> {
        let numbers = sizes(entry, errors)?;
        let [number] = numbers[..] else {
            let key = &entry.name;
            let message = format!("`{key}` wants one number, not {}: `{key}: {}`", numbers.len(), numbers[0].value);
            return refuse(errors, (numbers[1].span, message));
        };
        Ok(number)
    }
}

/// `dim x depth`.
impl Value for Decoder {
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong> {
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
}

/// A number with decimals, read exactly.
impl Value for Fraction {
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong> {
        let read = || match first(entry)? {
            (TokenTree::Literal(literal), rest) if quoted(&literal.to_string()).is_none() => {
                let fraction = decimal(&literal.to_string(), literal.span(), &entry.example())?;
                nothing_after(&pieces(rest), entry).map(|()| fraction)
            }
            (token, _) => Err((token.span(), expected(entry, token))),
        };
        read().or_else(|fault| refuse(errors, fault))
    }
}

/// `true` or `false`.
impl Value for bool {
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong> {
        Ok(word(entry, &["true", "false"], errors)? == "true")
    }
}

/// `V1` or `V2`.
impl Value for Flavour {
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong> {
        match word(entry, &["V1", "V2"], errors)? {
            "V1" => Ok(Flavour::V1),
            _ => Ok(Flavour::V2),
        }
    }
}

/// `{ ... }`, or `none`.
pub(super) fn group_or_none(entry: &Entry, errors: &mut Errors) -> Result<Option<Group>, Wrong> {
    let (token, rest) = first(entry).or_else(|fault| refuse(errors, fault))?;
    let value = match token {
        TokenTree::Group(group) => Some(enclosed(group, Delimiter::Brace, "the pre-training part stands", errors)),
        TokenTree::Ident(none) if none == "none" => None,
        other => {
            let message = format!(
                "expected `fcmae: {}`, or `fcmae: none` for a model without pre-training, found {}",
                example("fcmae"),
                found(other)
            );
            return refuse(errors, (other.span(), message));
        }
    };
    nothing_after(&pieces(rest), entry).or_else(|fault| refuse(errors, fault))?;
    Ok(value)
}

/// `[dim x depth kernel k, ...]`.
impl Value for Stages {
    fn read(entry: &Entry, errors: &mut Errors) -> Result<Self, Wrong> {
        let (token, rest) = first(entry).or_else(|fault| refuse(errors, fault))?;
        let TokenTree::Group(group) = token else {
            let message = format!(
                "expected a list of stages, dim x depth each, in brackets: `stages: {}`, found {}",
                example("stages"),
                found(token)
            );
            return refuse(errors, (token.span(), message));
        };
        let group = enclosed(group, Delimiter::Bracket, "the list of stages stands", errors);
        let list = stages::list(&flat(group.stream()), errors);
        nothing_after(&pieces(rest), entry).or_else(|fault| refuse(errors, fault))?;
        Ok(Stages { list, span: group.span() })
    }
}

/// A group, whose brackets are reported if they are of another kind.
pub(super) fn enclosed(group: &Group, wanted: Delimiter, what: &str, errors: &mut Errors) -> Group {
    if group.delimiter() != wanted {
        let wanted = match wanted {
            Delimiter::Brace => "`{ ... }`",
            _ => "`[ ... ]`",
        };
        let written = found(&TokenTree::Group(group.clone()));
        errors.add(group.span_open(), format!("{what} in {wanted}, not in {written}"));
    }
    group.clone()
}

/// The whole value as numbers joined by `x`; at least one.
fn sizes(entry: &Entry, errors: &mut Errors) -> Result<Vec<Number>, Wrong> {
    let read = || {
        first(entry)?;
        let pieces = pieces(&entry.value);
        let (numbers, rest) = product(&pieces, &|token| expected(entry, token))?;
        nothing_after(rest, entry)?;
        Ok(numbers)
    };
    read().or_else(|fault| refuse(errors, fault))
}

fn first(entry: &Entry) -> Result<(&TokenTree, &[TokenTree]), Fault> {
    let lacking = || {
        let message = format!("`{}` lacks its value; for example `{}`", entry.name, entry.example());
        (entry.span, message)
    };
    entry.value.split_first().ok_or_else(lacking)
}

/// What is wrong with a token where a number should be.
fn expected(entry: &Entry, token: &TokenTree) -> String {
    let (key, meant) = (&entry.name, meant(entry));
    match token {
        _ if is_mark(token, '-') => {
            format!("`{key}` cannot be negative; expected a number, such as `{}`", entry.example())
        }
        _ if is_mark(token, '.') => format!("a number begins with a digit: `{meant}`"),
        TokenTree::Group(_) => format!("`{key}` is written without brackets: `{meant}`"),
        TokenTree::Literal(_) => format!("`{key}` is written without quotes: `{meant}`"),
        TokenTree::Ident(_) if token.to_string() != "true" && token.to_string() != "false" => format!(
            "expected a number, such as `{}`, found {}; a macro sees the name of a constant, not its value",
            entry.example(),
            found(token)
        ),
        _ => format!("expected a number, such as `{}`, found {}", entry.example(), found(token)),
    }
}

/// How many numbers a setting's value has.
fn count_of(setting: &str) -> usize {
    match setting {
        "input" => 3,
        "decoder" => 2,
        _ => 1,
    }
}

/// The setting as it was probably meant: with the numbers that were written, or else an example's.
fn meant(entry: &Entry) -> String {
    let text: String = entry.value.iter().map(|token| format!("{token} ")).collect();
    let is_share = matches!(&*entry.name, "drop_path" | "mask");
    let numbers = numbers_in(&text);
    match numbers[..] {
        [decimals] if is_share && text.trim_start().starts_with('.') => format!("{}: 0.{decimals}", entry.name),
        [whole, decimals] if is_share && text.contains(',') => format!("{}: {whole}.{decimals}", entry.name),
        [percent] if is_share && text.contains('%') => format!("{}: {}", entry.name, percent as f64 / 100.0),
        [one, other] if count_of(&entry.name) == 1 => match worked_out(one, other, &text) {
            Some(value) => format!("{}: {value}", entry.name),
            None => entry.example(),
        },
        _ if !is_share && numbers.len() == count_of(&entry.name) => {
            let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
            format!("{}: {}", entry.name, numbers.join(" x "))
        }
        _ => entry.example(),
    }
}

/// `10` for `2 * 5`, where that is a number that could be meant.
fn worked_out(one: u64, other: u64, text: &str) -> Option<f64> {
    let result = match text.chars().find(|letter| "+-*/".contains(*letter))? {
        '+' => one.checked_add(other)? as f64,
        '-' => one.checked_sub(other)? as f64,
        '*' => one.checked_mul(other)? as f64,
        _ if other > 0 => one as f64 / other as f64,
        _ => return None,
    };
    Some(result)
}

/// The value is at its end; `rest` is what stands there all the same.
fn nothing_after(rest: &[Piece], entry: &Entry) -> Result<(), Fault> {
    let Some(next) = rest.first() else { return Ok(()) };
    let (key, meant) = (&entry.name, meant(entry));
    let is_number = matches!(&**key, "input" | "decoder" | "stem" | "head" | "kernel" | "patch" | "drop_path" | "mask");
    let is_product = count_of(key) > 1;
    let is_operator = ['*', '+', '-', '/'].iter().any(|operator| next.is_mark(*operator));
    let is_joint = is_product && (is_operator || next.is_comma() || next.word().is_some_and(|word| word == "by"));
    let message = match next {
        Piece::Wrong((_, why)) if is_number => why.clone(),
        Piece::Number(number) if is_product => {
            format!("an `x` is missing between two numbers: `{meant}`, before `{}`", number.value)
        }
        Piece::Number(_) if is_number => {
            format!("`{key}` is one number; digits are grouped by `_`, such as `1_000`")
        }
        _ if is_joint => format!("sizes are joined by `x`: `{meant}`"),
        _ if is_number && is_operator => format!("`{key}` is one number, worked out: `{meant}`"),
        _ if is_number && next.is_mark('%') => format!("a share is a number below 1: `{meant}`"),
        _ if is_number && next.is_comma() => match &**key {
            "drop_path" | "mask" => format!("decimals follow a point: `{meant}`"),
            _ => format!("`{key}` is one number: `{}`", entry.example()),
        },
        _ => format!("expected a comma or the end after the value of `{key}`, found {}", next.found()),
    };
    Err((next.span(), message))
}

fn word<'a>(entry: &Entry, options: &[&'a str], errors: &mut Errors) -> Result<&'a str, Wrong> {
    let (token, rest) = first(entry).or_else(|fault| refuse(errors, fault))?;
    let text = token.to_string();
    let bare = text.trim_matches('"');
    match options.iter().find(|option| **option == text) {
        Some(option) => nothing_after(&pieces(rest), entry).map(|()| *option),
        None if text != bare && options.contains(&bare) => {
            Err((token.span(), format!("write `{}: {bare}`, without quotes", entry.name)))
        }
        None => {
            let message =
                format!("unknown value {} of `{}`{}", found(token), entry.name, suggest::did_you_mean(&text, options));
            Err((token.span(), message))
        }
    }
    .or_else(|fault| refuse(errors, fault))
}

fn refuse<T>(errors: &mut Errors, (span, message): Fault) -> Result<T, Wrong> {
    errors.add(span, message);
    Err(Wrong)
}
