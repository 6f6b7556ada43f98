//! The list of stages: `[dim x depth kernel k, ...]`. A mistake ends at the next comma, so that all are found.

use super::number::{Fault, Piece, found, numbers_in, pieces, product};
use crate::ast::{Number, Stage};
use crate::error::{Errors, Wrong};
use crate::suggest;
use proc_macro2::TokenTree;

/// Reads the stages between the brackets; one that is wrong is reported, and still counts.
pub(super) fn list(tokens: &[TokenTree], errors: &mut Errors) -> Vec<Result<Stage, Wrong>> {
    let pieces = pieces(tokens);
    let mut rest = pieces.as_slice();
    let mut stages = Vec::new();
    while let [first, tail @ ..] = rest {
        if first.is_comma() {
            errors.add(first.span(), "a comma with no stage before it; remove it");
            rest = tail;
            continue;
        }
        let index = stages.len() + 1;
        if first.word().is_some_and(|word| word == "kernel") {
            let message = "a kernel size follows its stage's depth without a comma, such as `40 x 2 kernel 5`";
            errors.add(first.span(), message);
            rest = separator(skip(rest), index, errors);
            continue;
        }
        let (stage, after) = match stage(rest) {
            Ok((stage, after)) => (Ok(stage), after),
            Err((span, why)) => {
                errors.add(span, format!("stage {index}: {why}"));
                (Err(Wrong), skip(rest))
            }
        };
        stages.push(stage);
        rest = separator(after, index, errors);
    }
    stages
}

fn skip(pieces: &[Piece]) -> &[Piece] {
    let comma = pieces.iter().position(Piece::is_comma);
    &pieces[comma.unwrap_or(pieces.len())..]
}

/// What follows the comma, or what was written in its place.
fn separator<'a>(pieces: &'a [Piece], index: usize, errors: &mut Errors) -> &'a [Piece] {
    let [first, rest @ ..] = pieces else { return pieces };
    if first.is_comma() {
        return rest;
    }
    let begins_stage = |pieces: &[Piece]| matches!(pieces, [Piece::Number(_), Piece::Times(_), ..]);
    if begins_stage(pieces) {
        errors.add(first.span(), format!("a comma is missing between stage {index} and stage {}", index + 1));
        return pieces;
    }
    let is_mark = |piece: &&Piece| matches!(piece, Piece::Other(TokenTree::Punct(_))) && !piece.is_comma();
    let marks = pieces.iter().take_while(is_mark).count();
    if marks > 0 && begins_stage(&pieces[marks..]) {
        let written: String = pieces[..marks].iter().map(|mark| mark.found().replace('`', "")).collect();
        errors.add(first.span(), format!("stages are separated by commas, not by `{written}`"));
        return &pieces[marks..];
    }
    let message = match (first.is_mark(';'), rest) {
        (true, [Piece::Number(_)]) => "stages are not repeated by `;`; write each of them".to_string(),
        _ => format!("expected a comma or `kernel 5`, found {}", first.found()),
    };
    errors.add(first.span(), format!("stage {index}: {message}"));
    skip(pieces).get(1..).unwrap_or_default()
}

/// The stage that `pieces` begin with, and what follows it.
fn stage(pieces: &[Piece]) -> Result<(Stage, &[Piece]), Fault> {
    let (numbers, rest) = product(pieces, &expected)?;
    let (dim, depth) = match numbers[..] {
        [dim, depth] => (dim, depth),
        [dim, depth, kernel, ..] => {
            let message = format!(
                "only dim x depth are joined by `x`; for a kernel size write `{} x {} kernel {}`",
                dim.value, depth.value, kernel.value
            );
            return Err((kernel.span, message));
        }
        [dim] => return Err(depth_missing(dim, rest)),
        [] => unreachable!("a product has a number"),
    };
    match rest {
        [Piece::Other(TokenTree::Ident(word)), rest @ ..] if word == "kernel" => {
            let (kernel, rest) = kernel(word.span(), rest)?;
            Ok((Stage { dim, depth, kernel: Some(kernel) }, rest))
        }
        [Piece::Other(TokenTree::Ident(word)), ..] => {
            let hint = suggest::did_you_mean(&word.to_string(), &["kernel"]);
            Err((word.span(), format!("unknown setting `{word}`{hint}")))
        }
        [Piece::Number(number), rest @ ..] if !matches!(rest, [Piece::Times(_), ..]) => {
            let (dim, depth, kernel) = (dim.value, depth.value, number.value);
            let message = format!("for a kernel size write `{dim} x {depth} kernel {kernel}`");
            Err((number.span, message))
        }
        [Piece::Wrong(fault), ..] => Err(fault.clone()),
        rest => Ok((Stage { dim, depth, kernel: None }, rest)),
    }
}

/// What is wrong with a token where a stage's number should be.
fn expected(token: &TokenTree) -> String {
    let sizes = numbers_in(&token.to_string());
    match (token, &sizes[..]) {
        (TokenTree::Group(_), [dim, depth]) => format!("write `{dim} x {depth}`, without brackets"),
        (TokenTree::Punct(minus), _) if minus.as_char() == '-' => {
            "a size cannot be negative; expected dim x depth, such as `40 x 2`".into()
        }
        _ => format!("expected dim x depth, such as `40 x 2`, in numbers, found {}", found(token)),
    }
}

fn depth_missing(dim: Number, rest: &[Piece]) -> Fault {
    let value = dim.value;
    match rest {
        [Piece::Number(depth), ..] => {
            (depth.span, format!("an `x` is missing between two numbers: `{value} x {}`", depth.value))
        }
        [Piece::Wrong(fault), ..] => fault.clone(),
        [joint, Piece::Number(depth), ..] if !joint.is_comma() && joint.word().is_none_or(|word| word != "kernel") => {
            let message = format!("expected `x` and the depth after `{value}`, such as `{value} x {}`", depth.value);
            (joint.span(), format!("{message}, found {}", joint.found()))
        }
        _ => (dim.span, format!("`{value}` lacks its depth, the number of blocks: `{value} x 2`")),
    }
}

/// `k` after the word `kernel`, and what follows it.
fn kernel(word: proc_macro2::Span, pieces: &[Piece]) -> Result<(Number, &[Piece]), Fault> {
    match pieces {
        [Piece::Number(_), Piece::Times(span), ..] => {
            Err((*span, "kernels are square; write one side, such as `kernel 5`".into()))
        }
        [Piece::Number(kernel), rest @ ..] => Ok((*kernel, rest)),
        [Piece::Wrong(fault), ..] => Err(fault.clone()),
        [mark, ..] if mark.is_mark(':') || mark.is_mark('=') => Err((
            mark.span(),
            format!("in a stage a kernel size follows its word, `kernel 5`, without {}", mark.found()),
        )),
        [other, ..] if !other.is_comma() => {
            Err((other.span(), "expected one number after `kernel`, such as `kernel 5`".into()))
        }
        _ => Err((word, "expected one number after `kernel`, such as `kernel 5`".into())),
    }
}
