//! `convnext recipes`: the recipes that are compiled in.

use clap::Subcommand;
use serde::Serialize;

use crate::{Outcome, output, recipes, table::Table};

/// Lists the recipes that come with the program; `--recipe` takes their names.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext recipes
  convnext recipes show finetune-tiny > mine.toml")]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Writes a JSON list.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a recipe.
    #[command(after_help = "\
Example:
  convnext recipes show micro-finetune")]
    Show {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Serialize)]
struct Line {
    name: &'static str,
    about: String,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if let Some(Command::Show { name }) = &args.command {
        return output::text(recipes::find(name)?.text);
    }
    let lines = recipes::ALL.iter().map(|recipe| Line { name: recipe.name, about: recipe.about() });
    if args.json {
        return output::json(&lines.collect::<Vec<_>>());
    }
    let mut table = Table::new(&["name", "about"], &[]);
    for Line { name, about } in lines {
        table.row([name, &about]);
    }
    output::text(&table.text())
}
