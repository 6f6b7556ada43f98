//! Where tensors are read from: one file, or several with an index, checked against a layout before anything is read.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
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
    /// What the file calls the tensors that are called otherwise here.
    renamed: HashMap<String, String>,
}

enum Container {
    One(OneFile),
    Shards(Shards),
}

impl Container {
    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::One(file) => file.shapes(),
            Self::Shards(shards) => shards.files().flat_map(OneFile::shapes).collect(),
        }
    }
}

impl TensorFile {
    /// Reads and checks the header. An index shows in its name; `section` says which dict of a `.pt` file is meant.
    pub(super) fn open(path: &Path, section: Section<'_>) -> Result<Self, CheckpointError> {
        let container = match shards::is_index(path) {
            true => Container::Shards(Shards::open(path)?),
            false => Container::One(OneFile::open(path, section)?),
        };
        let names: Vec<String> = container.shapes().into_iter().map(|(name, _)| name).collect();
        Ok(Self { path: path.into(), container, renamed: without_compiled(&names) })
    }

    /// Names and shapes of all tensors, in the order of the file. `torch.compile`'s word is not in the names.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = self.container.shapes();
        let bare: HashMap<&str, &str> = self.renamed.iter().map(|(bare, name)| (&name[..], &bare[..])).collect();
        for (name, _) in &mut shapes {
            if let Some(bare) = bare.get(&name[..]) {
                *name = (*bare).to_owned();
            }
        }
        shapes
    }

    /// What the file calls a tensor.
    fn name_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.renamed.get(name).map_or(name, String::as_str)
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
        if let Some(dtype) = self.foreign_type(name) {
            problems.mistyped.push((name.into(), dtype));
        }
    }

    /// The type of a tensor that is of no floating-point type that is read.
    fn foreign_type(&self, name: &str) -> Option<String> {
        let name = self.name_of(name);
        match &self.container {
            Container::One(file) => file.foreign_type(name),
            Container::Shards(shards) => shards.of(name)?.foreign_type(name),
        }
    }

    /// Copies a tensor that has passed [`Self::check`] into `into`.
    fn read(&mut self, name: &str, into: &mut [f32]) -> Result<(), CheckpointError> {
        let name = self.renamed.get(name).map_or(name, String::as_str);
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

/// What `torch.compile` puts before the names of the module that it compiles.
const COMPILED: &str = "_orig_mod";

/// The tensors of a part of the model that was compiled by itself: their names as if it had not been, and those in the file.
/// Where the word stands before every name of the file it is left there, to be taken off with what else wrappers put there.
fn without_compiled(names: &[String]) -> HashMap<String, String> {
    let shared = shared_start(names);
    let mut renamed = HashMap::new();
    let mut taken: HashSet<&str> = names.iter().map(String::as_str).collect();
    for name in names {
        let (start, rest) = name.split_at(shared);
        if rest.split('.').any(|part| part == COMPILED) {
            taken.remove(&name[..]);
            let parts: Vec<&str> = rest.split('.').filter(|part| *part != COMPILED).collect();
            renamed.insert(format!("{start}{}", parts.join(".")), name.clone());
        }
    }
    // With both names in a file nobody could say which is meant.
    let compiled = names.len() - taken.len();
    let unique = renamed.len() == compiled && renamed.keys().all(|bare| !taken.contains(&bare[..]));
    if unique { renamed } else { HashMap::new() }
}

/// Bytes with which all names start, up to a dot.
fn shared_start(names: &[String]) -> usize {
    let (Some(first), Some(last)) = (names.iter().min(), names.iter().max()) else { return 0 };
    let same = first.bytes().zip(last.bytes()).take_while(|(one, other)| one == other).count();
    first.as_bytes()[..same].iter().rposition(|byte| *byte == b'.').map_or(0, |dot| dot + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renamed(names: &[&str]) -> Vec<(String, String)> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut renamed: Vec<_> = without_compiled(&names).into_iter().collect();
        renamed.sort();
        renamed
    }

    #[test]
    fn a_part_that_was_compiled_has_its_own_names() {
        let of = |bare: &str, name: &str| (bare.to_owned(), name.to_owned());
        assert_eq!(
            renamed(&["m.stages._orig_mod.0.w", "m.stem.w", "m.head._orig_mod.w"]),
            [of("m.head.w", "m.head._orig_mod.w"), of("m.stages.0.w", "m.stages._orig_mod.0.w")]
        );
        // Before all names it is a prefix like any other.
        assert_eq!(renamed(&["_orig_mod.a.w", "_orig_mod.b.w"]), []);
        assert_eq!(
            renamed(&["m._orig_mod.a._orig_mod.w", "m._orig_mod.b.w"]),
            [of("m._orig_mod.a.w", "m._orig_mod.a._orig_mod.w")]
        );
        assert_eq!(renamed(&["a._orig_mod.w", "a.w"]), []);
        assert_eq!(renamed(&["a._orig_mod.b.w", "_orig_mod.a.b.w", "c"]), []);
        assert_eq!(renamed(&["a._orig_model.w", "b.w"]), []);
        assert_eq!(renamed(&[]), []);
    }
}
