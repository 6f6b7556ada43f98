//! Weights in other layouts: which tensor is called what, and in which order its axes lie.
//!
//! A layout is a table (one file each) that can be read in both directions. Loading looks at the names in a file and
//! takes the layout that they fit best, behind whatever wrappers put before all of them; a tensor that is missing, unknown
//! or of another shape is an error that lists them all.
//!
//! To add a layout: a file with its table, a variant of [`Dialect`] with its name, its line in `Dialect::namings`.

mod channels;
mod hf;
mod hf_config;
mod mmpretrain;
mod official;
mod recognise;
mod sparse;
mod table;
mod timm;
mod translation;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use convnext_core::optim::Layout;
use recognise::{recognise, shapes};
use table::{ENCODER, Naming};
use thiserror::Error;

use crate::checkpoint::{self, CheckpointError, Header, Skipped, Source, Taken, TensorProblems, Usage, Which};

pub use channels::{AdaptChannels, ParseAdaptError};
pub use hf_config::{transformers_config, transformers_processor};
pub use translation::Translation;

/// A way to name tensors and to order their axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// This crate's: the names and shapes of a model's own [`Layout`].
    Ours,
    /// The official code's, dense.
    Official,
    /// The official pre-training files': sparse convolutions in the encoder. Autoencoders and their encoders only.
    Sparse,
    /// timm's. Classifiers and encoders only.
    Timm,
    /// Hugging Face transformers'. Classifiers and encoders only.
    HuggingFace,
    /// mmpretrain's. Classifiers and encoders only.
    MmPretrain,
}

/// Weights that cannot be converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The file cannot be read, or its tensors are not the model's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Not one tensor of the file is called like one of the model, in any layout.
    #[error(
        "{}: no tensor is named like one of this model's, in any layout known ({}); the file has {}",
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
        "{}: holds an encoder in the {dialect} layout, and not the rest of this model; fine-tuning starts from such a file, \
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
        "the {dialect} layout has no place for `{name}`; write these weights in another ({}), or the encoder alone",
        Dialect::names()
    )]
    Inexpressible {
        /// The layout.
        dialect: Dialect,
        /// The tensor.
        name: String,
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
    /// The file's first convolution looks at images of other channels.
    #[error(
        "{}: looks at images of {found} channels, and the model at {expected}; `convnext import --adapt-channels {}` \
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
    /// The file is a classifier of other classes.
    #[error(
        "{}: tells {found} classes apart, and the model {expected}; fine-tuning starts from such a file with a new head, \
         and `convnext import --reset-head` keeps everything else of it", path.display()
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

/// A name that is no layout's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no layout `{name}`; known: {}", Dialect::names())]
pub struct ParseDialectError {
    name: String,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Ours, Self::Official, Self::Sparse, Self::Timm, Self::HuggingFace, Self::MmPretrain];

    /// Name, as the command line takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Official => "official",
            Self::Sparse => "sparse",
            Self::Timm => "timm",
            Self::HuggingFace => "hf",
            Self::MmPretrain => "mmpretrain",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Its tables for a model of `layout`, one for each kind that it has names for. `None` where names are ours.
    fn namings(self, layout: &Layout) -> &'static [Option<&'static Naming>] {
        match self {
            Self::Ours => const { &[None] },
            Self::Official => const { &[Some(&official::CLASSIFIER), Some(&official::PRETRAINING)] },
            Self::Sparse => const { &[Some(&sparse::PRETRAINING)] },
            Self::Timm if timm::is_small(layout) => const { &[Some(&timm::SMALL_CLASSIFIER), Some(&timm::FEATURES)] },
            Self::Timm => const { &[Some(&timm::CLASSIFIER), Some(&timm::FEATURES)] },
            Self::HuggingFace => const { &[Some(&hf::CLASSIFIER), Some(&hf::CLASSIFIER_V1), Some(&hf::ENCODER_ALONE)] },
            Self::MmPretrain => const { &[Some(&mmpretrain::CLASSIFIER)] },
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dialect {
    type Err = ParseDialectError;

    fn from_str(name: &str) -> Result<Self, ParseDialectError> {
        let found = Self::ALL.into_iter().find(|dialect| dialect.name() == name);
        found.ok_or_else(|| ParseDialectError { name: name.to_owned() })
    }
}

/// The encoder's part of a model's layout.
pub fn encoder_of(layout: &Layout) -> Layout {
    narrowed(layout, |name| name.starts_with(ENCODER))
}

/// The tensors of `layout` whose names `keep` wants.
fn narrowed(layout: &Layout, keep: impl Fn(&str) -> bool) -> Layout {
    let kept = layout.segments().iter().filter(|segment| keep(&segment.name));
    Layout::new(kept.map(|segment| (&segment.name[..], segment.shape.clone()))).expect("part of a layout")
}

fn squeezed(shape: &[usize]) -> impl Iterator<Item = usize> + '_ {
    shape.iter().copied().filter(|&side| side != 1)
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

/// How a file of weights is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct How<'a> {
    /// Which of a run's or checkpoint's.
    pub which: Which,
    /// What to do where the file's images have other channels; an error without.
    pub adapt: Option<AdaptChannels>,
    /// Under which key of the file the weights are; seen from the names without.
    pub key: Option<&'a str>,
}

impl From<Which> for How<'_> {
    fn from(which: Which) -> Self {
        Self { which, ..Self::default() }
    }
}

/// Weights, and where they came from.
#[derive(Debug)]
pub struct Loaded {
    /// The flat buffer, in our layout.
    pub values: Vec<f32>,
    /// The file that was read.
    pub path: PathBuf,
    /// The layout it is in.
    pub dialect: Dialect,
    /// What wrappers had put before every name and was taken off, e.g. `module.`; empty where nothing.
    pub prefix: String,
    /// Tensors that stand outside of what the prefix is of, and were passed over: tell the user.
    pub outside: Vec<String>,
    /// Channels of the images that the file's weights looked at, where they were adapted.
    pub adapted: Option<usize>,
    /// What that is of the run or checkpoint: tell the user.
    pub taken: Taken,
    /// Better or newer checkpoints that were passed over: tell the user.
    pub skipped: Vec<Skipped>,
    /// What the file says about the use of the weights.
    pub usage: Option<Usage>,
}

const LINEAR: &str = "head.linear.";
const HEAD_NORM: &str = "head.norm.";

/// Reads the weights of a model from `path`, in whatever layout they are: a file of tensors, a checkpoint, a folder of
/// checkpoints, or a run directory with one named `checkpoints`. From a folder, the best or newest checkpoint that verifies
/// is taken.
///
/// # Errors
/// [`CheckpointError::Tensors`] with every missing, unknown and misshapen tensor, in the names of the file;
/// [`ConvertError::Classes`] when only the number of classes differs; other variants for a file that is damaged or is
/// none.
pub fn load<'a>(path: impl AsRef<Path>, layout: &Layout, how: impl Into<How<'a>>) -> Result<Loaded, ConvertError> {
    load_fitting(path, &[layout], how).map(|(_, loaded)| loaded)
}

/// As [`load`], for the one of `layouts` that fits the file best; its index is returned too. Of layouts that fit
/// equally, the smallest is taken: an encoder by itself is no classifier that misses its head.
///
/// # Errors
/// As [`load`].
///
/// # Panics
/// If there is no layout to choose from.
pub fn load_fitting<'a>(
    path: impl AsRef<Path>,
    layouts: &[&Layout],
    how: impl Into<How<'a>>,
) -> Result<(usize, Loaded), ConvertError> {
    let how = how.into();
    let source = Source::open(path.as_ref(), how.which, how.key)?;
    let (index, translation) = recognise(source.header(), layouts, how.key)?;
    let claims = |name: &str| translation.claims(name);
    Ok((index, read(source, &translation, how.adapt, claims)?))
}

/// Reads the tensors of `translation`, and no others that `ours` accepts may be there.
fn read(
    mut source: Source,
    translation: &Translation,
    adapt: Option<AdaptChannels>,
    ours: impl Fn(&str) -> bool,
) -> Result<Loaded, ConvertError> {
    let Some(found) = other_channels(source.header(), translation, adapt)? else {
        let values = source.load(translation.theirs(), ours).map_err(|error| plainly(error, translation))?;
        return Ok(loaded(source.into_header(), translation, translation.invert(&values)));
    };
    let as_is = translation.of(&channels::with_channels(&translation.ours, found))?;
    let as_is = as_is.accepting(&shapes(source.header()));
    let values = source.load(as_is.theirs(), ours).map_err(|error| plainly(error, &as_is))?;
    let values = AdaptChannels::apply(&as_is.ours, &as_is.invert(&values), &translation.ours);
    Ok(Loaded { adapted: Some(found), ..loaded(source.into_header(), translation, values) })
}

/// Channels of the file's images where they are others than the model's and may be adapted.
fn other_channels(
    header: &Header,
    translation: &Translation,
    adapt: Option<AdaptChannels>,
) -> Result<Option<usize>, ConvertError> {
    let stem = channels::stem_name(translation).and_then(|name| shapes(header).get(name).copied());
    let Some((expected, found)) = stem.and_then(|stem| channels::other_channels(translation, stem)) else {
        return Ok(None);
    };
    match adapt {
        None => Err(ConvertError::Channels { path: header.path.clone(), expected, found }),
        Some(asked) if asked != AdaptChannels::to(expected) => Err(ConvertError::Adapt { asked, channels: expected }),
        Some(_) => Ok(Some(found)),
    }
}

/// How much of a file is taken, the rest staying as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The encoder, and the head's norm if the file has it: for fine-tuning what was pre-trained or trained for other
    /// classes. Other tensors in the file are ignored.
    Encoder,
    /// Everything but the last linear layer, whose number of classes may differ.
    AllButClasses,
}

/// Reads a part of a model from `path` into `values`, in whatever layout it is, and leaves the rest of `values` alone.
///
/// The returned [`Loaded::values`] are those of the part.
///
/// # Errors
/// As [`load`], for the part; `values` is then unchanged.
///
/// # Panics
/// If `values` has another length than the layout.
pub fn load_into<'a>(
    path: impl AsRef<Path>,
    layout: &Layout,
    values: &mut [f32],
    how: impl Into<How<'a>>,
    take: Take,
) -> Result<Loaded, ConvertError> {
    assert_eq!(values.len(), layout.len(), "a flat buffer of another layout");
    let how = how.into();
    let source = Source::open(path.as_ref(), how.which, how.key)?;
    let translation = part(source.header(), layout, take, how.key)?;
    let known = |name: &str| match take {
        Take::AllButClasses => translation.claims(name) && !is_linear(&translation, layout, name),
        Take::Encoder => is_encoder(&translation, name),
    };
    let loaded = read(source, &translation, how.adapt, known)?;
    for from in translation.ours.segments() {
        let to = layout.get(&from.name).expect("part of the layout");
        values[to.range.clone()].copy_from_slice(&loaded.values[from.range.clone()]);
    }
    Ok(loaded)
}

/// The translation of what is to be taken from the file.
fn part(header: &Header, layout: &Layout, take: Take, key: Option<&str>) -> Result<Translation, ConvertError> {
    let wanted = match take {
        Take::Encoder => encoder_of(layout),
        Take::AllButClasses => narrowed(layout, |name| !name.starts_with(LINEAR)),
    };
    let (_, translation) = recognise(header, &[&wanted], key)?;
    if take == Take::AllButClasses {
        return Ok(translation);
    }
    let with_norm = narrowed(layout, |name| name.starts_with(ENCODER) || name.starts_with(HEAD_NORM));
    let with_norm = translation.of(&with_norm);
    let shapes = shapes(header);
    let norm_is_there = |with_norm: &Translation| {
        let norm = with_norm.narrowed(|name| name.starts_with(HEAD_NORM));
        norm.theirs.segments().iter().all(|s| shapes.get(&s.name[..]).is_some_and(|shape| *shape == &s.shape[..]))
    };
    Ok(match with_norm {
        Ok(with_norm) if norm_is_there(&with_norm) => with_norm.accepting(&shapes),
        _ => translation,
    })
}

/// Whether `name` is the last linear layer's in the layout of `translation`.
fn is_linear(translation: &Translation, layout: &Layout, name: &str) -> bool {
    let linear = narrowed(layout, |name| name.starts_with(LINEAR));
    translation.of(&linear).is_ok_and(|linear| linear.theirs.get(name).is_some())
}

/// Whether `name` is the encoder's in the layout of `translation`.
fn is_encoder(translation: &Translation, name: &str) -> bool {
    let bare = name.strip_prefix(&translation.prefix.encoder[..]);
    bare.is_some_and(|name| translation.naming.map_or(name.starts_with(ENCODER), |naming| naming.is_encoder(name)))
}

/// Says it plainly where nothing but the number of classes is wrong, or all but the encoder is missing.
fn plainly(error: CheckpointError, translation: &Translation) -> ConvertError {
    let CheckpointError::Tensors { path, problems } = &error else { return error.into() };
    let TensorProblems { missing, extra, misshapen, mistyped } = problems;
    let rest = translation.narrowed(|name| !name.starts_with(ENCODER));
    let all_of_rest =
        missing.len() == rest.theirs.segments().len() && missing.iter().all(|n| rest.theirs.get(n).is_some());
    if !missing.is_empty() && all_of_rest && misshapen.is_empty() && mistyped.is_empty() {
        return ConvertError::OtherModel { path: path.clone(), dialect: translation.dialect };
    }
    let linear = translation.narrowed(|name| name.starts_with(LINEAR));
    let only_classes = missing.is_empty() && extra.is_empty() && mistyped.is_empty();
    let all_linear = misshapen.iter().all(|wrong| linear.theirs.get(&wrong.name).is_some());
    // The bias has one value a class in every layout.
    let bias = misshapen.iter().find(|wrong| wrong.name.ends_with("bias"));
    match bias.map(|bias| (&bias.expected[..], &bias.found[..])) {
        Some((&[expected], &[found])) if only_classes && all_linear => {
            ConvertError::Classes { path: path.clone(), expected, found }
        }
        _ => error.into(),
    }
}

fn loaded(header: Header, translation: &Translation, values: Vec<f32>) -> Loaded {
    let prefix = translation.prefix.encoder.clone();
    let is_outside = |name: &String| !name.starts_with(&prefix) && translation.theirs.get(name).is_none();
    let outside = header.tensors.into_iter().map(|(name, _)| name).filter(is_outside).collect();
    let Header { path, taken, skipped, usage, .. } = header;
    Loaded { values, path, dialect: translation.dialect, prefix, outside, adapted: None, taken, skipped, usage }
}

/// Writes a flat buffer of `layout` as one `.safetensors` file in `dialect`, with what is known of its use.
///
/// # Errors
/// [`ConvertError::Inexpressible`], or the disk refuses.
///
/// # Panics
/// If `values` has another length than the layout.
pub fn save(
    path: impl AsRef<Path>,
    layout: &Layout,
    values: &[f32],
    dialect: Dialect,
    usage: Option<&Usage>,
) -> Result<(), ConvertError> {
    let translation = Translation::new(layout, dialect)?;
    checkpoint::save_weights(path, translation.theirs(), &translation.apply(values), usage)?;
    Ok(())
}

#[cfg(test)]
mod tests;
