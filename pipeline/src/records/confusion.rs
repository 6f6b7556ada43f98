//! Which classes were taken for which.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How often each label was given each answer: the counts that are not zero, since of thousands of classes squared
/// nearly all are.
///
/// In JSON `{"counts": [[label, predicted, count], ...]}`, ascending. Files with a row for each label and in it a count for
/// each answer are read too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Confusion {
    counts: Vec<(usize, usize, u64)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Counts { counts: Vec<(usize, usize, u64)> },
    Matrix(Vec<Vec<u64>>),
}

impl Confusion {
    /// Label, predicted class and how often, each pair once, ascending; no count is 0.
    pub fn counts(&self) -> &[(usize, usize, u64)] {
        &self.counts
    }

    /// How often the class `label` was taken for `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        let place = self.counts.binary_search_by_key(&(label, predicted), |&(label, predicted, _)| (label, predicted));
        place.map_or(0, |place| self.counts[place].2)
    }
}

/// From any order; counts of a pair that comes again are added.
impl FromIterator<(usize, usize, u64)> for Confusion {
    fn from_iter<I: IntoIterator<Item = (usize, usize, u64)>>(counts: I) -> Self {
        let mut sums = BTreeMap::<_, u64>::new();
        for (label, predicted, count) in counts.into_iter().filter(|&(.., count)| count > 0) {
            let sum = sums.entry((label, predicted)).or_default();
            *sum = sum.saturating_add(count);
        }
        Self { counts: sums.into_iter().map(|((label, predicted), count)| (label, predicted, count)).collect() }
    }
}

impl From<Written> for Confusion {
    fn from(written: Written) -> Self {
        match written {
            Written::Counts { counts } => counts.into_iter().collect(),
            Written::Matrix(rows) => rows.into_iter().enumerate().flat_map(row).collect(),
        }
    }
}

fn row((label, counts): (usize, Vec<u64>)) -> impl Iterator<Item = (usize, usize, u64)> {
    counts.into_iter().enumerate().map(move |(predicted, count)| (label, predicted, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_written() {
        let confusion: Confusion = [(21_840, 3, 2), (0, 0, 5), (7, 7, 0), (21_840, 3, 1)].into_iter().collect();
        let text = serde_json::to_string(&confusion).unwrap();
        assert_eq!(text, r#"{"counts":[[0,0,5],[21840,3,3]]}"#);
        assert_eq!(serde_json::from_str::<Confusion>(&text).unwrap(), confusion);
        assert_eq!([confusion.count(21_840, 3), confusion.count(0, 0), confusion.count(7, 7)], [3, 5, 0]);
    }

    /// As it was written once.
    #[test]
    fn a_matrix_is_read() {
        let read = |text| serde_json::from_str::<Confusion>(text);
        assert_eq!(read("[[3,0,1],[],[0,2]]").unwrap().counts(), [(0, 0, 3), (0, 2, 1), (2, 1, 2)]);
        assert_eq!(read("[]").unwrap(), Confusion::default());
        assert!(read("[[-1]]").is_err());
    }
}
