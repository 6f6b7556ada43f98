//! Numbers as they are written: sizes joined by `x`, and decimals.

use crate::ast::{Fraction, Number};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

/// Decimals of a fraction; more would not change an `f32`.
const MAX_SCALE: u32 = 9;

/// A token that is wrong, and why.
pub(super) type Fault = (Span, String);

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

/// Whether a token is this punctuation mark.
pub(super) fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// What a product is made of.
#[derive(Debug)]
pub(super) enum Piece {
    Number(Number),
    /// The `x` between two.
    Times(Span),
    /// A literal that is no size.
    Wrong(Fault),
    /// Anything else.
    Other(TokenTree),
}

impl Piece {
    pub(super) fn span(&self) -> Span {
        match self {
            Self::Number(number) => number.span,
            Self::Times(span) | Self::Wrong((span, _)) => *span,
            Self::Other(token) => token.span(),
        }
    }

    /// As messages quote it.
    pub(super) fn found(&self) -> String {
        match self {
            Self::Number(number) => format!("`{}`", number.value),
            Self::Times(_) => "`x`".into(),
            Self::Wrong(_) => "what is no number".into(),
            Self::Other(token) => found(token),
        }
    }

    pub(super) fn is_mark(&self, mark: char) -> bool {
        matches!(self, Self::Other(token) if is_mark(token, mark))
    }

    pub(super) fn is_comma(&self) -> bool {
        self.is_mark(',')
    }

    /// The word that it is, if it is one.
    pub(super) fn word(&self) -> Option<String> {
        match self {
            Self::Other(TokenTree::Ident(word)) => Some(word.to_string()),
            _ => None,
        }
    }
}

/// Takes tokens apart where Rust's lexer did not: it reads `40 x 2` as three tokens, `40 x2` and `40x 2` as two and
/// `40x2` as one, a number with a suffix.
pub(super) fn pieces(tokens: &[TokenTree]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for token in tokens {
        let text = token.to_string();
        match token {
            TokenTree::Literal(_) => take_apart(&text, token.span(), &mut pieces),
            TokenTree::Ident(_) if joins(&text, 'x') => take_apart(&text, token.span(), &mut pieces),
            TokenTree::Ident(_) if joins(&text, 'X') => pieces.push(Piece::Wrong((token.span(), CAPITAL.into()))),
            other => pieces.push(Piece::Other(other.clone())),
        }
    }
    pieces
}

const CAPITAL: &str = "sizes are joined by a small `x`, such as `40 x 2`";

/// Whether a word is the `x` of a product, alone or with what stands close to it.
fn joins(word: &str, times: char) -> bool {
    word.starts_with(times) && word.chars().all(|letter| letter == times || letter.is_ascii_digit())
}

fn take_apart(text: &str, span: Span, pieces: &mut Vec<Piece>) {
    if let Some(why) = no_size(text) {
        return pieces.push(Piece::Wrong((span, why)));
    }
    for (index, part) in text.split('x').enumerate() {
        if index > 0 {
            pieces.push(Piece::Times(span));
        }
        if !part.is_empty() {
            pieces.push(
                whole(part).map_or_else(|why| Piece::Wrong((span, why)), |value| Piece::Number(Number { value, span })),
            );
        }
    }
}

/// Why a literal is neither a size nor sizes joined by `x`, if that shows before it is taken apart.
fn no_size(text: &str) -> Option<String> {
    if let Some(bare) = quoted(text) {
        Some(format!("expected a number, found {text}; write `{bare}`, without quotes"))
    } else if ["0x", "0b", "0o"].iter().any(|prefix| text.starts_with(prefix)) {
        Some(format!("Rust reads `{text}` as one number; sizes are decimal, with spaces around `x`"))
    } else if text.contains('X') {
        let sizes: Vec<_> = text.split(['x', 'X']).filter(|part| !part.is_empty()).collect();
        Some(format!("sizes are joined by a small `x`: `{}`", sizes.join(" x ")))
    } else {
        None
    }
}

/// What stands between the quotes of a literal, if it has any.
pub(super) fn quoted(literal: &str) -> Option<&str> {
    let quote = literal.chars().next_back().filter(|last| "\"'".contains(*last))?;
    let (_, rest) = literal.split_once(quote)?;
    Some(rest.trim_end_matches(quote))
}

fn whole(text: &str) -> Result<u64, String> {
    let digits = text.replace('_', "");
    if let Ok(value) = digits.parse() {
        return Ok(value);
    }
    if digits.chars().all(|letter| letter.is_ascii_digit()) {
        return Err(format!("`{text}` is too large for any size"));
    }
    let leading = || digits.chars().take_while(char::is_ascii_digit).collect::<String>();
    let meant = digits.parse::<f64>().map_or_else(|_| leading(), |value| value.round().to_string());
    Err(match meant.as_str() {
        "" => format!("expected a whole number, found `{text}`"),
        meant => format!("expected a whole number, found `{text}`; did you mean `{meant}`?"),
    })
}

/// Numbers joined by `x` at the start of `pieces`, at least one, and what follows them. `expected` says what should
/// stand where a token is that is no number.
pub(super) fn product<'a>(
    mut pieces: &'a [Piece],
    expected: &dyn Fn(&TokenTree) -> String,
) -> Result<(Vec<Number>, &'a [Piece]), Fault> {
    let mut numbers = Vec::new();
    let mut times = None;
    loop {
        pieces = match (pieces, times) {
            ([Piece::Number(number), rest @ ..], _) => {
                numbers.push(*number);
                rest
            }
            ([Piece::Wrong(fault), ..], _) => return Err(fault.clone()),
            ([Piece::Times(span), ..], _) => return Err((*span, "expected a number before this `x`".into())),
            ([Piece::Other(token), ..], Some(span)) if is_mark(token, ',') => return Err((span, AFTER.into())),
            ([Piece::Other(token), ..], _) => return Err((token.span(), expected(token))),
            ([], Some(span)) => return Err((span, AFTER.into())),
            ([], None) => return Ok((numbers, pieces)),
        };
        let [Piece::Times(span), rest @ ..] = pieces else { return Ok((numbers, pieces)) };
        times = Some(*span);
        pieces = rest;
    }
}

const AFTER: &str = "expected a number after this `x`";

/// The whole numbers in a text; none if one has decimals.
pub(super) fn numbers_in(text: &str) -> Vec<u64> {
    let digits = text.split(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != '_');
    let digits = digits.map(|part| part.replace('_', "")).filter(|part| !part.is_empty());
    digits.map(|part| part.parse()).collect::<Result<_, _>>().unwrap_or_default()
}

/// A literal such as `0.6`, exactly; `form` is how such a value is written.
pub(super) fn decimal(text: &str, span: Span, form: &str) -> Result<Fraction, Fault> {
    let digits = text.replace('_', "");
    let (whole, decimals) = digits.split_once('.').unwrap_or((&digits, ""));
    let decimals = decimals.trim_end_matches('0');
    let digits = format!("{whole}{decimals}");
    if !digits.chars().all(|letter| letter.is_ascii_digit()) {
        return Err((span, format!("expected a plain decimal number, such as `{form}`, found `{text}`")));
    }
    let scale = decimals.len() as u32;
    match digits.parse() {
        Ok(digits) if scale <= MAX_SCALE => Ok(Fraction { digits, scale, span }),
        _ => Err((span, format!("`{text}` has too many digits; at most {MAX_SCALE} decimals count"))),
    }
}
