//! The page: head, summary, curves by kind, then run by run.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    ReportError, format,
    run::{Measured, Run},
    run_section, training,
};
use crate::records::RunKind;

const STYLE: &str = include_str!("style.css");
/// The page needs nothing from outside; a browser that reads this enforces it.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// The whole page.
pub(super) fn page(runs: &[Run]) -> Result<Markup, ReportError> {
    let title = title(runs);
    let curves = curves(runs)?;
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { main {
                header { p.quiet { "ConvNeXt V2" } h1 { (title) } }
                (summary(runs))
                @for section in &curves { (section) }
                @for (index, run) in runs.iter().enumerate() { (run_section::section(index, run)) }
            } }
        }
    })
}

fn title(runs: &[Run]) -> String {
    let names: Vec<_> = runs.iter().map(|run| format::name(&run.name)).collect();
    match names.as_slice() {
        [first, .., last] if names.len() > 4 => format!("{} runs, {first} to {last}", names.len()),
        names => names.join(", "),
    }
}

fn curves(runs: &[Run]) -> Result<Vec<Markup>, ReportError> {
    let of_kind = |kind| -> Vec<_> { runs.iter().enumerate().filter(|(_, run)| run.kind() == kind).collect() };
    let kinds = [RunKind::Pretrain, RunKind::Finetune, RunKind::Evaluate];
    let sections = kinds.map(|kind| training::section(kind, &of_kind(kind)));
    sections.into_iter().filter_map(Result::transpose).collect()
}

/// A column of the summary: what it is called, whether it holds numbers, and its cell for a run.
struct Column {
    name: &'static str,
    is_number: bool,
    cell: fn(&Run) -> Option<String>,
}

const COLUMNS: &[Column] = &[
    Column { name: "kind", is_number: false, cell: |run| Some(run.kind().name().to_owned()) },
    Column { name: "model", is_number: false, cell: |run| Some(format::name(&run.record.as_ref()?.model)) },
    Column { name: "parameters", is_number: true, cell: |run| Some(format::count(run.record.as_ref()?.parameters)) },
    Column {
        name: "multiply-adds an image",
        is_number: true,
        cell: |run| Some(format::count(run.record.as_ref()?.multiply_adds)),
    },
    Column { name: "epochs", is_number: true, cell: |run| run.epochs().map(format::epochs) },
    Column { name: "training loss", is_number: true, cell: |run| run.train_loss().map(format::significant) },
    Column {
        name: "held-out loss",
        is_number: true,
        cell: |run| run.measured().map(|measured| format::significant(measured.loss)),
    },
    Column { name: "top-1", is_number: true, cell: |run| share(run, |measured| measured.top1) },
    Column { name: "top-5", is_number: true, cell: |run| share(run, |measured| measured.top5) },
    Column {
        name: "weights",
        is_number: false,
        cell: |run| run.measured().map(|measured| format::weights(measured.weights).to_owned()),
    },
    Column { name: "time", is_number: true, cell: |run| run.seconds().map(format::duration) },
];

/// A pre-training run measures a loss and no classes.
fn share(run: &Run, value: fn(&Measured) -> f64) -> Option<String> {
    run.measured().as_ref().map(value).filter(|share| share.is_finite()).map(format::percent)
}

fn summary(runs: &[Run]) -> Markup {
    let says = |column: &&Column| runs.iter().any(|run| (column.cell)(run).is_some_and(|cell| cell != format::NONE));
    let columns: Vec<_> = COLUMNS.iter().filter(says).collect();
    html! {
        section { div.wide { table.summary {
            thead { tr {
                th { "run" }
                @for column in &columns { th.number[column.is_number] { (column.name) } }
            } }
            tbody { @for (index, run) in runs.iter().enumerate() { tr {
                th scope="row" { a href={ "#run-" (index) } { (format::name(&run.name)) } }
                @for column in &columns { (cell(column, run)) }
            } } }
        } } }
    }
}

/// On a telephone a cell stands by its name, and one with nothing in it is left out.
fn cell(column: &Column, run: &Run) -> Markup {
    let text = (column.cell)(run).unwrap_or_else(|| format::NONE.to_owned());
    html! { td.number[column.is_number].none[text == format::NONE] data-name=(column.name) { (text) } }
}
