//! Curves and numbers on a terminal.

use std::time::{Duration, Instant};

use convnext_pipeline::report::Measured;
use ratatui::{
    Frame,
    crossterm::event::{self, Event, KeyCode, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Block, Cell, Chart, Dataset, GraphType, Row, Table},
};

use super::Watched;
use crate::{Failure, Outcome};

const COLORS: [Color; 6] = [Color::Blue, Color::Yellow, Color::Green, Color::Magenta, Color::Red, Color::Cyan];

/// Shows what `look` finds until q, escape or control-C is pressed.
pub(super) fn run(every: Duration, look: &mut dyn FnMut() -> Outcome<Vec<Watched>>) -> Outcome {
    // What is wrong with the runs is said before the screen is taken.
    let mut runs = look()?;
    let mut terminal = ratatui::try_init().map_err(|error| Failure::because("the terminal cannot be used", error))?;
    let mut watch = || -> Outcome {
        let failed = |error| Failure::because("the terminal cannot be used", error);
        loop {
            terminal.draw(|frame| draw(frame, &runs)).map_err(failed)?;
            let looked = Instant::now();
            while let Some(left) = every.checked_sub(looked.elapsed()) {
                if event::poll(left).map_err(failed)? && ends(&event::read().map_err(failed)?) {
                    return Ok(());
                }
            }
            runs = look()?;
        }
    };
    let watched = watch();
    ratatui::restore();
    watched
}

fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

fn draw(frame: &mut Frame<'_>, runs: &[Watched]) {
    let rows = runs.len() as u16 + 3;
    let [top, charts, help] =
        Layout::vertical([Constraint::Length(rows), Constraint::Min(6), Constraint::Length(1)]).areas(frame.area());
    frame.render_widget(numbers(runs), top);
    let measured: Vec<_> = runs.iter().map(|run| run.glance.measured.as_ref()).collect();
    let title = measured.iter().flatten().next().map(|measured| measured.title);
    let losses: Vec<&[(f64, f64)]> = runs.iter().map(|run| &run.glance.losses[..]).collect();
    match title {
        None => curves(frame, charts, "training loss", &losses),
        Some(title) => {
            let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(charts);
            let values: Vec<&[(f64, f64)]> =
                measured.iter().map(|of_run| of_run.filter(|of_run| of_run.title == title)).map(values_of).collect();
            curves(frame, left, "training loss", &losses);
            curves(frame, right, title, &values);
        }
    }
    frame.render_widget(Line::from(" q ends").dim(), help);
}

fn values_of(measured: Option<&Measured>) -> &[(f64, f64)] {
    measured.map_or(&[], |measured| &measured.values)
}

fn numbers(runs: &[Watched]) -> Table<'_> {
    let header = ["", "run", "kind", "epoch", "loss", "img/s", "last", "best", "left", "state"];
    let rows = runs.iter().enumerate().map(|(index, watched)| {
        let glance = &watched.glance;
        let (last, best) = glance.measured.as_ref().map_or(("-", "-"), |measured| (&measured.last, &measured.best));
        Row::new([
            Cell::from(Span::styled("━━", Style::new().fg(color(index)))),
            Cell::from(glance.name.as_str()),
            Cell::from(glance.kind.as_str()),
            Cell::from(watched.epoch()),
            Cell::from(watched.loss()),
            Cell::from(format!("{:.0}", glance.images_per_second)),
            Cell::from(last),
            Cell::from(best),
            Cell::from(watched.left()),
            Cell::from(watched.state()),
        ])
    });
    let widths = [2, 18, 9, 14, 8, 7, 28, 38, 12, 24].map(Constraint::Max);
    Table::new(rows, widths).header(Row::new(header).bold()).block(Block::bordered().title(" convnext watch "))
}

fn color(index: usize) -> Color {
    COLORS[index % COLORS.len()]
}

/// Curves by epoch, in the runs' colours.
fn curves(frame: &mut Frame<'_>, area: Rect, title: &str, curves: &[&[(f64, f64)]]) {
    let block = Block::bordered().title(format!(" {title} by epoch "));
    let finite = || curves.iter().copied().flatten().filter(|(x, y)| x.is_finite() && y.is_finite());
    let bounds = |value: fn(&(f64, f64)) -> f64| {
        let (low, high) =
            finite().map(value).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if high > low { [low, high] } else { [low - 0.5, low + 0.5] }
    };
    if finite().next().is_none() {
        return frame.render_widget(block, area);
    }
    let (xs, ys) = (bounds(|point| point.0), bounds(|point| point.1));
    let sets = curves.iter().enumerate().map(|(index, points)| {
        let kind = if points.len() > 1 { GraphType::Line } else { GraphType::Scatter };
        Dataset::default().marker(Marker::Braille).graph_type(kind).style(color(index)).data(points)
    });
    let axis = |[low, high]: [f64; 2]| {
        Axis::default()
            .bounds([low, high])
            .labels([low, f64::midpoint(low, high), high].map(|value| format!("{value:.3}")))
    };
    frame.render_widget(Chart::new(sets.collect()).x_axis(axis(xs)).y_axis(axis(ys)).block(block), area);
}

#[cfg(test)]
mod tests {
    use convnext_pipeline::report::Glance;
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn watched(name: &str, losses: &[(f64, f64)]) -> Watched {
        let measured = Measured {
            title: "top-1",
            values: vec![(1.0, 50.0), (2.0, 61.5)],
            last: "top-1 61.50 %".into(),
            best: "top-1 61.50 % at epoch 2".into(),
        };
        let glance = Glance {
            name: name.into(),
            kind: "finetune".into(),
            epoch: 2.0,
            epochs: Some(10.0),
            losses: losses.to_vec(),
            images_per_second: 52.0,
            measured: Some(measured),
            left: Some(Duration::from_secs(80)),
            finished: false,
        };
        Watched { glance, heard: Some(Duration::from_secs(3)) }
    }

    fn drawn(width: u16, height: u16, runs: &[Watched]) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, runs)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn numbers_and_curves_are_on_the_screen() {
        let screen = drawn(160, 30, &[watched("a", &[(0.5, 2.0), (2.0, 1.25)]), watched("b", &[(1.0, f64::NAN)])]);
        for part in ["a", "2.00 of 10", "1.2500", "52", "61.50 %", "1 min 20 s", "3 s ago", "training loss", "top-1 by"]
        {
            assert!(screen.contains(part), "{part} is not on\n{screen}");
        }
    }

    #[test]
    fn small_screens_and_runs_without_a_number_are_no_trouble() {
        let empty = Watched { glance: Glance { measured: None, ..watched("c", &[]).glance }, heard: None };
        for (width, height) in [(1, 1), (20, 5), (80, 24)] {
            drawn(width, height, &[watched("a", &[(1.0, f64::INFINITY), (1.0, 1.0)])]);
            drawn(width, height, std::slice::from_ref(&empty));
        }
    }
}
