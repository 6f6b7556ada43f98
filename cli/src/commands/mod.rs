//! The commands, one file each.

pub mod bench;
pub mod completions;
pub mod convert;
pub mod debug;
pub mod doctor;
pub mod evaluate;
pub mod index;
pub mod init;
pub mod inspect;
pub mod man;
pub mod models;
pub mod pack;
pub mod predict;
pub mod quickstart;
pub mod recipes;
pub mod reconstruct;
pub mod report;
pub mod settings;
pub mod summary;
pub mod train;
pub mod watch;

use clap::Subcommand;

use crate::{Context, failure::Outcome};

/// A command with its arguments as written.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Models(models::Args),
    Summary(summary::Args),
    Quickstart(quickstart::Args),
    Init(init::Args),
    Pack(pack::Args),
    Index(index::Args),
    Inspect(inspect::Args),
    Recipes(recipes::Args),
    Settings(settings::Args),
    #[command(flatten)]
    Train(train::Train),
    Evaluate(evaluate::Args),
    Predict(predict::Args),
    Reconstruct(reconstruct::Args),
    Import(convert::ImportArgs),
    Export(convert::ExportArgs),
    Report(report::Args),
    Watch(watch::Args),
    Bench(bench::Args),
    Doctor(doctor::Args),
    Debug(debug::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    pub(crate) fn run(self, context: &Context<'_>) -> Outcome {
        match self {
            Self::Models(args) => models::run(&args, context),
            Self::Summary(args) => summary::run(&args, context),
            Self::Quickstart(args) => quickstart::run(&args, context),
            Self::Init(args) => init::run(&args, context),
            Self::Pack(args) => pack::run(&args, context.threads),
            Self::Index(args) => index::run(&args),
            Self::Inspect(args) => inspect::run(&args),
            Self::Recipes(args) => recipes::run(&args),
            Self::Settings(args) => settings::run(&args),
            Self::Train(train) => train.run(context),
            Self::Evaluate(args) => evaluate::run(&args, context),
            Self::Predict(args) => predict::run(&args, context),
            Self::Reconstruct(args) => reconstruct::run(&args, context),
            Self::Import(args) => convert::import(&args, context),
            Self::Export(args) => convert::export(&args, context),
            Self::Report(args) => report::run(&args),
            Self::Watch(args) => watch::run(&args),
            Self::Bench(args) => bench::run(&args, context),
            Self::Doctor(args) => doctor::run(&args),
            Self::Debug(args) => debug::run(&args, context),
            Self::Completions(args) => completions::run(&args, context),
            Self::Man(args) => man::run(&args, context),
        }
    }
}
