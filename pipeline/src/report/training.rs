//! Curves of all runs of one task.

use maud::{Markup, html};

use super::{
    ReportError,
    curves::{self, Axis, Chart, Series},
    run::Run,
};
use crate::{
    records::{MetricKind, TrainRecord, Unit},
    tasks::{self, Task},
};

/// The section of one task's runs; nothing if none of them recorded anything.
pub(super) fn section(task: &dyn Task, runs: &[(usize, &Run)]) -> Result<Option<Markup>, ReportError> {
    let runs: Vec<_> = runs.iter().copied().filter(|(_, run)| !run.history.is_empty()).collect();
    let charts = charts(task, &runs)?;
    if charts.is_empty() {
        return Ok(None);
    }
    Ok(Some(html! {
        section {
            h2 { (task.title()) }
            p.quiet { "By epoch: how often the data has been gone through. A long curve is drawn faint, its mean over short intervals on top." }
            @if runs.len() > 1 { (legend(&runs)) }
            div.charts { @for chart in &charts { (chart) } }
        }
    }))
}

fn legend(runs: &[(usize, &Run)]) -> Markup {
    html! {
        ul.legend {
            @for (index, run) in runs {
                li { (curves::swatch(*index)) (run.name) }
            }
        }
    }
}

fn charts(task: &dyn Task, runs: &[(usize, &Run)]) -> Result<Vec<Markup>, ReportError> {
    let train = |title, note, label, axis, value: fn(&TrainRecord) -> f64| {
        curves::chart(
            Chart { title, note, label, axis },
            &series(runs, |run| &run.history.train, |r| (r.epoch, value(r))),
        )
    };
    let measured = |kind: &MetricKind| {
        let Some((title, note)) = kind.curve else { return Ok(None) };
        let axis = if kind.unit == Unit::Share { Axis::Percent } else { Axis::Auto };
        curves::chart(Chart { title, note, label: kind.title, axis }, &evaluations(runs, kind.name))
    };
    let waited = Chart {
        title: "Time spent waiting for data",
        note: "Share of the time in which no batch was ready: images were decoded and augmented too slowly.",
        label: "share of time",
        axis: Axis::PercentFromZero,
    };
    let mut charts = vec![train("Training loss", task.loss(), "loss", Axis::Auto, |r| r.loss)?];
    let own = task.metrics();
    let others = tasks::metrics().into_iter().filter(|kind| own.iter().all(|known| known.name != kind.name));
    for kind in own.iter().chain(others) {
        charts.push(measured(kind)?);
    }
    charts.extend([
        train("Learning rate", "Of the last step.", "learning rate", Axis::Linear, |r| r.lr)?,
        train("Gradient norm before clipping", "Of all parameters, at the last step.", "norm", Axis::Auto, |r| {
            r.gradient_norm
        })?,
        train("Images a second", "That the model was trained on.", "images a second", Axis::FromZero, |r| {
            r.images_per_second
        })?,
        curves::chart(waited, &waiting(runs))?,
    ]);
    Ok(charts.into_iter().flatten().collect())
}

fn series<'a, T: 'a>(
    runs: &[(usize, &'a Run)],
    records: impl Fn(&'a Run) -> &'a [T],
    point: impl Fn(&T) -> (f64, f64),
) -> Vec<Series> {
    runs.iter()
        .map(|&(color, run)| Series {
            color,
            name: run.name.clone(),
            points: records(run).iter().map(&point).collect(),
        })
        .collect()
}

/// One curve a run, of the metric called `name`: of the weights that it reports in the end.
fn evaluations(runs: &[(usize, &Run)], name: &str) -> Vec<Series> {
    let curve = |&(color, run): &(usize, &Run)| {
        let records = &run.history.evaluate;
        let weights = records.last().map(|record| record.weights);
        let same = records.iter().filter(|record| Some(record.weights) == weights);
        let points = same.filter_map(|record| Some((record.epoch, record.metrics.value(name)?))).collect();
        Series { color, name: run.name.clone(), points }
    };
    runs.iter().map(curve).collect()
}

/// The share of each interval between records; an interval that a resumed run cut has none.
fn waiting(runs: &[(usize, &Run)]) -> Vec<Series> {
    let share = |pair: &[TrainRecord]| {
        let seconds = pair[1].elapsed_seconds - pair[0].elapsed_seconds;
        (seconds > 0.0).then(|| (pair[1].epoch, (pair[1].waited_seconds / seconds).min(1.0)))
    };
    let curve = |&(color, run): &(usize, &Run)| Series {
        color,
        name: run.name.clone(),
        points: run.history.train.windows(2).filter_map(share).collect(),
    };
    runs.iter().map(curve).collect()
}
