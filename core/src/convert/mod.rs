//! Weights in other layouts: which tensor is called what, and in which order its axes lie.
//!
//! A layout is a table (one file each) that can be read in both directions. Loading looks at the names in a file and
//! takes the layout that they fit best; a tensor that is missing, unknown or of another shape is an error that lists
//! them all.
//!
//! To add a layout: a file with its table, a variant of [`Dialect`], its line in `Dialect::namings`.

mod official;
mod table;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;

use crate::{
    checkpoint::{self, CheckpointError, Skipped, Which},
    optim::{Layout, Segment},
};
use table::{ENCODER, Naming};

/// A way to name tensors and to order their axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// This crate's: the names and shapes of a model's own [`Layout`].
    Ours,
    /// The official code's, dense.
    Official,
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
    /// The model has a tensor that the layout cannot express.
    #[error("the {dialect} layout has no place for `{name}`; write the weights as {}", Dialect::Ours)]
    Inexpressible {
        /// The layout.
        dialect: Dialect,
        /// The tensor.
        name: String,
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
    pub const ALL: [Self; 2] = [Self::Ours, Self::Official];

    /// Name, as the command line takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Official => "official",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// Its tables: for classifiers, then for pre-training models. `None` where names are ours.
    fn namings(self) -> [Option<&'static Naming>; 2] {
        match self {
            Self::Ours => [None, None],
            Self::Official => [Some(&official::CLASSIFIER), Some(&official::PRETRAINING)],
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
    axes: Vec<Option<&'static [usize]>>,
}

impl Translation {
    /// Between `layout` (of a classifier, or of a pre-training model) and `dialect`.
    ///
    /// # Errors
    /// [`ConvertError::Inexpressible`] when a tensor has no name there.
    pub fn new(layout: &Layout, dialect: Dialect) -> Result<Self, ConvertError> {
        let pretraining = layout.segments().iter().any(|segment| segment.name.starts_with("densify."));
        Self::with_naming(layout, dialect, dialect.namings()[usize::from(pretraining)])
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
            tensors.push((their_name, table::shape(shape, their_axes)));
            axes.push((shape.len() > 1).then_some(their_axes));
        }
        let theirs = Layout::new(tensors).expect("a table names different tensors differently");
        Ok(Self { dialect, naming, ours: layout.clone(), theirs, axes })
    }

    /// The layout that fits most of `names`; `None` where none fits any.
    fn detect(layout: &Layout, names: &HashSet<&str>) -> Option<Self> {
        let all = Dialect::ALL.into_iter().flat_map(|dialect| dialect.namings().map(|naming| (dialect, naming)));
        let translations = all.filter_map(|(dialect, naming)| Self::with_naming(layout, dialect, naming).ok());
        let fit = |this: &Self| this.theirs.segments().iter().filter(|s| names.contains(&s.name[..])).count();
        let fits = translations.map(|this| (fit(&this), this));
        // Our own layout comes first and wins a tie.
        let (fit, best) = fits.reduce(|best, next| if next.0 > best.0 { next } else { best })?;
        (fit > 0).then_some(best)
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
                Some(axes) => out.extend(table::places(&segment.shape, axes).map(|place| values[place])),
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
                table::places(&segment.shape, axes).zip(values).for_each(|(place, &value)| out[place] = value);
            }
        }
        out
    }

    fn tensors(&self, values: &[f32]) -> impl Iterator<Item = (&Segment, Option<&'static [usize]>)> {
        assert_eq!(values.len(), self.ours.len(), "a flat buffer of another layout");
        self.ours.segments().iter().zip(self.axes.iter().copied())
    }
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
    /// Newer checkpoints that were passed over: tell the user.
    pub skipped: Vec<Skipped>,
}

/// Reads the weights of a model from `path`, in whatever layout they are. The paths taken are those of
/// [`checkpoint::load_weights`].
///
/// # Errors
/// [`CheckpointError::Tensors`] with every missing, unknown and misshapen tensor, in the names of the file; other
/// variants for a file that is damaged or is none.
pub fn load(path: impl AsRef<Path>, layout: &Layout, which: Which) -> Result<Loaded, ConvertError> {
    let (header, translation) = recognise(path.as_ref(), layout, which)?;
    let values = checkpoint::load_part(&header.path, translation.theirs(), |_| true)?;
    Ok(loaded(header, &translation, &values))
}

/// Reads the encoder from `path` into `values`, in whatever layout it is, and leaves the rest of `values` alone: for
/// fine-tuning what was pre-trained. Tensors in the file that are not the encoder's are ignored.
///
/// The returned [`Loaded::values`] are the encoder's.
///
/// # Errors
/// As [`load`], for the encoder; `values` is then unchanged.
///
/// # Panics
/// If `values` has another length than the layout.
pub fn load_encoder(
    path: impl AsRef<Path>,
    layout: &Layout,
    values: &mut [f32],
    which: Which,
) -> Result<Loaded, ConvertError> {
    assert_eq!(values.len(), layout.len(), "a flat buffer of another layout");
    let segments: Vec<&Segment> = layout.segments().iter().filter(|s| s.name.starts_with(ENCODER)).collect();
    let encoder = Layout::new(segments.iter().map(|s| (&s.name[..], s.shape.clone()))).expect("part of a layout");
    let (header, translation) = recognise(path.as_ref(), &encoder, which)?;
    let is_encoder = |name: &str| match translation.naming {
        Some(naming) => naming.is_encoder(name),
        None => name.starts_with(ENCODER),
    };
    let found = checkpoint::load_part(&header.path, translation.theirs(), is_encoder)?;
    let loaded = loaded(header, &translation, &found);
    for (from, to) in encoder.segments().iter().zip(segments) {
        values[to.range.clone()].copy_from_slice(&loaded.values[from.range.clone()]);
    }
    Ok(loaded)
}

fn recognise(path: &Path, layout: &Layout, which: Which) -> Result<(checkpoint::Header, Translation), ConvertError> {
    let header = checkpoint::read_header(path, which)?;
    let shapes: HashMap<&str, &[usize]> = header.tensors.iter().map(|(name, shape)| (&name[..], &shape[..])).collect();
    let names = shapes.keys().copied().collect();
    let Some(translation) = Translation::detect(layout, &names) else {
        let found = header.tensors.iter().map(|(name, _)| name.clone()).collect();
        return Err(ConvertError::Unrecognised { path: header.path, found });
    };
    let translation = translation.accepting(&shapes);
    Ok((header, translation))
}

fn loaded(header: checkpoint::Header, translation: &Translation, values: &[f32]) -> Loaded {
    let (values, dialect) = (translation.invert(values), translation.dialect);
    Loaded { values, path: header.path, dialect, skipped: header.skipped }
}

/// Writes a flat buffer of `layout` as one `.safetensors` file in `dialect`.
///
/// # Errors
/// [`ConvertError::Inexpressible`], or the disk refuses.
///
/// # Panics
/// If `values` has another length than the layout.
pub fn save(path: impl AsRef<Path>, layout: &Layout, values: &[f32], dialect: Dialect) -> Result<(), ConvertError> {
    let translation = Translation::new(layout, dialect)?;
    checkpoint::save_weights(path, translation.theirs(), &translation.apply(values))?;
    Ok(())
}

#[cfg(test)]
mod tests;
