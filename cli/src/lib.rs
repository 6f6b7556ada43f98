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
//!     convnext::run(&[Mine::entry()])
//! }
//! ```
//!
//! A command is a file in `commands/` with its arguments as written, a step that resolves them (names to variants, paths to
//! checked shapes), and a `run`. To add one: the file, its `mod` line, its variant and its arm in [`commands`].
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or the recipe is wrong.

// What cannot be told must end nothing; `println!` and its like panic.
#![warn(clippy::print_stderr, clippy::print_stdout)]

pub mod commands;
pub mod models;

mod device;
mod failure;
mod host;
mod memory;
mod npy;
mod numbers;
mod output;
mod registry;
mod shards;
mod table;
mod which;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};
use convnext_core::Entry;

pub use commands::Context;
pub use failure::{Failure, Outcome};
pub use registry::Registry;

use commands::Command;

/// Declares, pre-trains, fine-tunes and examines ConvNeXt V2 models.
#[derive(Debug, Parser)]
#[command(name = "convnext", version, propagate_version = true, after_help = AFTER_HELP)]
struct CommandLine {
    /// Threads that compute; without it, one for each core.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Example:
  convnext models
  convnext summary atto

Each command has its own --help with an example.
Exit codes: 0 done, 1 failed, 2 the command line or the recipe is wrong.";

/// Runs the command line of this process with the variants `entries`, and returns its exit code.
pub fn run(entries: &[Entry]) -> ExitCode {
    memory::keep();
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => return refuse(&error),
    };
    match execute(line, Registry::new(entries)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn execute(line: CommandLine, registry: Registry<'_>) -> Outcome {
    if let Some(threads) = line.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into());
        pool.build_global().map_err(|error| Failure::because("the threads cannot be started", error))?;
    }
    line.command.run(&Context { registry, threads: line.threads.map(usize::from) })
}

/// Help and version are answers, not mistakes.
fn refuse(error: &clap::Error) -> ExitCode {
    // A reader that has gone away has no use for an error either.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(failure::USAGE),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
}
