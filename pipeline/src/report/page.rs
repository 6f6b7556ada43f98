//! The page: head, summary, curves by task, then run by run.

use std::borrow::Cow;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{ReportError, format, run::Run, run_section, training};
use crate::{
    records::{MetricKind, Unit},
    tasks::{self, Task},
};

const STYLE: &str = include_str!("style.css");
/// The page needs nothing from outside; a browser that reads this enforces it.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// The whole page; with `every` it loads itself anew after so many seconds.
pub(super) fn page(runs: &[Run], every: Option<u64>) -> Result<Markup, ReportError> {
    let title = title(runs);
    let curves = curves(runs)?;
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = every { meta http-equiv="refresh" content=(seconds); }
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
    let of =
        |task: &dyn Task| -> Vec<_> { runs.iter().enumerate().filter(|(_, run)| run.kind() == task.name()).collect() };
    let sections = tasks::ALL.iter().map(|task| training::section(*task, &of(*task)));
    sections.filter_map(Result::transpose).collect()
}

/// A column of the summary: what it is called, whether it holds numbers, and its cell for a run.
struct Column {
    name: Cow<'static, str>,
    is_number: bool,
    cell: Cell,
}

/// What a column says of a run.
type Cell = Box<dyn Fn(&Run) -> Option<String>>;

impl Column {
    fn words(name: &'static str, cell: impl Fn(&Run) -> Option<String> + 'static) -> Self {
        Self { name: name.into(), is_number: false, cell: Box::new(cell) }
    }

    fn number(name: impl Into<Cow<'static, str>>, cell: impl Fn(&Run) -> Option<String> + 'static) -> Self {
        Self { name: name.into(), is_number: true, cell: Box::new(cell) }
    }

    /// Of a metric, for runs that measured it.
    fn metric(kind: &'static MetricKind) -> Self {
        let value = |run: &Run| run.measured()?.0.value(kind.name);
        match kind.unit {
            Unit::Share => {
                Self::number(kind.title, move |run| value(run).filter(|share| share.is_finite()).map(format::percent))
            }
            Unit::Number => {
                Self::number(format!("held-out {}", kind.title), move |run| value(run).map(format::significant))
            }
        }
    }
}

/// What a run may say of itself.
fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::words("kind", |run| Some(format::name(run.kind()))),
        Column::words("model", |run| Some(format::name(&run.record.as_ref()?.model))),
        Column::number("parameters", |run| Some(format::count(run.record.as_ref()?.parameters))),
        Column::number("multiply-adds an image", |run| Some(format::count(run.record.as_ref()?.multiply_adds))),
        Column::number("epochs", |run| run.epochs().map(format::epochs)),
        Column::number("training loss", |run| run.train_loss().map(format::significant)),
    ];
    columns.extend(tasks::metrics().into_iter().map(Column::metric));
    columns.push(Column::words("weights", |run| Some(format::weights(run.measured()?.1).to_owned())));
    columns.push(Column::number("time", |run| run.seconds().map(format::duration)));
    columns
}

fn summary(runs: &[Run]) -> Markup {
    let says = |column: &&Column| runs.iter().any(|run| (column.cell)(run).is_some_and(|cell| cell != format::NONE));
    let columns = columns();
    let columns: Vec<&Column> = columns.iter().filter(says).collect();
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
