//! From the object that was saved to a list of named tensors.

use std::{collections::HashSet, path::Path};

use super::{
    error::{PytorchError, shown},
    object::{Heap, Value},
    pickle::Object,
};

/// Deepest nesting of dicts that is searched.
pub(super) const DEPTH_CAP: usize = 8;

/// Most dict entries that are looked at, shared ones counted each time.
pub(super) const VISIT_CAP: usize = 1 << 20;

/// Longest name of a tensor, in bytes.
pub(super) const NAME_CAP: usize = 1024;

/// Where training programs put the weights beside their other state; the first that has tensors is taken.
const SECTIONS: [&str; 3] = ["model", "state_dict", "model_ema"];

/// What `DistributedDataParallel` puts before every name.
const WRAPPER: &str = "module.";

/// Names of tensors with their numbers in the heap, in the order of the file.
pub(super) fn named(path: &Path, object: &Object) -> Result<Vec<(String, usize)>, PytorchError> {
    let Value::Dict(top) = object.root else {
        return Err(PytorchError::Root { path: path.into(), found: object.root.kind() });
    };
    let sections = SECTIONS.iter().filter_map(|section| object.heap.dict(top)?.get(section));
    let dicts = sections.filter_map(|value| if let Value::Dict(dict) = value { Some(*dict) } else { None });
    for dict in dicts.chain([top]) {
        let found = Walk::new(path, &object.heap).flatten(dict)?;
        if !found.is_empty() {
            return Ok(unwrapped(found));
        }
    }
    Err(PytorchError::NoTensors(path.into()))
}

fn unwrapped(mut found: Vec<(String, usize)>) -> Vec<(String, usize)> {
    if found.iter().all(|(name, _)| name.len() > WRAPPER.len() && name.starts_with(WRAPPER)) {
        found.iter_mut().for_each(|(name, _)| *name = name.split_off(WRAPPER.len()));
    }
    found
}

/// Goes through a dict and the dicts in it, each as often as it is there; hence the caps.
struct Walk<'a> {
    path: &'a Path,
    heap: &'a Heap,
    found: Vec<(String, usize)>,
    names: HashSet<String>,
    visits: usize,
}

impl<'a> Walk<'a> {
    fn new(path: &'a Path, heap: &'a Heap) -> Self {
        Self { path, heap, found: Vec::new(), names: HashSet::new(), visits: 0 }
    }

    fn flatten(mut self, dict: usize) -> Result<Vec<(String, usize)>, PytorchError> {
        self.dict("", dict, 0)?;
        Ok(self.found)
    }

    fn dict(&mut self, prefix: &str, dict: usize, depth: usize) -> Result<(), PytorchError> {
        if depth >= DEPTH_CAP {
            return Err(PytorchError::TooDeep { path: self.path.into(), name: shown(prefix) });
        }
        for (key, value) in self.heap.dict(dict).map_or(&[][..], |dict| dict.entries()) {
            self.visits += 1;
            if self.visits > VISIT_CAP {
                return Err(PytorchError::TooManyEntries(self.path.into()));
            }
            match value {
                Value::Tensor(tensor) => self.tensor(join(self.path, prefix, key)?, *tensor)?,
                Value::Dict(dict) => self.dict(&join(self.path, prefix, key)?, *dict, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn tensor(&mut self, name: String, tensor: usize) -> Result<(), PytorchError> {
        if !self.names.insert(name.clone()) {
            return Err(PytorchError::NameTwice { path: self.path.into(), name: shown(&name) });
        }
        self.found.push((name, tensor));
        Ok(())
    }
}

fn join(path: &Path, prefix: &str, key: &str) -> Result<String, PytorchError> {
    let name = if prefix.is_empty() { key.into() } else { format!("{prefix}.{key}") };
    if name.len() > NAME_CAP {
        return Err(PytorchError::NameTooLong { path: path.into(), start: shown(&name) });
    }
    Ok(name)
}
