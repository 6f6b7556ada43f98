//! `convnext index`: the index beside a shard.

use std::{collections::BTreeMap, path::PathBuf};

use convnext_data::{
    Shard,
    shard::{Indexed, Indexing, LEFT_OUT},
};
use convnext_pipeline::{interrupt, tell};
use serde::Serialize;

use crate::{Failure, Outcome, output, shards};

/// Builds the index of WebDataset tars that were not packed here (one pass over each).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext index imagenet/train-*.tar
  convnext index 'read-only/train-*.tar' --output indices; export CONVNEXT_INDEX_DIR=indices

A label is KEY.cls (a class number), or in KEY.json as \"label\", \"cls\", \"class\" or \"target\": a class number, or the
name of a class that train.classes.txt (or classes.txt) beside the shards has, one a line, class 0 first.
Other targets are indexed too, for tasks that learn from them: KEY.seg.png or KEY.mask.png, whose grey values or palette
numbers are classes and 255 is none; KEY.json with \"labels\", several class numbers; and with \"boxes\" beside them, one
[left, top, right, bottom] in pixels for each.")]
pub struct Args {
    /// The tars, or patterns of them; `x.tar.idx` is written beside each.
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<String>,
    /// Writes the indices into this folder and not beside the tars; the environment variable CONVNEXT_INDEX_DIR, which
    /// every command reads, says the same.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Share of a tar's pictures that may be left out because nothing here reads their kind.
    #[arg(long, value_name = "SHARE", default_value_t = LEFT_OUT, value_parser = share)]
    left_out: f64,
    /// Writes one line of JSON for each shard.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line {
    shard: PathBuf,
    samples: u64,
    unlabelled: u64,
    left_out: BTreeMap<String, u64>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
    let indices = args.output.clone().or_else(shards::indices);
    let go_on = || !interrupt::asked();
    let indexing = Indexing { indices: indices.as_deref(), left_out: args.left_out, go_on: &go_on };
    for path in &shards::expand(&args.shards)? {
        let what = || format!("{}: cannot be indexed", path.display());
        let indexed = Shard::index_with(path, &indexing).map_err(|error| Failure::because(what(), error))?;
        if args.json {
            let Indexed { samples, unlabelled, left_out, .. } = indexed.clone();
            output::json_line(&Line { shard: path.clone(), samples, unlabelled, left_out })?;
        } else {
            output::text(&format!("{}: {} samples\n", path.display(), indexed.samples))?;
        }
        tell_of(&path.display().to_string(), &indexed);
    }
    Ok(())
}

/// Says what is not in an index.
fn tell_of(path: &str, indexed: &Indexed) {
    for (kind, count) in &indexed.left_out {
        tell::warn(format_args!("{path}: {count} pictures left out: {kind}"));
    }
    if indexed.named > 0 {
        tell::warn(format_args!(
            "{path}: the labels of {} samples are names of classes; write the names, one a line, class 0 first, into a file \
             of class names beside the shards (see --help), and index again",
            indexed.named
        ));
    }
    if indexed.unreadable > 0 {
        tell::warn(format_args!(
            "{path}: {} .json members cannot be read, or are too large for labels",
            indexed.unreadable
        ));
    }
    if indexed.other_form > 0 {
        tell::warn(format_args!(
            "{path}: {} .json members have \"labels\" or \"boxes\" in another form than class numbers and [left, top, right, \
             bottom] in pixels, which is not read",
            indexed.other_form
        ));
    }
    if let Some(at) = indexed.another {
        tell::warn(format_args!(
            "{path}: another tar begins at byte {at}, after the end mark, and is not read; join tars with `tar --concatenate`"
        ));
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is from 0 to 1".to_owned()),
    }
}
