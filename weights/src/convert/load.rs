//! Weights read into a model, in whatever layout they are.

use std::path::{Path, PathBuf};

use convnext_core::optim::Layout;

use super::{
    adapt::AdaptChannels,
    channels,
    dialect::Dialect,
    error::ConvertError,
    layouts::{encoder_of, narrowed},
    recognise::{recognise, shapes},
    table::ENCODER,
    translation::Translation,
};
use crate::checkpoint::{CheckpointError, Header, Skipped, Source, Taken, TensorProblems, Usage, Which};

/// How a file of weights is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions<'a> {
    /// Which of a run's or checkpoint's.
    pub which: Which,
    /// What to do where the file's images have other channels; an error without.
    pub adapt: Option<AdaptChannels>,
    /// Under which key of the file the weights are; seen from the names without.
    pub key: Option<&'a str>,
}

impl From<Which> for LoadOptions<'_> {
    fn from(which: Which) -> Self {
        Self { which, ..Self::default() }
    }
}

/// Weights of a model, and where they came from.
#[derive(Debug)]
pub struct LoadedWeights {
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
/// [`ConvertError::Classes`] when only the number of classes differs; other variants for a file that is damaged, or is not
/// one of weights.
pub fn load<'a>(
    path: impl AsRef<Path>,
    layout: &Layout,
    options: impl Into<LoadOptions<'a>>,
) -> Result<LoadedWeights, ConvertError> {
    load_fitting(path, &[layout], options).map(|(_, loaded)| loaded)
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
    options: impl Into<LoadOptions<'a>>,
) -> Result<(usize, LoadedWeights), ConvertError> {
    let options = options.into();
    let source = Source::open(path.as_ref(), options.which, options.key)?;
    let (index, translation) = recognise(source.header(), layouts, options.key)?;
    let claims = |name: &str| translation.claims(name);
    Ok((index, read(source, &translation, options.adapt, claims)?))
}

/// Reads the tensors of `translation`, and no others that `ours` accepts may be there.
fn read(
    mut source: Source,
    translation: &Translation,
    adapt: Option<AdaptChannels>,
    ours: impl Fn(&str) -> bool,
) -> Result<LoadedWeights, ConvertError> {
    let Some(found) = other_channels(source.header(), translation, adapt)? else {
        let values = source.load(translation.theirs(), ours).map_err(|error| plainly(error, translation))?;
        return Ok(loaded(source.into_header(), translation, translation.invert(&values)));
    };
    let as_is = translation.of(&channels::with_channels(&translation.ours, found))?;
    let as_is = as_is.accepting(&shapes(source.header()));
    let values = source.load(as_is.theirs(), ours).map_err(|error| plainly(error, &as_is))?;
    let values = channels::adapt(&as_is.ours, &as_is.invert(&values), &translation.ours);
    Ok(LoadedWeights { adapted: Some(found), ..loaded(source.into_header(), translation, values) })
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
/// The returned [`LoadedWeights::values`] are those of the part.
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
    options: impl Into<LoadOptions<'a>>,
    take: Take,
) -> Result<LoadedWeights, ConvertError> {
    assert_eq!(values.len(), layout.len(), "a flat buffer of another layout");
    let options = options.into();
    let source = Source::open(path.as_ref(), options.which, options.key)?;
    let translation = part(source.header(), layout, take, options.key)?;
    let known = |name: &str| match take {
        Take::AllButClasses => translation.claims(name) && !is_linear(&translation, layout, name),
        Take::Encoder => is_encoder(&translation, name),
    };
    let loaded = read(source, &translation, options.adapt, known)?;
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

fn loaded(header: Header, translation: &Translation, values: Vec<f32>) -> LoadedWeights {
    let prefix = translation.prefix.encoder.clone();
    let is_outside = |name: &String| !name.starts_with(&prefix) && translation.theirs.get(name).is_none();
    let outside = header.tensors.into_iter().map(|(name, _)| name).filter(is_outside).collect();
    let Header { path, taken, skipped, usage, .. } = header;
    LoadedWeights { values, path, dialect: translation.dialect, prefix, outside, adapted: None, taken, skipped, usage }
}
