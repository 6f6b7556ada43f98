//! What only one run has: facts, pictures, evaluation, recipe.

use maud::{Markup, html};

use super::{confusion, embed, format, run::Run};
use crate::{
    records::{Evaluation, MetricKind, Mistake, RunRecord, Unit},
    tasks::{self, Picture, Task},
};

/// Notes that a page shows.
const NOTES: usize = 6;

/// The section of one run.
pub(super) fn section(index: usize, run: &Run) -> Markup {
    html! {
        section.run id={ "run-" (index) } {
            h2 { (format::name(&run.name)) " " span.kind { (format::name(run.kind())) } }
            @if let Some(record) = &run.record { (facts(run, record)) }
            (warnings(run))
            (bad_samples(run))
            (pictures(run))
            (evaluation(run))
            @if let Some(recipe) = &run.recipe { details { summary { "Recipe" } pre.wide { code { (recipe) } } } }
        }
    }
}

fn facts(run: &Run, record: &RunRecord) -> Markup {
    let speed = (record.seconds > 0.0).then(|| format::significant(record.images as f64 / record.seconds));
    let facts = [
        ("started", record.started.replace('T', " ").replace('Z', " UTC")),
        ("CPU or GPU", machine(&record.machine)),
        ("program", if record.version.is_empty() { String::new() } else { format!("convnext {}", record.version) }),
        ("compute threads", if record.threads > 0 { record.threads.to_string() } else { String::new() }),
        ("time", format::duration(record.seconds)),
        ("CPU time, all threads", format::duration(record.cpu_seconds)),
        ("images trained on", format::count(record.images)),
        ("images a second", speed.unwrap_or_default()),
        ("trained on", run.data("train")),
        ("measured on", run.data("validation")),
        ("run directory", run.path.display().to_string()),
    ];
    html! {
        dl.facts { @for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            div { dt { (name) } dd { (format::name(value)) } }
        } }
    }
}

/// Records once held only the name of an instruction set.
fn machine(recorded: &str) -> String {
    let words = match recorded {
        "scalar" => "baseline instructions",
        "v3" => "x86-64 with AVX2",
        "v4" => "x86-64 with AVX-512",
        "neon" => "AArch64 with NEON",
        other => other,
    };
    words.to_owned()
}

/// What a reader has to know before the rest: an early end, values that are not finite, files that are left out.
fn warnings(run: &Run) -> Markup {
    let lines = &run.history.unreadable;
    html! {
        @if run.is_unfinished() { p.warning { (unfinished(run)) } }
        @if run.history.is_empty() && run.task().is_some() {
            p.missing { "No curves: " code { "metrics.jsonl" } " has no record yet. Let the run go on: " code { "convnext " (format::name(run.kind())) " --resume" } }
        }
        @if run.diverged() {
            p.warning { "\u{201c}" (format::NOT_FINITE) "\u{201d} is infinite or no number (NaN): there the run diverged. A lower learning rate or " code { "optimizer.clip" } " helps." }
        }
        @if lines.count > 0 {
            p.warning { "Unreadable lines in " code { "metrics.jsonl" } ": " (lines.count) ", the first is line " (lines.first) "; a killed run leaves one." }
        }
        @for note in run.notes.iter().take(NOTES) { p.warning { (note) } }
        @if run.notes.len() > NOTES { p.warning { "and " (run.notes.len() - NOTES) " more files" } }
    }
}

fn unfinished(run: &Run) -> Markup {
    let done = run.epochs().map(format::epochs).unwrap_or_default();
    html! {
        "Not finished: epoch " (done)
        @if let Some(planned) = run.planned_epochs() { " of " (format::epochs(planned)) }
        ". It goes on still, or was stopped; then " code { "convnext " (format::name(run.kind())) " --resume" } " goes on."
    }
}

/// Samples that the run could not use.
fn bad_samples(run: &Run) -> Markup {
    let (bad, substituted) = run.record.as_ref().map_or((0, 0), |record| (record.bad_samples, record.substituted));
    html! {
        @if bad > 0 || substituted > 0 || !run.quarantine.is_empty() {
            h3 { "Bad samples" }
            p {
                @if bad > 0 || substituted > 0 {
                    strong { (bad) } " samples could not be used; another stood in for them " strong { (substituted) } " times. "
                }
                @if !run.quarantine.is_empty() { "From " code { "quarantine.tsv" } ":" }
            }
            @if !run.quarantine.is_empty() {
                div.wide { table.quarantine {
                    thead { tr { th.number { "position" } th.number { "sample" } th { "what was wrong" } } }
                    tbody { @for line in &run.quarantine { (bad_sample(line)) } }
                } }
                @if run.has_more_bad_samples { p.quiet { "and more" } }
            }
        }
    }
}

/// A line of `position`, `sample` and error; whatever else it is, its last column has the rest.
fn bad_sample(line: &str) -> Markup {
    let mut cells = line.splitn(3, '\t');
    let [position, sample, fault] = [(); 3].map(|()| cells.next().unwrap_or_default());
    html! { tr { td.number { (format::name(position)) } td.number { (format::name(sample)) } td { (format::name(fault)) } } }
}

/// The pictures that tasks make of their runs, and what is missing of the run's own.
fn pictures(run: &Run) -> Markup {
    let named = tasks::ALL.iter().filter_map(|task| Some((*task, task.picture()?)));
    html! { @for (task, named) in named { (picture(run, named, run.kind() == task.name())) } }
}

fn picture(run: &Run, named: &Picture, is_own: bool) -> Markup {
    let picture = run.pictures.get(named.file).map(|png| embed::picture(png, named.alt));
    html! {
        @match picture {
            Some(Some(picture)) => {
                figure.reconstruction {
                    h3 { (named.title) }
                    p.quiet { (named.caption) }
                    div.sheet {
                        div.columns { @for column in named.columns { span { (column) } } }
                        (picture)
                    }
                }
            }
            Some(None) => p.warning { code { (named.file) } " is not a PNG that can be shown." },
            None if is_own => {
                p.missing { "No " (named.title.to_lowercase()) ": run " code { (named.command) } " on this run's weights." }
            }
            None => {}
        }
    }
}

fn evaluation(run: &Run) -> Markup {
    html! {
        @match &run.evaluation {
            Some(evaluation) => {
                h3 { "Evaluation" }
                p {
                    @for (index, kind) in measured(evaluation).into_iter().enumerate() {
                        @if index > 0 { ", " }
                        (metric(kind, evaluation.metrics.value(kind.name).unwrap_or(f64::NAN)))
                    }
                    " on " (evaluation.samples) " images. Weights: " (format::weights(evaluation.weights)) "."
                }
                (confusion::section(evaluation))
                (mistakes(run, evaluation))
            }
            None => {
                @if let Some(command) = run.task().map_or(Some("convnext evaluate"), Task::evaluate_command) {
                    p.missing { "No evaluation: run " code { (command) } " on this run's weights." }
                }
            }
        }
    }
}

/// The known metrics that an evaluation has.
fn measured(evaluation: &Evaluation) -> Vec<&'static MetricKind> {
    tasks::metrics().into_iter().filter(|kind| evaluation.metrics.get(kind.name).is_some()).collect()
}

fn metric(kind: &MetricKind, value: f64) -> Markup {
    html! {
        @match kind.unit {
            Unit::Share => { strong { (format::percent(value)) } " " (kind.title) }
            Unit::Number => { (kind.title) " " (format::significant(value)) }
        }
    }
}

fn mistakes(run: &Run, evaluation: &Evaluation) -> Markup {
    let pictures = run.mistakes.iter().map(Option::as_deref);
    html! {
        @if !run.mistakes.is_empty() {
            h4 { "Most confident mistakes" }
            p.quiet { "Label \u{2192} what the model said, and how sure it was." }
            div.mistakes {
                @for (mistake, picture) in evaluation.mistakes.iter().zip(pictures) { (one(evaluation, mistake, picture)) }
            }
        }
    }
}

fn one(evaluation: &Evaluation, mistake: &Mistake, picture: Option<&[u8]>) -> Markup {
    html! {
        figure title=(format::name(&mistake.key)) {
            @match picture.and_then(|png| embed::picture(png, &format::name(&mistake.key))) {
                Some(picture) => (picture),
                None => span.absent { "no picture" },
            }
            figcaption {
                (format::name(&evaluation.class(mistake.label))) " \u{2192} " b { (format::name(&evaluation.class(mistake.predicted))) }
                " " small { (format::percent(mistake.probability)) }
            }
        }
    }
}
