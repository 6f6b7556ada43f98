//! What only one run has: facts, reconstruction, evaluation, recipe.

use maud::{Markup, html};

use super::{confusion, embed, format, run::Run};
use crate::records::{Evaluation, Mistake, RunKind, RunRecord};

/// The section of one run.
pub(super) fn section(index: usize, run: &Run) -> Markup {
    html! {
        section id={ "run-" (index) } {
            h2 { (run.name) " " span.kind { (run.kind().name()) } }
            @if let Some(record) = &run.record { (facts(record)) }
            (curves_missing(run))
            (reconstruction(run))
            (evaluation(run))
            @if let Some(recipe) = &run.recipe { details { summary { "Recipe" } pre.wide { code { (recipe) } } } }
        }
    }
}

fn facts(record: &RunRecord) -> Markup {
    let speed = (record.seconds > 0.0).then(|| format::significant(record.images as f64 / record.seconds));
    let facts = [
        ("started", record.started.clone()),
        ("machine", record.machine.clone()),
        ("threads", if record.threads > 0 { record.threads.to_string() } else { String::new() }),
        ("time", format::duration(record.seconds)),
        ("processor time", format::duration(record.cpu_seconds)),
        ("images", format::count(record.images)),
        ("images a second", speed.unwrap_or_default()),
    ];
    html! {
        dl.facts { @for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            div { dt { (name) } dd { (value) } }
        } }
    }
}

fn curves_missing(run: &Run) -> Markup {
    let lines = &run.metrics.unreadable;
    html! {
        @if run.metrics.is_empty() && run.kind() != RunKind::Evaluate {
            p.missing { "No curves: " code { "metrics.jsonl" } " has no record yet. Let the run go on: " code { "convnext " (run.kind().name()) " --resume" } }
        }
        @if let Some(first) = lines.first() {
            p.warning { "Unreadable lines in " code { "metrics.jsonl" } ": " (lines.len()) ", the first is line " (first) "; a killed run leaves one." }
        }
    }
}

fn reconstruction(run: &Run) -> Markup {
    let picture = run.reconstruction.as_deref().map(|png| embed::picture(png, "Masked and reconstructed images"));
    html! {
        @match picture {
            Some(Some(picture)) => {
                h3 { "Reconstruction" }
                p.quiet { "One image a row. The model saw only what the second column shows." }
                div.wide { figure.reconstruction {
                    figcaption {
                        span { "original" } span { "masked" } span { "reconstructed" } span { "visible pasted in" }
                    }
                    (picture)
                } }
            }
            Some(None) => p.warning { code { "pictures/reconstruction.png" } " is not a PNG." },
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
                    strong { (format::percent(evaluation.top1)) } " top-1, "
                    strong { (format::percent(evaluation.top5)) } " top-5, loss " (format::significant(evaluation.loss))
                    " on " (evaluation.samples) " images (" (evaluation.weights.name()) " weights)."
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
        figure title=(mistake.key) {
            @match picture.and_then(|png| embed::picture(png, &mistake.key)) {
                Some(picture) => (picture),
                None => span.absent { "no picture" },
            }
            figcaption {
                (evaluation.class(mistake.label)) " \u{2192} " b { (evaluation.class(mistake.predicted)) }
                " " small { (format::percent(mistake.probability)) }
            }
        }
    }
}
