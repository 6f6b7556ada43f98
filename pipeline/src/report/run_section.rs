//! What only one run has: facts, reconstruction, evaluation, recipe.

use maud::{Markup, html};

use super::{confusion, embed, format, run::Run};
use crate::{
    records::{Evaluation, MetricKind, Mistake, RunKind, RunRecord, Unit},
    tasks,
};

/// Notes that a page shows.
const NOTES: usize = 6;

/// The section of one run.
pub(super) fn section(index: usize, run: &Run) -> Markup {
    html! {
        section.run id={ "run-" (index) } {
            h2 { (format::name(&run.name)) " " span.kind { (run.kind().name()) } }
            @if let Some(record) = &run.record { (facts(record)) }
            (warnings(run))
            (bad_samples(run))
            (reconstruction(run))
            (evaluation(run))
            @if let Some(recipe) = &run.recipe { details { summary { "Recipe" } pre.wide { code { (recipe) } } } }
        }
    }
}

fn facts(record: &RunRecord) -> Markup {
    let speed = (record.seconds > 0.0).then(|| format::significant(record.images as f64 / record.seconds));
    let facts = [
        ("started", record.started.replace('T', " ").replace('Z', " UTC")),
        ("machine", machine(&record.machine)),
        ("threads", if record.threads > 0 { record.threads.to_string() } else { String::new() }),
        ("time", format::duration(record.seconds)),
        ("processor time, all threads", format::duration(record.cpu_seconds)),
        ("images trained on", format::count(record.images)),
        ("images a second", speed.unwrap_or_default()),
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
        @if run.history.is_empty() && run.kind() != RunKind::Evaluate {
            p.missing { "No curves: " code { "metrics.jsonl" } " has no record yet. Let the run go on: " code { "convnext " (run.kind().name()) " --resume" } }
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
        ". It goes on still, or was stopped; then " code { "convnext " (run.kind().name()) " --resume" } " goes on."
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

/// What the columns of [`crate::pictures::reconstruction_grid`] are.
const COLUMNS: [&str; 4] = ["original", "what the model saw", "what it filled in", "both together"];

fn reconstruction(run: &Run) -> Markup {
    let picture = run.reconstruction.as_deref().map(|png| embed::picture(png, "Masked and reconstructed images"));
    html! {
        @match picture {
            Some(Some(picture)) => {
                figure.reconstruction {
                    h3 { "Reconstruction" }
                    p.quiet {
                        "One image a row. The gray patches were removed and the model was asked to fill them. Its prediction, in the third "
                        "column, means something on those patches only: the loss never looks at the visible ones. The last column has the "
                        "visible patches as they were and the prediction in place of the removed ones."
                    }
                    div.sheet {
                        div.columns { @for column in COLUMNS { span { (column) } } }
                        (picture)
                    }
                }
            }
            Some(None) => p.warning { code { "pictures/reconstruction.png" } " is not a PNG that can be shown." },
            None if run.kind() == RunKind::Pretrain => {
                p.missing { "No reconstruction: run " code { "convnext reconstruct" } " on this run's weights." }
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
            None if run.kind() != RunKind::Pretrain => {
                p.missing { "No evaluation: run " code { "convnext evaluate" } " on this run's weights." }
            }
            None => {}
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
