//! `convnext pretrain`, `convnext finetune`: a command for each task.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, ArgMatches, Args as _, FromArgMatches, Subcommand};
use convnext_core::Entry;
use convnext_data::TargetKind;
use convnext_pipeline::{
    device::Device,
    interrupt,
    recipe::{Io, Patterns, Resolved},
    records::{EvaluateRecord, MetricKind, RunRecord},
    run_dir,
    runs::{self, Destination, RunError},
    tasks::{self, Flag, Task},
};
use serde::Serialize;

use crate::{Context, Failure, Outcome, device, output, recipes, shards};

/// Arguments of a training run, whatever it trains for.
#[derive(Debug, clap::Args)]
struct Args {
    /// The variant; without it, the recipe's.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Shards to train on, as patterns (*, ?, {a,b}, {000..120}), or a folder of images; without it, the recipe's.
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    data: Vec<String>,
    /// How shards are read: mmap, or pread for network disks; as the recipe's machine.io.
    #[arg(long, value_name = "HOW")]
    io: Option<Io>,
    /// The run directory.
    #[arg(long, value_name = "RUN", required_unless_present = "print_recipe")]
    out: Option<PathBuf>,
    /// The recipe: a file, or one of `convnext recipes`; without it, when resuming, the run's own.
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<PathBuf>,
    /// Changes a value of the recipe, e.g. --set optimizer.clip=1; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Prints the recipe with everything filled in and checked, and does nothing else.
    #[arg(long, conflicts_with = "json")]
    print_recipe: bool,
    /// Goes on with the run in --out.
    #[arg(long, requires = "out")]
    resume: bool,
    /// A shell command that reads what the run does, as JSON lines, on its standard input: for trackers.
    #[arg(long, value_name = "COMMAND")]
    notify: Option<String>,
    #[command(flatten)]
    device: device::Args,
    /// Writes one line of JSON at the end.
    #[arg(long)]
    json: bool,
}

/// The command of a task, with its arguments.
#[derive(Debug)]
pub struct Train {
    task: &'static dyn Task,
    args: Args,
    /// What the task's own arguments set, as `key=value`.
    flags: Vec<String>,
}

impl Subcommand for Train {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        tasks::ALL.iter().fold(command, |command, task| command.subcommand(command_of(*task)))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        tasks::named(name).is_some()
    }
}

fn command_of(task: &dyn Task) -> clap::Command {
    let command = Args::augment_args(clap::Command::new(task.name()));
    let flags = task.flags().iter().map(|flag| {
        let arg = Arg::new(flag.name).long(flag.name).value_name(flag.value).help(flag.help);
        if flag.several { arg.action(ArgAction::Append).num_args(1..) } else { arg.action(ArgAction::Set) }
    });
    command.args(flags).about(task.about()).after_help(task.examples())
}

impl FromArgMatches for Train {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
        let (name, matches) = matches.subcommand().ok_or_else(missing)?;
        let task = tasks::named(name).ok_or_else(|| clap::Error::new(clap::error::ErrorKind::InvalidSubcommand))?;
        let flags = task.flags().iter().filter_map(|flag| setting(flag, matches)).collect();
        Ok(Self { task, args: Args::from_arg_matches(matches)?, flags })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What an argument sets, if it is given.
fn setting(flag: &Flag, matches: &ArgMatches) -> Option<String> {
    let values: Vec<String> = matches.get_many::<String>(flag.name)?.cloned().collect();
    match &values[..] {
        [number] if flag.is_number => Some(format!("{}={number}", flag.key)),
        values => patterns_setting(flag.key, values),
    }
}

impl Train {
    /// Runs the command.
    pub(crate) fn run(&self, context: &Context<'_>) -> Outcome {
        let Self { task, args, .. } = self;
        let Some(out) = args.out.as_deref().filter(|_| !args.print_recipe) else {
            return output::text(&self.recipe()?.to_toml());
        };
        let (entry, recipe, device) = self.resolve(context)?;
        let (data, io) = (&recipe.data, recipe.machine.io);
        let missing = || Failure::usage("no data; give --data GLOB, or data.train in the recipe");
        let train = shards::open(data.train.as_ref().map(Patterns::all).ok_or_else(missing)?, io)?;
        if task.samples(&entry.plan).target == TargetKind::Class {
            shards::tell_of_classes(&train);
        }
        let validation = data.validation.as_ref().filter(|_| !task.metrics().is_empty());
        let validation = validation.map(|patterns| shards::open_set(patterns.all(), io)).transpose()?;
        let destination = Destination { out: out.to_owned(), resume: args.resume, notify: args.notify.clone() };
        let record = runs::train(entry, recipe, train, validation, &destination, &device)?;
        report(record, *task, out, context.name, args.json)
    }

    /// The variant, the recipe and the device that the arguments name.
    fn resolve<'a>(&self, context: &Context<'a>) -> Outcome<(&'a Entry, Resolved, Device)> {
        let recipe = self.recipe()?;
        let entry = context.registry.find(&recipe.model.name)?;
        context.compute(recipe.machine.threads)?;
        interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
        Ok((entry, recipe, self.args.device.resolve()?))
    }

    /// The recipe with the settings of all arguments on top of it.
    fn recipe(&self) -> Outcome<Resolved> {
        let Self { task, args, flags } = self;
        let mut sets = flags.clone();
        let quoted = |key: &str, value: &str| format!("{key}={}", toml_string(value));
        sets.extend(args.model.as_deref().map(|model| quoted("model.name", &model.to_lowercase())));
        sets.extend(patterns_setting("data.train", &args.data));
        sets.extend(args.io.map(|io| quoted("machine.io", &io.to_string())));
        sets.extend(args.set.iter().cloned());
        let resumed = args.out.as_deref().filter(|_| args.resume);
        if let Some(out) = resumed {
            let own = run_dir::read_recipe(out)?.name();
            if own != task.name() {
                return Err(Failure::usage(format!(
                    "{out} is a run of `convnext {own}`; go on with it by `convnext {own} --out {out} --resume`",
                    out = out.display(),
                )));
            }
        }
        let recipe = match (&args.recipe, resumed) {
            (Some(named), _) => recipes::load(named, &sets)?.resolve()?,
            (None, Some(out)) => run_dir::written_recipe(out, &sets)?.resolve()?,
            (None, None) => {
                return Err(Failure::usage("no recipe; give --recipe with a file or one of `convnext recipes`"));
            }
        };
        match recipe.name() {
            own if own == task.name() => Ok(recipe),
            own => Err(RunError::OtherTask { asked: task.name(), recipe: own }.into()),
        }
    }
}

/// A TOML string: a pattern may hold anything.
pub(super) fn toml_string(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// `key=PATTERNS`, where there are some.
fn patterns_setting(key: &str, patterns: &[String]) -> Option<String> {
    let all: Vec<String> = patterns.iter().map(|pattern| toml_string(pattern)).collect();
    match all.as_slice() {
        [] => None,
        [one] => Some(format!("{key}={one}")),
        several => Some(format!("{key}=[{}]", several.join(", "))),
    }
}

/// What a run did, where it is, and what can be done with it.
#[derive(Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    record: RunRecord,
    out: &'a Path,
    /// Commands.
    next: Vec<String>,
}

/// Says what a run did.
fn report(record: RunRecord, task: &dyn Task, out: &Path, name: &str, json: bool) -> Outcome {
    let mut record = record;
    if let Some(best) = &mut record.best {
        best.checkpoint = out.join(&best.checkpoint).display().to_string();
    }
    let next = next(&record, task, out, name);
    match json {
        true => output::json_line(&Done { record, out, next }),
        false => output::text(&text(&record, task.metrics(), out, &next)),
    }
}

/// The commands that go on from a run, with its path as a shell takes it.
fn next(record: &RunRecord, task: &dyn Task, out: &Path, name: &str) -> Vec<String> {
    let out = out.display().to_string();
    let run = shlex::try_quote(&out).unwrap_or(Cow::Borrowed(&out)).into_owned();
    // What the run was measured on is in its recipe; what it was not has to be given.
    let data = if record.evaluation.is_some() { "" } else { " --data GLOB" };
    let next = task.next().iter().map(|arguments| match arguments.strip_prefix("evaluate ") {
        Some(_) => format!("{arguments}{data}"),
        None => (*arguments).to_owned(),
    });
    next.map(|arguments| format!("{name} {}", arguments.replace("RUN", &run))).collect()
}

fn text(record: &RunRecord, kinds: &[MetricKind], out: &Path, next: &[String]) -> String {
    let rate = record.images as f64 / record.seconds.max(1e-9);
    let mut text = format!(
        "{} of {}: {} images in {:.0} s ({:.0} CPU-seconds), {rate:.0} img/s; in {}\n",
        record.kind,
        record.model,
        record.images,
        record.seconds,
        record.cpu_seconds,
        out.display()
    );
    if let Some(why) = &record.stopped {
        text += &format!("ended early: {why}\n");
    }
    if let Some(EvaluateRecord { metrics, weights, .. }) = &record.evaluation {
        text += &format!("last: {} ({} weights)\n", metrics.describe(kinds, ", "), weights.name());
    }
    if let Some(best) = &record.best {
        let metric = best.metrics.describe(kinds, ", ");
        text += &format!("best: {metric} at step {}, in {}\n", best.step, best.checkpoint);
    }
    if record.bad_samples > 0 {
        text += &format!(
            "bad samples: {}, replaced by others {} times in all; they are listed in {}\n",
            record.bad_samples,
            record.substituted,
            out.join("quarantine.tsv").display()
        );
    }
    text += "next:\n";
    text + &next.iter().map(|command| format!("  {command}\n")).collect::<String>()
}
