//! Why weights cannot be converted.

use std::path::PathBuf;

use thiserror::Error;

use super::{adapt::AdaptChannels, dialect::Dialect};
use crate::checkpoint::CheckpointError;

/// Weights that cannot be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The file cannot be read, or its tensors are not the model's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No tensor of the file has the name of one of the model, in any layout.
    #[error(
        "{}: no tensor is named like one of this model's, in any known layout ({}); the file has {}",
        path.display(), Dialect::names(), some(found)
    )]
    Unrecognised {
        /// The file.
        path: PathBuf,
        /// Names in it.
        found: Vec<String>,
    },
    /// The file holds the model's encoder and nothing of the rest.
    #[error(
        "{}: holds only the encoder of this model, in the {dialect} layout; fine-tuning starts from such a file, \
         and `--encoder` imports and exports it alone", path.display()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The layout it is in.
        dialect: Dialect,
    },
    /// The model has a tensor that the layout cannot express.
    #[error(
        "the {dialect} layout has no name for `{name}`; write these weights in another layout ({}), or the encoder alone",
        Dialect::names()
    )]
    Inexpressible {
        /// The layout.
        dialect: Dialect,
        /// The tensor.
        name: String,
    },
    /// The program whose layout is asked for has no model of such sizes.
    #[error("no model of {dialect} can hold `{model}`: {why}; export it as ours, official or onnx")]
    NoSuchModel {
        /// The layout.
        dialect: Dialect,
        /// The variant.
        model: &'static str,
        /// What its models have instead.
        why: String,
    },
    /// The file holds the model twice, behind different prefixes.
    #[error(
        "{}: holds these weights twice, {} and {}; choose with --weights-key",
        path.display(), below(one), below(other)
    )]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// What stands before the names of one.
        one: String,
        /// What stands before those of the other.
        other: String,
    },
    /// No name in the file starts with the key that was asked for.
    #[error("{}: nothing below `{key}`; the file has {}", path.display(), some(found))]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Names in it.
        found: Vec<String>,
    },
    /// The file's first convolution takes images of another number of channels.
    #[error(
        "{}: takes images of {found} channels, and the model takes {expected}; `convnext import --adapt-channels {}` \
         makes the first convolution fit", path.display(), AdaptChannels::to(*expected)
    )]
    Channels {
        /// The file.
        path: PathBuf,
        /// Channels of the model.
        expected: usize,
        /// Channels of the file.
        found: usize,
    },
    /// The way to adapt channels that was asked for leads to another number of them.
    #[error("--adapt-channels {asked} does not lead to {channels} channels; give {}", AdaptChannels::to(*channels))]
    Adapt {
        /// What was asked for.
        asked: AdaptChannels,
        /// Channels of the model.
        channels: usize,
    },
    /// The file is a classifier with another number of classes.
    #[error(
        "{}: classifies into {found} classes, and the model into {expected}; fine-tuning starts from such a file with a new \
         head, and `convnext import --reset-head` keeps everything else of it", path.display()
    )]
    Classes {
        /// The file.
        path: PathBuf,
        /// Classes of the model.
        expected: usize,
        /// Classes of the file.
        found: usize,
    },
}

/// A few of many names.
fn some(names: &[String]) -> String {
    const MOST: usize = 4;
    let shown = names.iter().take(MOST).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "none".to_owned(),
        count if count > MOST => format!("{shown} and {} more", count - MOST),
        _ => shown,
    }
}

fn below(prefix: &str) -> String {
    match prefix.strip_suffix('.') {
        Some(prefix) => format!("below `{prefix}`"),
        None => "by their own names".to_owned(),
    }
}
