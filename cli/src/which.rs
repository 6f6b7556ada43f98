//! `--checkpoint` and `--values`: which weights of a run are used.

use clap::ValueEnum;
use convnext_weights::checkpoint::{Which, WhichCheckpoint, WhichValues};

/// The arguments, for commands that read weights. They mean nothing where a plain file is given.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub(crate) struct Args {
    /// Which checkpoint of a run: the best in validation, which is the newest where nothing was validated; or the newest.
    #[arg(long, value_enum, default_value_t)]
    checkpoint: Checkpoint,
    /// Which values of a checkpoint: the moving average, or the trained weights; without it, the average if there is one.
    #[arg(long, value_enum)]
    values: Option<Values>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Checkpoint {
    #[default]
    Best,
    Newest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Values {
    Ema,
    Raw,
}

impl Args {
    /// What is asked for.
    pub(crate) fn which(self) -> Which {
        self.which_or(WhichValues::default())
    }

    /// What is asked for, with the values that are meant where none are.
    pub(crate) fn which_or(self, values: WhichValues) -> Which {
        let checkpoint = match self.checkpoint {
            Checkpoint::Best => WhichCheckpoint::Best,
            Checkpoint::Newest => WhichCheckpoint::Newest,
        };
        let values = match self.values {
            None => values,
            Some(Values::Ema) => WhichValues::Ema,
            Some(Values::Raw) => WhichValues::Raw,
        };
        Which { checkpoint, values }
    }
}
