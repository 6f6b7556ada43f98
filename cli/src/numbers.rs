//! Numbers as people read them.

/// `3.71 M`: three or four digits and a decimal prefix.
pub(crate) fn short(value: u64) -> String {
    let (scale, unit) = match value {
        0..1_000 => return value.to_string(),
        1_000..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        _ => (1e9, "G"),
    };
    format!("{:.2} {unit}", value as f64 / scale)
}

/// `12.3 MiB`.
pub(crate) fn bytes(value: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|&(size, _)| value >= size) {
        Some((size, unit)) => format!("{:.1} {unit}", value as f64 / size as f64),
        None => format!("{value} bytes"),
    }
}

/// `40-80-160-320`.
pub(crate) fn joined(values: impl Iterator<Item = usize>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        assert_eq!([short(999), short(3_710_000), short(115_000_000_000)], ["999", "3.71 M", "115.00 G"]);
        assert_eq!([bytes(12), bytes(3 << 19)], ["12 bytes", "1.5 MiB"]);
        assert_eq!(joined([1, 2].into_iter()), "1-2");
    }
}
