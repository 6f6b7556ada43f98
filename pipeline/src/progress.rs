//! What a person sees of a run: a bar on a terminal, a line now and then elsewhere.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::tell;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of a run of known length.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    name: String,
    total: u64,
    steps_per_epoch: u64,
    first: u64,
    started: Instant,
    printed: Instant,
    /// Time that was no step's.
    aside: Duration,
}

/// What is said about the present moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Steps done.
    pub step: u64,
    /// Mean loss lately.
    pub loss: f64,
    /// Images a second lately.
    pub images_per_second: f64,
    /// Share of the time that the model waited for data, 0 to 1.
    pub waiting: f64,
}

impl Progress {
    /// Progress of `name` from step `first` to step `total`.
    pub fn new(name: &str, first: u64, total: u64, steps_per_epoch: u64) -> Self {
        let shown = std::io::stderr().is_terminal() && tell::says();
        let bar = shown.then(|| bar(name, first, total));
        let (name, now) = (name.to_owned(), Instant::now());
        Self { bar, name, total, steps_per_epoch, first, started: now, printed: now, aside: Duration::ZERO }
    }

    /// Shows where the run is.
    pub fn show(&mut self, now: Now) {
        let Now { step, loss, images_per_second, waiting } = now;
        let message = format!(
            "epoch {}  loss {loss:.4}  {images_per_second:.0} img/s  waited {:.0} %  {} left",
            self.epoch(step),
            (100.0 * waiting).clamp(0.0, 100.0),
            self.left(step)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                bar.set_message(message);
            }
            None if self.printed.elapsed() >= LINE_EVERY => {
                self.printed = Instant::now();
                tell::say(format_args!("{}: step {step}/{}  {message}", self.name, self.total));
            }
            None => {}
        }
    }

    /// Prints a line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(tell::printable(line)),
            None => tell::say(line),
        }
    }

    /// Leaves out time that went into something else than steps.
    pub fn leave_out(&mut self, aside: Duration) {
        self.aside += aside;
    }

    /// The epoch under way after `step` steps, of how many: `3/20`.
    fn epoch(&self, step: u64) -> String {
        let steps = self.steps_per_epoch.max(1);
        format!("{}/{}", step.div_ceil(steps).max(1), self.total.div_ceil(steps))
    }

    fn left(&self, step: u64) -> impl std::fmt::Display {
        let done = step.saturating_sub(self.first).max(1);
        let stepping = self.started.elapsed().saturating_sub(self.aside).as_secs_f64();
        let seconds = stepping / done as f64 * self.total.saturating_sub(step) as f64;
        humantime::format_duration(Duration::from_secs(seconds as u64))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, first: u64, total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style).with_prefix(name.to_owned()).with_position(first)
}
