//! Numbers and words for readers.

use crate::records::Weights;

/// What stands where there is no number.
pub(super) const NONE: &str = "\u{2013}";
/// What stands for infinity and for what is no number.
pub(super) const NOT_FINITE: &str = "not finite";
/// Letters of a name that a page shows.
const LETTERS: usize = 120;

/// A name from a file, of a length that a page can carry.
pub(super) fn name(name: &str) -> String {
    match name.char_indices().nth(LETTERS) {
        Some((end, _)) => format!("{}\u{2026}", &name[..end]),
        None => name.to_owned(),
    }
}

/// `3.7 M`, three significant digits; zero is unknown.
pub(super) fn count(value: u64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(unit, _)| value as f64 >= *unit) {
        _ if value == 0 => NONE.to_owned(),
        Some((unit, name)) => format!("{}\u{a0}{name}", significant(value as f64 / unit)),
        None => value.to_string(),
    }
}

/// Three significant digits, without an exponent where one can be avoided.
pub(super) fn significant(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => NOT_FINITE.to_owned(),
        0.0 => "0".to_owned(),
        size if !(1e-3..1e5).contains(&size) => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A label on an axis: as short as it can be.
pub(super) fn tick(value: f64) -> String {
    match value.abs() {
        size if size < 1e-12 => "0".to_owned(),
        size if size >= 1e6 => trim(format!("{:.2}", value / 1e6)) + "M",
        size if size >= 1e4 => trim(format!("{:.1}", value / 1e3)) + "k",
        size if size < 1e-3 => exponent(value),
        _ => trim(format!("{value:.4}")),
    }
}

/// Passes over the data: `12`, `2.7`.
pub(super) fn epochs(value: f64) -> String {
    trim(format!("{value:.2}"))
}

/// `6e-4`, `1.5e-5`.
fn exponent(value: f64) -> String {
    let text = format!("{value:.2e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{exponent}", trim(digits.to_owned()))
}

fn trim(digits: String) -> String {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.').to_owned() } else { digits }
}

/// `91.3 %` of a share between 0 and 1.
pub(super) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}\u{a0}%", share * 100.0) } else { NOT_FINITE.to_owned() }
}

/// `42.0 s`, `3 min 20 s`, `2 h 5 min`; zero is unknown.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if !seconds.is_finite() || seconds <= 0.0 => NONE.to_owned(),
        0..60 => format!("{seconds:.1}\u{a0}s"),
        60..3600 => format!("{}\u{a0}min {}\u{a0}s", whole / 60, whole % 60),
        _ => format!("{}\u{a0}h {}\u{a0}min", whole / 3600, whole % 3600 / 60),
    }
}

/// Which weights were measured, in words.
pub(super) fn weights(weights: Weights) -> &'static str {
    match weights {
        Weights::Ema => "moving average (ema)",
        Weights::Model => "as trained",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([0, 999, 3_708_400, 28_635_496].map(count), [NONE, "999", "3.71\u{a0}M", "28.6\u{a0}M"]);
        assert_eq!([0.0, 0.41, 812.3, 6e-4, f64::NAN].map(significant), ["0", "0.410", "812", "6.00e-4", NOT_FINITE]);
        assert_eq!([0.0, 6e-4, 1.5e-5, 0.25, 20.0, 12500.0].map(tick), ["0", "6e-4", "1.5e-5", "0.25", "20", "12.5k"]);
        assert_eq!(percent(0.8934), "89.3\u{a0}%");
        assert_eq!(
            [4.04, 200.0, 7500.0, f64::NAN].map(duration),
            ["4.0\u{a0}s", "3\u{a0}min 20\u{a0}s", "2\u{a0}h 5\u{a0}min", NONE]
        );
    }
}
