//! Tensors in several files: transformers' `model.safetensors.index.json`, which says which tensor is in which.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::Read,
    path::{Component, Path},
};

use serde::Deserialize;

use super::{
    error::CheckpointError,
    files::{at, open_plain},
    one_file::OneFile,
    safetensors::HEADER_CAP,
};
use crate::pytorch::Section;

/// How the name of an index ends.
const ENDING: &str = ".index.json";

/// Most files of one index. Each is held open.
const MOST: usize = 256;

/// The files of an index, and which tensor is in which.
pub(super) struct Shards {
    files: Vec<OneFile>,
    by_name: HashMap<String, usize>,
}

/// As it is written; what else is in it does not matter.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Whether `path` is called like an index.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ENDING))
}

impl Shards {
    /// Opens every file that the index names. They lie beside it, and hold what it says.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let wrong = |reason: String| CheckpointError::Index { path: path.into(), reason };
        let Index { weight_map } = read(path)?;
        let names: BTreeSet<&str> = weight_map.values().map(String::as_str).collect();
        if names.is_empty() || names.len() > MOST {
            return Err(wrong(format!("it names {} files, where 1 to {MOST} are read", names.len())));
        }
        if let Some(name) = names.iter().find(|name| !is_plain(name)) {
            return Err(wrong(format!("`{name}` is no file beside it; do not trust it")));
        }
        let open = |name: &&str| OneFile::open(&path.with_file_name(name), Section::Best);
        let files = names.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut by_name = HashMap::new();
        for (number, (file, of)) in files.iter().zip(&names).enumerate() {
            for (name, _) in file.shapes() {
                match weight_map.get(&name) {
                    Some(listed) if listed == of => by_name.insert(name, number),
                    _ => return Err(wrong(format!("`{name}` is in {of}, which it does not say"))),
                };
            }
        }
        match weight_map.iter().find(|(name, _)| !by_name.contains_key(*name)) {
            Some((name, of)) => Err(wrong(format!("`{name}` is not in {of}; is that file of another download?"))),
            None => Ok(Self { files, by_name }),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &OneFile> {
        self.files.iter()
    }

    /// The file that holds the tensor `name`.
    pub(super) fn of(&self, name: &str) -> Option<&OneFile> {
        self.by_name.get(name).map(|&number| &self.files[number])
    }

    pub(super) fn of_mut(&mut self, name: &str) -> Option<&mut OneFile> {
        self.by_name.get(name).map(|&number| &mut self.files[number])
    }
}

fn read(path: &Path) -> Result<Index, CheckpointError> {
    let mut text = Vec::new();
    open_plain(path)?.take(HEADER_CAP).read_to_end(&mut text).map_err(at("read", path))?;
    serde_json::from_slice(&text)
        .map_err(|error| CheckpointError::Index { path: path.into(), reason: error.to_string() })
}

/// Whether `name` is a file in the same folder, and no further index.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.ends_with(ENDING)
}
