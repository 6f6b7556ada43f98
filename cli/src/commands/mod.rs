//! The commands, one file each.

pub mod bench;
pub mod convert;
pub mod debug;
pub mod doctor;
pub mod evaluate;
pub mod index;
pub mod inspect;
pub mod models;
pub mod pack;
pub mod predict;
pub mod quickstart;
pub mod reconstruct;
pub mod report;
pub mod summary;
pub mod train;

use clap::Subcommand;

use crate::{Failure, failure::Outcome, registry::Registry};

/// What every command can rely on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The variants that are compiled in.
    pub registry: Registry<'a>,
    /// What `--threads` said; the global pool of rayon has been built accordingly.
    pub threads: Option<usize>,
}

impl Context<'_> {
    /// Sets the number of computing threads to the recipe's, 0 for one a core, unless the command line gave one.
    pub(crate) fn compute(&self, threads: usize) -> Outcome {
        if self.threads.is_some() || threads == 0 {
            return Ok(());
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().map_err(|error| Failure::because("the threads cannot be started", error))
    }
}

/// A command with its arguments as written.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Models(models::Args),
    Summary(summary::Args),
    Quickstart(quickstart::Args),
    Pack(pack::Args),
    Index(index::Args),
    Inspect(inspect::Args),
    #[command(flatten)]
    Train(train::Train),
    Evaluate(evaluate::Args),
    Predict(predict::Args),
    Reconstruct(reconstruct::Args),
    Import(convert::ImportArgs),
    Export(convert::ExportArgs),
    Report(report::Args),
    Bench(bench::Args),
    Doctor(doctor::Args),
    Debug(debug::Args),
}

impl Command {
    pub(crate) fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Models(args) => models::run(&args, context),
            Self::Summary(args) => summary::run(&args, context),
            Self::Quickstart(args) => quickstart::run(&args, context),
            Self::Pack(args) => pack::run(&args),
            Self::Index(args) => index::run(&args),
            Self::Inspect(args) => inspect::run(&args),
            Self::Train(train) => train.run(context),
            Self::Evaluate(args) => evaluate::run(&args, context),
            Self::Predict(args) => predict::run(&args, context),
            Self::Reconstruct(args) => reconstruct::run(&args, context),
            Self::Import(args) => convert::import(&args, context),
            Self::Export(args) => convert::export(&args, context),
            Self::Report(args) => report::run(&args),
            Self::Bench(args) => bench::run(&args, context),
            Self::Doctor(args) => doctor::run(&args),
            Self::Debug(args) => debug::run(&args, context),
        }
    }
}
