//! `convnext watch`: runs while they train, from their files.

mod screen;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use convnext_pipeline::{
    interrupt, records,
    report::{self, Glance, Run},
};

use crate::{Failure, Outcome, output, table::Table};

/// Shows runs while they train, of this machine's processes or of others that write to a shared disk.
///
/// On a terminal: curves and numbers, until q is pressed. Elsewhere, or with --once: a table. With --html: a page that
/// loads itself anew, until all runs have ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext watch runs/finetune
  convnext watch runs/finetune --once
  convnext watch runs/* --html watch.html")]
pub struct Args {
    /// The run directories.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Looks once, and prints a table.
    #[arg(long, conflicts_with = "html")]
    once: bool,
    /// Writes a page instead, again and again.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let every = Duration::from_secs(args.every);
    if let Some(page) = &args.html {
        return keep_page(args, page, every);
    }
    if args.once || !io::stdout().is_terminal() {
        return output::text(&table(&look(&args.runs)?));
    }
    screen::run(every, &mut || look(&args.runs))
}

/// A run that is watched.
struct Watched {
    glance: Glance,
    /// Time since it last wrote a record.
    heard: Option<Duration>,
}

impl Watched {
    /// What it is doing, as far as its files tell.
    fn state(&self) -> String {
        match self.heard {
            _ if self.glance.finished => "finished".to_owned(),
            Some(heard) => format!("last heard of {} ago", whole(heard)),
            None => "nothing yet".to_owned(),
        }
    }

    fn epoch(&self) -> String {
        let Glance { epoch, epochs, .. } = self.glance;
        epochs.map_or_else(|| format!("{epoch:.2}"), |epochs| format!("{epoch:.2} of {epochs}"))
    }

    fn loss(&self) -> String {
        self.glance.losses.last().map_or_else(|| "-".to_owned(), |(_, loss)| format!("{loss:.4}"))
    }

    fn left(&self) -> String {
        self.glance.left.map_or_else(|| "-".to_owned(), whole)
    }
}

fn whole(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// What there is to see of runs now.
fn look(runs: &[PathBuf]) -> Outcome<Vec<Watched>> {
    let heard = |run: &Path| {
        let written = run.join(records::METRICS).metadata().and_then(|metadata| metadata.modified()).ok()?;
        SystemTime::now().duration_since(written).ok()
    };
    let read = report::read(runs)?;
    Ok(read.iter().zip(runs).map(|(run, path)| Watched { glance: run.glance(), heard: heard(path) }).collect())
}

fn table(runs: &[Watched]) -> String {
    let mut table = Table::new(&["run", "kind", "epoch", "loss", "img/s", "last", "best", "left", "state"], &[3, 4]);
    for watched in runs {
        let Glance { name, kind, images_per_second, measured, .. } = &watched.glance;
        let said = |value: fn(&report::Measured) -> &String| measured.as_ref().map_or("-", |m| value(m).as_str());
        table.row([
            name.clone(),
            kind.clone(),
            watched.epoch(),
            watched.loss(),
            format!("{images_per_second:.0}"),
            said(|measured| &measured.last).to_owned(),
            said(|measured| &measured.best).to_owned(),
            watched.left(),
            watched.state(),
        ]);
    }
    table.text()
}

/// Writes a page that loads itself anew, until all runs have ended.
fn keep_page(args: &Args, page: &Path, every: Duration) -> Outcome {
    interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
    let mut first = true;
    loop {
        let runs = report::read(&args.runs)?;
        let ended = runs.iter().all(Run::is_finished);
        report::write_refreshing(&runs, page, (!ended).then_some(args.every))?;
        if first {
            output::text(&format!("{}\n", page.display()))?;
            first = false;
        }
        let begun = Instant::now();
        while begun.elapsed() < every {
            if ended || interrupt::asked() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50).min(every));
        }
    }
}
