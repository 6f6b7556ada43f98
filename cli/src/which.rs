//! `--values`: which weights of a checkpoint are used. Which checkpoint of a run it is stands behind its path: `RUN@last`.

use clap::ValueEnum;
use convnext_weights::checkpoint::WhichValues;

/// The argument, for commands that read weights. It means nothing where a plain file is given.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Args {
    /// Which values of a checkpoint: the moving average, or the trained weights; without it, the average if there is one.
    #[arg(long, value_enum)]
    values: Option<Values>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Values {
    Ema,
    Raw,
}

impl Args {
    /// What is asked for; `values` where nothing is.
    pub(crate) fn values_or(self, values: WhichValues) -> WhichValues {
        match self.values {
            None => values,
            Some(Values::Ema) => WhichValues::Ema,
            Some(Values::Raw) => WhichValues::Raw,
        }
    }
}
