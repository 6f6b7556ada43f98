//! `convnext report`: runs as a page.

use std::path::PathBuf;

use convnext_pipeline::report;

use crate::{Failure, Outcome, output};

/// Writes one self-contained page about one run or several.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext report runs/finetune
  convnext report runs/pretrain runs/finetune runs/scratch --output comparison.html
  convnext report runs/finetune --csv finetune.csv")]
pub struct Args {
    /// The run directories.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Where to; without it, report.html in the run.
    #[arg(long, short, value_name = "HTML")]
    output: Option<PathBuf>,
    /// Writes the runs' numbers, a row for each record, instead of a page.
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    csv: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if let Some(out) = &args.csv {
        report::write_table(&args.runs, out)?;
        return output::text(&format!("{}\n", out.display()));
    }
    let out = match (&args.output, &args.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.join("report.html"),
        (None, _) => return Err(Failure::usage("several runs make one page; give --output HTML")),
    };
    report::write(&args.runs, &out)?;
    output::text(&format!("{}\n", out.display()))
}
