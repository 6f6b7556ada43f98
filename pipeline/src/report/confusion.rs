//! Which classes are taken for which.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::format;
use crate::records::{Confusion, Evaluation};

/// Classes beyond which the matrix is left out: nobody reads a million cells.
const MATRIX: usize = 40;
/// Classes beyond which its cells are small on paper.
const MANY: usize = 16;
/// Rows of the tables of pairs and of classes.
const PAIRS: usize = 12;
const CLASSES: usize = 40;

/// Confusion matrix, most confused pairs and recall by class.
pub(super) fn section(evaluation: &Evaluation) -> Markup {
    let counts = Counts::of(evaluation);
    html! {
        @if counts.classes() == 0 {
            p.missing { "No confusion matrix: " code { "evaluation.json" } " has no counts." }
        } @else {
            @if counts.classes() <= MATRIX { (matrix(evaluation, &counts)) } @else {
                p.quiet { "A grid of " (counts.classes()) " classes squared could not be read; below are the worst of them." }
            }
            div.tables { (recalls(evaluation, &counts)) (pairs(evaluation, &counts)) }
        }
    }
}

fn name_of(evaluation: &Evaluation, label: usize) -> String {
    format::name(&evaluation.class(label))
}

/// The counts, and their sums by class.
struct Counts<'a> {
    confusion: &'a Confusion,
    labelled: BTreeMap<usize, u64>,
    predicted: BTreeMap<usize, u64>,
}

impl<'a> Counts<'a> {
    fn of(evaluation: &'a Evaluation) -> Self {
        let confusion = &evaluation.confusion;
        let (mut labelled, mut predicted) = (BTreeMap::new(), BTreeMap::new());
        for &(label, answer, count) in confusion.counts() {
            for sum in [labelled.entry(label).or_insert(0), predicted.entry(answer).or_insert(0)] {
                *sum = u64::saturating_add(*sum, count);
            }
        }
        Self { confusion, labelled, predicted }
    }

    /// The largest class that occurs, + 1.
    fn classes(&self) -> usize {
        let last = [&self.labelled, &self.predicted].map(|sums| sums.keys().next_back().copied());
        last.into_iter().max().flatten().map_or(0, |last| last.saturating_add(1))
    }

    fn count(&self, label: usize, predicted: usize) -> u64 {
        self.confusion.count(label, predicted)
    }

    fn labelled(&self, class: usize) -> u64 {
        self.labelled.get(&class).copied().unwrap_or(0)
    }

    /// Harmonic mean of recall and precision: twice the images recognised over those of the class and those called so.
    fn f1(&self, class: usize) -> f64 {
        let either = self.labelled(class) + self.predicted(class);
        2.0 * self.count(class, class) as f64 / either.max(1) as f64
    }

    /// Mean over the classes that have images.
    fn mean_f1(&self) -> f64 {
        self.labelled.keys().map(|&class| self.f1(class)).sum::<f64>() / self.labelled.len().max(1) as f64
    }

    fn predicted(&self, class: usize) -> u64 {
        self.predicted.get(&class).copied().unwrap_or(0)
    }

    /// Share of the label's samples; 0 if it has none.
    fn share(&self, label: usize, predicted: usize) -> f64 {
        self.count(label, predicted) as f64 / self.labelled(label).max(1) as f64
    }

    /// Label, predicted, count of every confusion that happened, the most frequent first.
    fn confusions(&self) -> Vec<(usize, usize, u64)> {
        let counts = self.confusion.counts().iter().copied();
        let mut wrong: Vec<_> = counts.filter(|&(label, predicted, _)| label != predicted).collect();
        wrong.sort_by_key(|&(.., count)| std::cmp::Reverse(count));
        wrong
    }
}

fn matrix(evaluation: &Evaluation, counts: &Counts<'_>) -> Markup {
    let classes = 0..counts.classes();
    html! {
        h4 { "Confusion" }
        p.quiet {
            "Rows are labels, columns what the model said: the share of the row in percent, and the number of images. "
            "Colours are by the square root of the share, so that rare confusions show."
        }
        div.wide { table.matrix.many[counts.classes() > MANY] {
            thead { tr {
                td {}
                @for class in classes.clone() { th scope="col" { span { (name_of(evaluation, class)) } } }
            } }
            tbody { @for label in classes.clone() { tr {
                th scope="row" { (name_of(evaluation, label)) }
                @for predicted in classes.clone() { (cell(evaluation, counts, label, predicted)) }
            } } }
        } }
    }
}

fn cell(evaluation: &Evaluation, counts: &Counts<'_>, label: usize, predicted: usize) -> Markup {
    let (share, count) = (counts.share(label, predicted), counts.count(label, predicted));
    if count == 0 {
        return html! { td.right[label == predicted] {} };
    }
    let depth = share.sqrt();
    let title = format!("{} \u{2192} {}: {count}", name_of(evaluation, label), name_of(evaluation, predicted));
    html! {
        td.right[label == predicted].wrong[label != predicted].deep[depth > 0.6] style=(format!("--depth:{depth:.2}")) title=(title) {
            b { (whole_percent(share)) } small { (count) }
        }
    }
}

/// Without the sign; a rare confusion is not none.
fn whole_percent(share: f64) -> String {
    if share < 0.01 { "<1".to_owned() } else { format!("{:.0}", share * 100.0) }
}

fn recalls(evaluation: &Evaluation, counts: &Counts<'_>) -> Markup {
    let mut classes: Vec<usize> = counts.labelled.keys().copied().collect();
    classes.sort_by(|&a, &b| counts.share(a, a).total_cmp(&counts.share(b, b)));
    let left_out = classes.len().saturating_sub(CLASSES);
    html! {
        div.wide { table {
            caption { "Classes, the worst recall first" small { "recall: of its images, those recognised; precision: of the images called so, those that are; F1: their harmonic mean. Mean F1 of all classes: " (format::percent(counts.mean_f1())) "." } }
            thead { tr { th { "class" } th.number { "images" } th.number { "recall" } th {} th.number { "precision" } th.number { "F1" } } }
            tbody { @for &class in classes.iter().take(CLASSES) { (recall(evaluation, counts, class)) } }
        }
        @if left_out > 0 { p.quiet { "and " (left_out) " better classes" } } }
    }
}

fn recall(evaluation: &Evaluation, counts: &Counts<'_>, class: usize) -> Markup {
    let (recall, predicted) = (counts.share(class, class), counts.predicted(class));
    let precision = (predicted > 0).then(|| counts.count(class, class) as f64 / predicted as f64);
    html! { tr {
        th scope="row" { (name_of(evaluation, class)) }
        td.number { (counts.labelled(class)) }
        td.number { (format::percent(recall)) }
        td { span.bar { span style=(format!("width:{:.1}%", recall * 100.0)) {} } }
        td.number { (precision.map_or_else(|| format::NONE.to_owned(), format::percent)) }
        td.number { (format::percent(counts.f1(class))) }
    } }
}

fn pairs(evaluation: &Evaluation, counts: &Counts<'_>) -> Markup {
    let confusions = counts.confusions();
    // Without a matrix they are all that there is.
    let shown = if counts.classes() > MATRIX { CLASSES } else { PAIRS };
    html! { @if !confusions.is_empty() { div.wide { table {
        caption { "Most frequent confusions" }
        thead { tr { th { "label" } th { "predicted" } th.number { "images" } th.number { "of label" } } }
        tbody { @for &(label, predicted, count) in confusions.iter().take(shown) { tr {
            th scope="row" { (name_of(evaluation, label)) }
            td { (name_of(evaluation, predicted)) }
            td.number { (count) }
            td.number { (format::percent(counts.share(label, predicted))) }
        } } }
    } } } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Metrics, Weights};

    fn evaluation(confusion: impl IntoIterator<Item = (usize, usize, u64)>) -> Evaluation {
        Evaluation {
            samples: 0,
            metrics: Metrics::default(),
            weights: Weights::Ema,
            classes: vec!["cat".to_owned()],
            confusion: confusion.into_iter().collect(),
            mistakes: Vec::new(),
        }
    }

    #[test]
    fn sums_and_shares() {
        let evaluation = evaluation([(0, 0, 3), (0, 1, 1), (2, 1, 2), (2, 2, 5)]);
        let counts = Counts::of(&evaluation);
        assert_eq!((counts.classes(), counts.labelled(0), counts.predicted(1)), (3, 4, 3));
        assert_eq!((counts.share(1, 1), counts.share(0, 1)), (0.0, 0.25));
        assert_eq!(counts.confusions(), [(2, 1, 2), (0, 1, 1)]);
    }

    #[test]
    fn shares_are_of_the_row() {
        let page = section(&evaluation([(0, 0, 3), (0, 1, 1), (1, 1, 7)])).into_string();
        assert!(page.contains("<b>75</b><small>3</small>") && page.contains("<b>25</b><small>1</small>"), "{page}");
        assert!(page.contains("class 1"), "a class without a name has a number");
    }

    #[test]
    fn a_thousand_classes_have_tables_only() {
        let all = (0..1000).flat_map(|label| (0..1000).map(move |predicted| (label, predicted, 1)));
        let page = section(&evaluation(all)).into_string();
        assert!(!page.contains("<table class=\"matrix\"") && page.contains("and 960 better classes"));
        assert!(page.len() < 50_000, "{}", page.len());
    }

    #[test]
    fn whatever_a_file_says_costs_what_it_holds() {
        let page = section(&evaluation([(usize::MAX, 0, u64::MAX), (usize::MAX, 1, u64::MAX)])).into_string();
        assert!(page.len() < 5_000, "{}", page.len());
    }
}
