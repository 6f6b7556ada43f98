//! Where tensors are read from: one file, or several with an index, checked against a layout before anything is read.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use convnext_core::optim::Layout;

use super::{
    error::{CheckpointError, Misshapen, TensorProblems},
    one_file::OneFile,
    shards::{self, Shards},
    usage::Usage,
};
use crate::pytorch::Section;

/// A file of tensors whose header has been read and found sound: `.safetensors`, PyTorch's `.pt`, or the index of several.
///
/// It stays open: what becomes of its name does not matter any more.
pub(super) struct TensorFile {
    path: PathBuf,
    container: Container,
}

enum Container {
    One(OneFile),
    Shards(Shards),
}

impl TensorFile {
    /// Reads and checks the header. An index shows in its name; `section` says which dict of a `.pt` file is meant.
    pub(super) fn open(path: &Path, section: Section<'_>) -> Result<Self, CheckpointError> {
        let container = match shards::is_index(path) {
            true => Container::Shards(Shards::open(path)?),
            false => Container::One(OneFile::open(path, section)?),
        };
        Ok(Self { path: path.into(), container })
    }

    /// Names and shapes of all tensors, in the order of the file.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        match &self.container {
            Container::One(file) => file.shapes(),
            Container::Shards(shards) => shards.files().flat_map(OneFile::shapes).collect(),
        }
    }

    /// The dict of a `.pt` file that was taken, where it has several.
    pub(super) fn section(&self) -> Option<&str> {
        match &self.container {
            Container::One(OneFile::Pytorch(file)) => file.section(),
            _ => None,
        }
    }

    /// Whether that is the moving average of the trained weights.
    pub(super) fn is_average(&self) -> bool {
        matches!(&self.container, Container::One(OneFile::Pytorch(file)) if file.is_average())
    }

    /// What the file says about the use of the weights.
    pub(super) fn usage(&self) -> Option<Usage> {
        match &self.container {
            Container::One(file) => file.usage(),
            Container::Shards(shards) => shards.files().find_map(OneFile::usage),
        }
    }

    /// Fails with everything that is wrong unless the file holds `wanted` (and nothing else that `ours` accepts).
    pub(super) fn check<'s>(
        &self,
        wanted: impl IntoIterator<Item = (String, &'s [usize])>,
        ours: impl Fn(&str) -> bool,
    ) -> Result<(), CheckpointError> {
        let found = self.shapes();
        let shapes: HashMap<&str, &[usize]> = found.iter().map(|(name, shape)| (&name[..], &shape[..])).collect();
        let mut problems = TensorProblems::default();
        let mut names = BTreeSet::new();
        for (name, shape) in wanted {
            match shapes.get(&name[..]) {
                None => problems.missing.push(name.clone()),
                Some(&found) => self.compare(&name, shape, found, &mut problems),
            }
            names.insert(name);
        }
        problems.extra =
            found.iter().map(|(name, _)| name).filter(|name| ours(name) && !names.contains(*name)).cloned().collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::Tensors { path: self.path.clone(), problems })
    }

    fn compare(&self, name: &str, expected: &[usize], found: &[usize], problems: &mut TensorProblems) {
        if found != expected {
            let (expected, found) = (expected.into(), found.into());
            problems.misshapen.push(Misshapen { name: name.into(), expected, found });
        }
        if let Some(dtype) = self.of(name).and_then(|file| file.foreign_type(name)) {
            problems.mistyped.push((name.into(), dtype));
        }
    }

    /// The file that a tensor is in.
    fn of(&self, name: &str) -> Option<&OneFile> {
        match &self.container {
            Container::One(file) => Some(file),
            Container::Shards(shards) => shards.of(name),
        }
    }

    /// Copies a tensor that has passed [`Self::check`] into `into`.
    fn read(&mut self, name: &str, into: &mut [f32]) -> Result<(), CheckpointError> {
        let file = match &mut self.container {
            Container::One(file) => Some(file),
            Container::Shards(shards) => shards.of_mut(name),
        };
        file.expect("checked before").read(&self.path, name, into)
    }

    /// Reads a whole flat buffer that has passed [`Self::check`]. Every value is finite.
    pub(super) fn read_all(&mut self, prefix: &str, layout: &Layout) -> Result<Vec<f32>, CheckpointError> {
        let mut flat = vec![0.0; layout.len()];
        for segment in layout.segments() {
            self.read(&format!("{prefix}{}", segment.name), &mut flat[segment.range.clone()])?;
        }
        let Some((name, element, value)) = layout.not_finite(&flat) else { return Ok(flat) };
        Err(CheckpointError::NotFinite { path: self.path.clone(), name: format!("{prefix}{name}"), element, value })
    }
}

/// Names and shapes of the tensors of `layout`, with `prefix` before the names.
pub(super) fn named<'a>(prefix: &'a str, layout: &'a Layout) -> impl Iterator<Item = (String, &'a [usize])> {
    layout.segments().iter().map(move |segment| (format!("{prefix}{}", segment.name), &segment.shape[..]))
}
