//! Weights in other layouts: which tensor is called what, and in which order its axes lie.
//!
//! A layout is a table (one file each) that can be read in both directions. Loading looks at the names in a file and
//! takes the layout that they fit best; a tensor that is missing, unknown or of another shape is an error that lists
//! them all.
//!
//! To add a layout: a file with its table, a variant of [`Dialect`] with its name, its line in `Dialect::namings`.

mod hf;
mod official;
mod sparse;
mod table;
mod timm;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;

use crate::{
    checkpoint::{self, CheckpointError, Header, Skipped, Taken, TensorProblems, Usage, Which},
    optim::{Layout, Segment},
};
use table::{Axes, ENCODER, Naming};

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
    /// The file holds the model's encoder, and in that layout the rest of the model has no names.
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
    pub const ALL: [Self; 5] = [Self::Ours, Self::Official, Self::Sparse, Self::Timm, Self::HuggingFace];

    /// Name, as the command line takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Official => "official",
            Self::Sparse => "sparse",
            Self::Timm => "timm",
            Self::HuggingFace => "hf",
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
            Self::Timm if timm::is_small(layout) => const { &[Some(&timm::SMALL_CLASSIFIER)] },
            Self::Timm => const { &[Some(&timm::CLASSIFIER)] },
            Self::HuggingFace => const { &[Some(&hf::CLASSIFIER), Some(&hf::CLASSIFIER_V1), Some(&hf::ENCODER_ALONE)] },
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

/// A flat buffer in our layout, and the same tensors in another.
#[derive(Debug, Clone)]
pub struct Translation {
    dialect: Dialect,
    naming: Option<&'static Naming>,
    ours: Layout,
    theirs: Layout,
    /// Of each tensor: which of our axes theirs are; `None` where values keep their order.
    axes: Vec<Option<Axes>>,
}

impl Translation {
    /// Between `layout` (of a classifier, of a pre-training model, or of the encoder of either) and `dialect`.
    ///
    /// # Errors
    /// [`ConvertError::Inexpressible`] when a tensor has no name there.
    pub fn new(layout: &Layout, dialect: Dialect) -> Result<Self, ConvertError> {
        let mut all = dialect.namings(layout).iter().map(|&naming| Self::with_naming(layout, dialect, naming));
        let first = all.next().expect("every layout has a table");
        match first {
            Ok(found) => Ok(found),
            Err(error) => all.find_map(Result::ok).ok_or(error),
        }
    }

    fn with_naming(layout: &Layout, dialect: Dialect, naming: Option<&'static Naming>) -> Result<Self, ConvertError> {
        let mut tensors = Vec::new();
        let mut axes = Vec::new();
        for Segment { name, shape, .. } in layout.segments() {
            let Some(naming) = naming else {
                tensors.push((name.clone(), shape.clone()));
                axes.push(None);
                continue;
            };
            let inexpressible = || ConvertError::Inexpressible { dialect, name: name.clone() };
            let (their_name, their_axes) = naming.translate(name, shape.len()).ok_or_else(inexpressible)?;
            tensors.push((their_name, their_axes.shape(shape)));
            axes.push((shape.len() > 1).then_some(their_axes));
        }
        let theirs = Layout::new(tensors).expect("a table names different tensors differently");
        Ok(Self { dialect, naming, ours: layout.clone(), theirs, axes })
    }

    /// The layout that fits most of `names`, and how many; `None` where none fits any.
    fn detect(layout: &Layout, names: &HashSet<&str>) -> Option<(usize, Self)> {
        let namings = |dialect: Dialect| dialect.namings(layout).iter().map(move |&naming| (dialect, naming));
        let all = Dialect::ALL.into_iter().flat_map(namings);
        let translations = all.filter_map(|(dialect, naming)| Self::with_naming(layout, dialect, naming).ok());
        let fit = |this: &Self| this.theirs.segments().iter().filter(|s| names.contains(&s.name[..])).count();
        let fits = translations.map(|this| (fit(&this), this));
        // Our own layout comes first and wins a tie.
        let best = fits.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.filter(|&(fit, _)| fit > 0)
    }

    /// The same for some of the tensors only.
    fn narrowed(&self, keep: impl Fn(&str) -> bool) -> Self {
        let layout = narrowed(&self.ours, keep);
        Self::with_naming(&layout, self.dialect, self.naming).expect("a part of what was expressed")
    }

    /// Takes the shapes of `found` where they differ from ours only by axes of length 1: the order of values is the
    /// same. Published files have GRN's gamma as `(1, 1, 1, C)`, `(1, C)` and `(C)`.
    fn accepting(mut self, found: &HashMap<&str, &[usize]>) -> Self {
        let tensors = self.theirs.segments().iter().map(|Segment { name, shape, .. }| {
            let same = found.get(&name[..]).filter(|found| squeezed(found).eq(squeezed(shape)));
            (name.clone(), same.map_or_else(|| shape.clone(), |found| found.to_vec()))
        });
        self.theirs = Layout::new(tensors).expect("the names of a layout");
        self
    }

    /// The other layout's name.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Names and shapes in the other layout, in our order.
    pub fn theirs(&self) -> &Layout {
        &self.theirs
    }

    /// From ours to theirs.
    ///
    /// # Panics
    /// If `values` has another length than the layout.
    pub fn apply(&self, values: &[f32]) -> Vec<f32> {
        let mut out = Vec::with_capacity(values.len());
        for (segment, axes) in self.tensors(values) {
            let values = &values[segment.range.clone()];
            match axes {
                Some(axes) => out.extend(axes.places(&segment.shape).map(|place| values[place])),
                None => out.extend_from_slice(values),
            }
        }
        out
    }

    /// From theirs to ours.
    ///
    /// # Panics
    /// If `values` has another length than the layout.
    pub fn invert(&self, values: &[f32]) -> Vec<f32> {
        let mut out = values.to_vec();
        for (segment, axes) in self.tensors(values) {
            let (values, out) = (&values[segment.range.clone()], &mut out[segment.range.clone()]);
            if let Some(axes) = axes {
                axes.places(&segment.shape).zip(values).for_each(|(place, &value)| out[place] = value);
            }
        }
        out
    }

    fn tensors(&self, values: &[f32]) -> impl Iterator<Item = (&Segment, Option<Axes>)> {
        assert_eq!(values.len(), self.ours.len(), "a flat buffer of another layout");
        self.ours.segments().iter().zip(self.axes.iter().copied())
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

/// Weights, and where they came from.
#[derive(Debug)]
pub struct Loaded {
    /// The flat buffer, in our layout.
    pub values: Vec<f32>,
    /// The file that was read.
    pub path: PathBuf,
    /// The layout it is in.
    pub dialect: Dialect,
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
pub fn load(path: impl AsRef<Path>, layout: &Layout, which: Which) -> Result<Loaded, ConvertError> {
    load_fitting(path, &[layout], which).map(|(_, loaded)| loaded)
}

/// As [`load`], for the one of `layouts` that fits the file best; its index is returned too. Of layouts that fit
/// equally, the smallest is taken: an encoder by itself is no classifier that misses its head.
///
/// # Errors
/// As [`load`].
///
/// # Panics
/// If there is no layout to choose from.
pub fn load_fitting(
    path: impl AsRef<Path>,
    layouts: &[&Layout],
    which: Which,
) -> Result<(usize, Loaded), ConvertError> {
    let header = checkpoint::read_header(path.as_ref(), which)?;
    let (index, translation) = recognise(&header, layouts)?;
    let values = checkpoint::load_part(&header, translation.theirs(), |_| true)
        .map_err(|error| other_classes(error, &translation))?;
    Ok((index, loaded(header, &translation, &values)))
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
pub fn load_into(
    path: impl AsRef<Path>,
    layout: &Layout,
    values: &mut [f32],
    which: Which,
    take: Take,
) -> Result<Loaded, ConvertError> {
    assert_eq!(values.len(), layout.len(), "a flat buffer of another layout");
    let header = checkpoint::read_header(path.as_ref(), which)?;
    let translation = part(&header, layout, take)?;
    let known = |name: &str| match (take, translation.naming) {
        (Take::AllButClasses, _) => !is_linear(&translation, layout, name),
        (Take::Encoder, Some(naming)) => naming.is_encoder(name),
        (Take::Encoder, None) => name.starts_with(ENCODER),
    };
    let found = checkpoint::load_part(&header, translation.theirs(), known)?;
    let loaded = loaded(header, &translation, &found);
    for from in translation.ours.segments() {
        let to = layout.get(&from.name).expect("part of the layout");
        values[to.range.clone()].copy_from_slice(&loaded.values[from.range.clone()]);
    }
    Ok(loaded)
}

/// The translation of what is to be taken from the file.
fn part(header: &Header, layout: &Layout, take: Take) -> Result<Translation, ConvertError> {
    let wanted = match take {
        Take::Encoder => encoder_of(layout),
        Take::AllButClasses => narrowed(layout, |name| !name.starts_with(LINEAR)),
    };
    let (_, translation) = recognise(header, &[&wanted])?;
    if take == Take::AllButClasses {
        return Ok(translation);
    }
    let with_norm = narrowed(layout, |name| name.starts_with(ENCODER) || name.starts_with(HEAD_NORM));
    let with_norm = Translation::with_naming(&with_norm, translation.dialect, translation.naming);
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
    let linear = Translation::with_naming(&linear, translation.dialect, translation.naming);
    linear.is_ok_and(|linear| linear.theirs.get(name).is_some())
}

/// Says it plainly where nothing but the number of classes is wrong.
fn other_classes(error: CheckpointError, translation: &Translation) -> ConvertError {
    let CheckpointError::Tensors { path, problems } = &error else { return error.into() };
    let TensorProblems { missing, extra, misshapen, mistyped } = problems;
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

fn shapes(header: &Header) -> HashMap<&str, &[usize]> {
    header.tensors.iter().map(|(name, shape)| (&name[..], &shape[..])).collect()
}

/// Which of `layouts` the file fits, and in which dialect.
fn recognise(header: &Header, layouts: &[&Layout]) -> Result<(usize, Translation), ConvertError> {
    let shapes = shapes(header);
    let names = shapes.keys().copied().collect();
    let fits = layouts.iter().enumerate().filter_map(|(index, layout)| {
        let (fit, translation) = Translation::detect(layout, &names)?;
        Some(((fit, Reverse(layout.segments().len())), index, translation))
    });
    if let Some((_, index, translation)) = fits.max_by_key(|(fit, ..)| *fit) {
        return Ok((index, translation.accepting(&shapes)));
    }
    let path = header.path.clone();
    Err(match layouts.iter().find_map(|layout| Translation::detect(&encoder_of(layout), &names)) {
        Some((_, encoder)) => ConvertError::OtherModel { path, dialect: encoder.dialect },
        None => {
            let found = header.tensors.iter().map(|(name, _)| name.clone()).collect();
            ConvertError::Unrecognised { path, found }
        }
    })
}

fn loaded(header: Header, translation: &Translation, values: &[f32]) -> Loaded {
    let (values, dialect) = (translation.invert(values), translation.dialect);
    let Header { path, taken, skipped, usage, .. } = header;
    Loaded { values, path, dialect, taken, skipped, usage }
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
