//! `convnext index`: the index beside a shard.

use std::path::PathBuf;

use convnext_data::Shard;
use serde::Serialize;

use crate::{Failure, Outcome, output};

/// Builds the index of WebDataset tars that were not packed here (one pass over each).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext index imagenet/train-*.tar")]
pub struct Args {
    /// The tars; `x.tar.idx` is written beside each.
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<PathBuf>,
    /// Writes one line of JSON for each shard.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Indexed {
    shard: PathBuf,
    samples: u64,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    for path in &args.shards {
        let what = || format!("{}: cannot be indexed", path.display());
        let samples = Shard::index(path).map_err(|error| Failure::because(what(), error))?.samples;
        if args.json {
            output::json_line(&Indexed { shard: path.clone(), samples })?;
        } else {
            output::text(&format!("{}: {samples} samples\n", path.display()))?;
        }
    }
    Ok(())
}
