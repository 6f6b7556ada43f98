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
    match runs {
        [run] => run.name.clone(),
        [first, .., last] if runs.len() > 4 => format!("{} runs, {} to {}", runs.len(), first.name, last.name),
        _ => runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", "),
    }
}

fn curves(runs: &[Run]) -> Result<Vec<Markup>, ReportError> {
    let of_kind = |kind| -> Vec<_> { runs.iter().enumerate().filter(|(_, run)| run.kind() == kind).collect() };
    let kinds = [RunKind::Pretrain, RunKind::Finetune, RunKind::Evaluate];
    let sections = kinds.map(|kind| training::section(kind, &of_kind(kind)));
    sections.into_iter().filter_map(Result::transpose).collect()
}

fn summary(runs: &[Run]) -> Markup {
    html! {
        section { div.wide { table.summary {
            thead { tr {
                th { "run" } th { "kind" } th { "model" }
                th.number { "parameters" } th.number { "multiply-adds" } th.number { "epochs" }
                th.number { "training loss" } th.number { "held-out loss" } th.number { "top-1" } th.number { "top-5" }
                th { "weights" } th.number { "time" }
            } }
            tbody { @for (index, run) in runs.iter().enumerate() { (row(index, run)) } }
        } } }
    }
}

fn row(index: usize, run: &Run) -> Markup {
    let (record, measured) = (run.record.as_ref(), run.measured());
    // A pre-training run measures a loss and no classes.
    let share = |value: fn(&Measured) -> f64| {
        measured.as_ref().map(value).filter(|share| share.is_finite()).map(format::percent)
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| format::NONE.to_owned());
    html! { tr {
        th scope="row" { a href={ "#run-" (index) } { (run.name) } }
        td { (run.kind().name()) }
        td { (or_none(record.map(|record| record.model.clone()))) }
        td.number { (or_none(record.map(|record| format::count(record.parameters)))) }
        td.number { (or_none(record.map(|record| format::count(record.multiply_adds)))) }
        td.number { (or_none(run.epochs().map(format::tick))) }
        td.number { (or_none(run.train_loss().map(format::significant))) }
        td.number { (or_none(measured.as_ref().map(|measured| format::significant(measured.loss)))) }
        td.number { (or_none(share(|measured| measured.top1))) }
        td.number { (or_none(share(|measured| measured.top5))) }
        td { (or_none(measured.as_ref().map(|measured| measured.weights.name().to_owned()))) }
        td.number { (or_none(run.seconds().map(format::duration))) }
    } }
}
