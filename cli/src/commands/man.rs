//! `convnext man`: this program's manual pages.

use std::{fs, path::PathBuf};

use clap_mangen::Man;

use crate::{Context, Failure, Outcome, output};

/// Prints this program's manual page, or writes one for each command.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext man > convnext.1
  convnext man --out man/man1")]
pub struct Args {
    /// A folder for the pages of the program and of all its commands.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let Some(out) = &args.out else {
        let mut page = Vec::new();
        Man::new(context.command()).render(&mut page).map_err(Failure::output)?;
        return output::text(&String::from_utf8_lossy(&page));
    };
    let failed = |error| Failure::because(format!("{}: cannot be written", out.display()), error);
    fs::create_dir_all(out).map_err(failed)?;
    clap_mangen::generate_to(context.command(), out).map_err(failed)?;
    let pages = fs::read_dir(out).map_err(failed)?.count();
    output::text(&format!("{pages} pages in {}\n", out.display()))
}
