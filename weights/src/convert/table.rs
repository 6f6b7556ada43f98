//! Tables between names and layouts: one row per module, one part per tensor of it.
//!
//! A part says which of our axes each axis of the other layout is, so that a table can be read in both directions.

pub(super) use convnext_core::network::names::ENCODER;

/// An axis of length 1 that only the other layout has.
pub(super) const ONE: usize = usize::MAX;

/// One tensor of a module.
#[derive(Debug)]
pub(super) struct Part {
    ours: &'static str,
    theirs: &'static str,
    axes: Axes,
}

/// The order of the other layout's axes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axes {
    /// For each axis of theirs, which axis of ours it is, or [`ONE`].
    order: &'static [usize],
    /// How many of them, from the first, are written as one.
    merged: usize,
}

/// A part of one name on both sides.
pub(super) const fn part(name: &'static str, order: &'static [usize]) -> Part {
    renamed(name, name, order)
}

/// A part that is called `theirs` on the other side.
pub(super) const fn renamed(ours: &'static str, theirs: &'static str, order: &'static [usize]) -> Part {
    Part { ours, theirs, axes: Axes { order, merged: 1 } }
}

impl Part {
    /// The same, with their first `count` axes written as one.
    pub(super) const fn merging(mut self, count: usize) -> Self {
        self.axes.merged = count;
        self
    }
}

/// A module of one of the network's parts, and its name on the other side; `{}` at the end of a piece stands for a number,
/// and the numbers come in the same order.
#[derive(Debug)]
pub(super) struct Row {
    part: &'static str,
    module: &'static str,
    theirs: &'static str,
    parts: &'static [Part],
}

/// A row. A module that is empty has its tensors in the part itself; one that is empty on the other side, at the top there.
pub(super) const fn row(part: &'static str, module: &'static str, theirs: &'static str, parts: &'static [Part]) -> Row {
    Row { part, module, theirs, parts }
}

/// A table, and what goes before the names of the encoder's rows.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) encoder: &'static str,
    pub(super) rows: &'static [&'static [Row]],
}

impl Naming {
    /// Their name and axes of our tensor `name` of `rank` axes; `None` if the table has no row for it.
    pub(super) fn translate(&self, name: &str, rank: usize) -> Option<(String, Axes)> {
        self.parts().filter(|(.., axes)| axes.rank() == rank).find_map(|(ours, theirs, axes)| {
            let numbers = match_pattern(&ours, name)?;
            Some((fill(&theirs, &numbers), axes))
        })
    }

    /// Whether their tensor `name` belongs to the encoder.
    pub(super) fn is_encoder(&self, name: &str) -> bool {
        self.parts().any(|(ours, theirs, _)| ours.starts_with(ENCODER) && match_pattern(&theirs, name).is_some())
    }

    /// Our names of everything that the table has.
    #[cfg(test)]
    pub(super) fn patterns(&self) -> impl Iterator<Item = String> + '_ {
        self.parts().map(|(ours, ..)| ours)
    }

    /// All patterns: ours, theirs, axes.
    fn parts(&self) -> impl Iterator<Item = (String, String, Axes)> + '_ {
        self.rows.iter().copied().flatten().flat_map(move |row| {
            let prefix = if row.part.starts_with(ENCODER) { self.encoder } else { "" };
            row.parts.iter().map(move |part| {
                (
                    join(row.part, &join(row.module, part.ours)),
                    format!("{prefix}{}", join(row.theirs, part.theirs)),
                    part.axes,
                )
            })
        })
    }
}

fn join(module: &str, tensor: &str) -> String {
    if module.is_empty() { tensor.to_owned() } else { format!("{module}.{tensor}") }
}

/// The numbers at the places of `{}`, if `name` follows `pattern`.
fn match_pattern<'n>(pattern: &str, name: &'n str) -> Option<Vec<&'n str>> {
    let (mut wanted, mut found) = (pattern.split('.'), name.split('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut numbers = Vec::new();
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Some(numbers),
            (Some(wanted), Some(found)) => match wanted.strip_suffix("{}") {
                Some(start) => numbers.push(found.strip_prefix(start).filter(|number| is_number(number))?),
                None if wanted == found => {}
                None => return None,
            },
            _ => return None,
        }
    }
}

/// Whether `name` follows `pattern`.
#[cfg(test)]
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    match_pattern(pattern, name).is_some()
}

fn fill(pattern: &str, numbers: &[&str]) -> String {
    let mut filled = String::new();
    let mut pieces = pattern.split("{}");
    filled.push_str(pieces.next().unwrap_or_default());
    for (number, piece) in numbers.iter().zip(pieces) {
        filled.push_str(number);
        filled.push_str(piece);
    }
    filled
}

impl Axes {
    /// Axes of our tensor.
    fn rank(&self) -> usize {
        self.order.iter().filter(|&&axis| axis != ONE).count()
    }

    /// Their shape of our tensor of `shape`.
    pub(super) fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let sides: Vec<usize> = self.order.iter().map(|&axis| if axis == ONE { 1 } else { shape[axis] }).collect();
        let (merged, rest) = sides.split_at(self.merged);
        std::iter::once(merged.iter().product()).chain(rest.iter().copied()).collect()
    }

    /// For each element of theirs, in their order, where it lies in our tensor of `shape`.
    pub(super) fn places(&self, shape: &[usize]) -> impl Iterator<Item = usize> + use<> {
        let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
        let real = self.order.iter().filter(|&&axis| axis != ONE);
        let axes: Vec<(usize, usize)> = real.map(|&axis| (shape[axis], stride(axis))).collect();
        let mut index = vec![0; axes.len()];
        let mut place = 0;
        (0..shape.iter().product()).map(move |_| {
            let here = place;
            for (index, &(size, stride)) in index.iter_mut().zip(&axes).rev() {
                (*index, place) = (*index + 1, place + stride);
                if *index < size {
                    break;
                }
                (*index, place) = (0, place - size * stride);
            }
            here
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_with_their_numbers() {
        assert_eq!(match_pattern("a.{}.b.{}", "a.12.b.3"), Some(vec!["12", "3"]));
        assert_eq!(match_pattern("a.{}", "a.b"), None);
        assert_eq!(match_pattern("a.{}", "a.1.weight"), None);
        assert_eq!(match_pattern("a.{}", "a"), None);
        assert_eq!(match_pattern("a_{}.b", "a_7.b"), Some(vec!["7"]));
        assert_eq!(match_pattern("a_{}.b", "a_.b"), None);
        assert_eq!(fill("x.{}.{}.y", &["4", "5"]), "x.4.5.y");
        assert_eq!(fill("x_{}.y.{}", &["4", "5"]), "x_4.y.5");
    }

    #[test]
    fn places_follow_the_axes() {
        // Ours [2, 3]; theirs [3, 1, 2] is the transpose with an axis between.
        let axes = part("", &[1, ONE, 0]).axes;
        assert_eq!(axes.shape(&[2, 3]), [3, 1, 2]);
        assert_eq!(axes.places(&[2, 3]).collect::<Vec<_>>(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(part("", &[ONE, 0]).axes.places(&[4]).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(part("", &[1, 0]).axes.places(&[2, 0]).count(), 0);
        // Merging changes the shape, not the order.
        let merged = part("", &[1, 0, 2]).merging(2).axes;
        assert_eq!(merged.shape(&[2, 3, 1]), [6, 1]);
        assert_eq!(merged.places(&[2, 3, 1]).collect::<Vec<_>>(), [0, 3, 1, 4, 2, 5]);
    }
}
