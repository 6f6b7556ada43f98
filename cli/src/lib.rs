//! The `convnext` command line, as a library: a program with variants of its own gets the same one.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use convnext_core::{Variant, convnext};
//!
//! convnext! {
//!     /// For small grey pictures.
//!     pub model Mine {
//!         input: 32 x 32 x 1,
//!         stem: 2,
//!         head: 10,
//!         stages: [16 x 1, 32 x 1],
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     convnext::run!(&[Mine::entry()]) // `mine --version` is that of this package
//! }
//! ```
//!
//! A command is a file in `commands/` with its arguments as written, a step that resolves them (names to variants, paths to
//! checked shapes), and a `run`. To add one: the file, its `mod` line, its variant and its arm in [`commands`].
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or the recipe is wrong.

// A message that cannot be printed must not end a program: `println!` and its like would panic.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod commands;

/// The built-in variants.
pub use convnext_models as models;

mod context;
mod device;
mod failure;
mod host;
mod images;
#[allow(unsafe_code, reason = "settings of the C library's allocator")]
mod memory;
mod npy;
mod numbers;
mod output;
mod passed_over;
mod preprocessing;
mod recipes;
mod registry;
mod shards;
mod table;
mod which;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, builder::StyledStr, error::ErrorKind};
use convnext_core::{Entry, simd::Level};
use convnext_pipeline::tell::{self, Much};

pub use context::Context;
pub use failure::{Failure, Outcome};
pub use registry::Registry;

use commands::Command;

/// Declares, pre-trains, fine-tunes and examines ConvNeXt V2 models.
#[derive(Debug, Parser)]
#[command(name = NAME, after_help = AFTER_HELP)]
struct CommandLine {
    /// Number of compute threads; by default one for each core.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Says nothing on standard error but errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Says more on standard error.
    #[arg(long, short, global = true)]
    verbose: bool,

    #[command(subcommand)]
    command: Command,
}

/// This program's name, as the examples have it.
const NAME: &str = "convnext";

const AFTER_HELP: &str = "\
Example:
  convnext models
  convnext summary atto

Each command has its own --help with an example.
Exit codes: 0 done, 1 failed, 2 the command line or the recipe is wrong.";

/// Runs the command line of this process with the variants `entries`, and returns its exit code.
///
/// It is called as the process is, and `--version` says that of this library; [`run!`](crate::run!) says that of the package
/// that calls it.
pub fn run(entries: &[Entry]) -> ExitCode {
    run_versioned(entries, None)
}

/// [`run()`] for a program of another package: its `--version` is the package's, beside this library's.
///
/// ```no_run
/// # use std::process::ExitCode;
/// fn main() -> ExitCode {
///     convnext::run!(&convnext::models::builtin())
/// }
/// ```
#[macro_export]
macro_rules! run {
    ($entries:expr $(,)?) => {
        $crate::run_versioned($entries, ::core::option::Option::Some(::core::env!("CARGO_PKG_VERSION")))
    };
}

/// What [`run!`](crate::run!) calls.
#[doc(hidden)]
pub fn run_versioned(entries: &[Entry], version: Option<&str>) -> ExitCode {
    memory::keep();
    let name = name();
    let matches = command(&name, version).try_get_matches();
    let line = match matches.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
        Ok(line) => line,
        Err(error) => return refuse(&error),
    };
    match execute(line, (&name, version), entries) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What this process is called, without its folder.
fn name() -> String {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(Path::file_stem).map(|name| name.to_string_lossy().into_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| NAME.to_owned())
}

/// The command line of a program called `name`.
fn command(name: &str, version: Option<&str>) -> clap::Command {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    let name = tell::printable(name).into_owned();
    let version = match version {
        Some(version) => format!("{version} ({NAME} {OWN})"),
        None if name == NAME => OWN.to_owned(),
        None => format!("({NAME} {OWN})"),
    };
    // clap keeps such texts for the life of the process, as this one is.
    let leaked = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let command = CommandLine::command().version(leaked(version)).propagate_version(true);
    if name == NAME {
        return command;
    }
    let command = command.name(leaked(name.clone()));
    as_that_of(command, &name)
}

/// The help of all commands, as that of a program called `name`: its examples, and what it says of other commands.
fn as_that_of(command: clap::Command, name: &str) -> clap::Command {
    let own = |help: &StyledStr| {
        // In examples, behind a pipe, and in sentences.
        ["  ", "| ", "`"].iter().fold(help.to_string(), |text, before| {
            text.replace(&format!("{before}{NAME} "), &format!("{before}{name} "))
        })
    };
    let help = command.get_after_help().map(own);
    let command = command.mut_subcommands(|command| as_that_of(command, name));
    let command = command.mut_args(|arg| match arg.get_help().map(own) {
        Some(help) => arg.help(help),
        None => arg,
    });
    match help {
        Some(help) => command.after_help(help),
        None => command,
    }
}

fn execute(line: CommandLine, (name, version): (&str, Option<&str>), entries: &[Entry]) -> Outcome {
    match (line.quiet, line.verbose) {
        (true, _) => tell::set(Much::Errors),
        (false, true) => tell::set(Much::Details),
        (false, false) => {}
    }
    let registry = Registry::new(entries)?;
    // `doctor` says itself what is wrong with the level.
    if !matches!(line.command, Command::Doctor(_)) {
        check_level()?;
    }
    if let Some(threads) = line.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
        pool.build_global().map_err(|error| Failure::because("the threads cannot be started", error))?;
    }
    line.command.run(&Context { name, version, registry, threads: line.threads.map(usize::from) })
}

/// Whether this machine has the instruction set that the environment asks for.
fn check_level() -> Outcome {
    let Some(name) = std::env::var_os(Level::VARIABLE) else { return Ok(()) };
    let level = name.to_string_lossy().parse::<Level>();
    level.map(drop).map_err(|error| Failure::usage(format!("{}: {error}", Level::VARIABLE)))
}

/// Help and version are answers, not mistakes.
fn refuse(error: &clap::Error) -> ExitCode {
    // A reader that has gone away has no use for an error either.
    let _ = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => error.print(),
        // It repeats arguments, and a terminal obeys some characters.
        _ => std::io::stderr().write_all(tell::printable(&error.to_string()).as_bytes()),
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(failure::USAGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
            command.get_subcommands().filter(|command| command.get_name() != "help").for_each(check);
        }
        check(&CommandLine::command());
    }

    #[test]
    fn another_program_has_its_own_name_and_version() {
        let mut mine = command("mine", Some("3.2.1"));
        mine.build();
        assert_eq!(mine.render_version(), format!("mine 3.2.1 (convnext {})\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(command("mine", None).render_version(), format!("mine (convnext {})\n", env!("CARGO_PKG_VERSION")));
        assert_eq!(command(NAME, None).render_version(), format!("convnext {}\n", env!("CARGO_PKG_VERSION")));
        let help = mine.find_subcommand("evaluate").unwrap().get_after_help().unwrap().to_string();
        assert!(help.contains("\n  mine evaluate runs") && !help.contains("  convnext "), "{help}");
        let help = mine.find_subcommand_mut("summary").unwrap().render_help().to_string();
        assert!(help.contains("`mine models` lists them"), "{help}");
    }
}
