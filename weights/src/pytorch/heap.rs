//! Everything that a pickle has built and that contains other values, referred to by number. So a list that contains itself,
//! or one that is shared a thousand times, costs one number, and nothing recurses, not even dropping.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::{
    problem::{Part, Problem},
    tensor::{Storage, Tensor},
    value::Value,
};

/// Most tensors of a file. The largest models have thousands, and an optimizer keeps two more for each.
pub(super) const TENSOR_CAP: usize = 1 << 16;

/// Most values that are held, each a few dozen bytes: containers and what is in them. A tensor takes about ten; numbers in
/// lists, as of losses, are not held.
pub(super) const HELD_CAP: usize = 1 << 20;

/// Most bytes of texts that are held.
pub(super) const TEXTS_CAP: usize = 32 << 20;

/// A dict, or a foreign object with its items as if it were one. Only text keys are kept: no other names a tensor.
#[derive(Debug, Default)]
pub(super) struct Dict {
    pub(super) ordered: bool,
    /// How many keys it has, of any type.
    pub(super) len: usize,
    entries: Vec<(Rc<str>, Value)>,
    /// Of a foreign object: what it is called, for messages.
    class: Option<Rc<str>>,
    /// Of a foreign object: the dict of its attributes.
    attributes: Option<usize>,
    /// What it has under the names of [`MODULE`].
    module: Option<Box<[Option<usize>; 3]>>,
}

/// Where a module of torch keeps its tensors and the modules in it, in the order of its state dict.
const MODULE: [&str; 3] = ["_parameters", "_buffers", "_modules"];

impl Dict {
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|entry| &*entry.0 == key).map(|entry| &entry.1)
    }
}

/// All containers of a pickle, by number. Numbers come from here only, so that each is valid.
#[derive(Debug, Default)]
pub(super) struct Heap {
    sequences: Vec<Vec<Value>>,
    /// Dicts and foreign objects.
    dicts: Vec<Dict>,
    /// Keys that are set, with the dicts they are set in.
    keys: HashSet<(usize, Rc<str>)>,
    /// How many values there are, containers included.
    held: usize,
    storages: Vec<Storage>,
    by_key: HashMap<Rc<str>, usize>,
    tensors: Vec<Tensor>,
}

impl Heap {
    /// Whether more is held than any checkpoint needs.
    pub(super) fn is_full(&self) -> bool {
        self.held > HELD_CAP
    }

    pub(super) fn tuple(&mut self, values: Vec<Value>) -> Value {
        self.held += 1 + values.len();
        self.sequences.push(values);
        Value::Tuple(self.sequences.len() - 1)
    }

    pub(super) fn list(&mut self) -> Value {
        self.held += 1;
        self.sequences.push(Vec::new());
        Value::List(self.sequences.len() - 1)
    }

    pub(super) fn new_dict(&mut self, ordered: bool) -> Value {
        self.held += 1;
        self.dicts.push(Dict { ordered, ..Dict::default() });
        Value::Dict(self.dicts.len() - 1)
    }

    /// Something of a class or function that has no meaning here.
    pub(super) fn foreign(&mut self, class: Rc<str>) -> Value {
        self.held += 1;
        self.dicts.push(Dict { class: Some(class), ..Dict::default() });
        Value::Foreign(self.dicts.len() - 1)
    }

    /// What a value's class is called.
    pub(super) fn class(&self, value: &Value) -> Rc<str> {
        let named = match value {
            Value::Foreign(id) => self.dict(*id).and_then(|object| object.class.clone()),
            Value::Global(global) => Some(global.name().into()),
            _ => None,
        };
        named.unwrap_or_else(|| value.kind().into())
    }

    /// Gives a foreign object its attributes. Of other state than a dict (and, with `__slots__`, a pair of dicts) nothing is
    /// known.
    pub(super) fn set_attributes(&mut self, object: usize, state: &Value) {
        let dict = match state {
            Value::Dict(dict) => Some(*dict),
            Value::Tuple(pair) => match self.sequence(*pair) {
                [Value::Dict(dict), _] => Some(*dict),
                _ => None,
            },
            _ => None,
        };
        if let Some(object) = self.dicts.get_mut(object) {
            object.attributes = dict;
        }
    }

    /// Elements of a tuple or list.
    pub(super) fn sequence(&self, id: usize) -> &[Value] {
        self.sequences.get(id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn dict(&self, id: usize) -> Option<&Dict> {
        self.dicts.get(id)
    }

    /// What a dict, an object like a dict, or a module of torch holds by name, in the order of the file.
    pub(super) fn entries(&self, value: &Value) -> impl Iterator<Item = (&Rc<str>, &Value)> + use<'_> {
        let own = value.dict_id().and_then(|id| self.dict(id));
        let parts = own.map(|own| self.parts(own)).into_iter().flatten().filter_map(|part| self.dict(part));
        own.into_iter().chain(parts).flat_map(|dict| &dict.entries).map(|(key, value)| (key, value))
    }

    /// The dicts of a module's tensors and modules.
    fn parts(&self, object: &Dict) -> impl Iterator<Item = usize> + use<> {
        let attributes = object.attributes.and_then(|attributes| self.dict(attributes));
        attributes.and_then(|dict| dict.module.as_deref().copied()).into_iter().flatten().flatten()
    }

    /// Which dicts and objects have tensors in them, at any depth.
    pub(super) fn bearing(&self) -> Bearing {
        let mut bears = vec![false; self.dicts.len()];
        let mut holders = vec![Vec::new(); self.dicts.len()];
        let mut found = Vec::new();
        for (id, dict) in self.dicts.iter().enumerate() {
            let inner = dict.entries.iter().filter_map(|(_, value)| value.dict_id()).chain(self.parts(dict));
            inner
                .for_each(|inner| holders.get_mut(inner).into_iter().for_each(|holders: &mut Vec<_>| holders.push(id)));
            found.extend(dict.entries.iter().any(|(_, value)| matches!(value, Value::Tensor(_))).then_some(id));
        }
        while let Some(id) = found.pop() {
            let first = bears.get_mut(id).is_some_and(|bears| !std::mem::replace(bears, true));
            found.extend(holders.get_mut(id).filter(|_| first).map(std::mem::take).into_iter().flatten());
        }
        Bearing(bears)
    }

    pub(super) fn storages(&self) -> &[Storage] {
        &self.storages
    }

    pub(super) fn storage(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    pub(super) fn tensor(&self, id: usize) -> Option<&Tensor> {
        self.tensors.get(id)
    }

    pub(super) fn append(&mut self, list: usize, values: Vec<Value>) {
        if let Some(list) = self.sequences.get_mut(list) {
            let before = list.len();
            list.extend(values.into_iter().filter(Value::matters));
            self.held += list.len() - before;
        }
    }

    /// Sets one entry of a dict or of an object like one; the error is the key that was there already.
    pub(super) fn insert(&mut self, id: usize, key: Value, value: Value) -> Result<(), Rc<str>> {
        let Some(dict) = self.dicts.get_mut(id) else { return Ok(()) };
        dict.len += 1;
        let Value::Text(key) = key else { return Ok(()) };
        self.held += 1;
        if !self.keys.insert((id, key.clone())) {
            return Err(key);
        }
        if let (Some(place), Some(inner)) = (MODULE.iter().position(|name| **name == *key), value.dict_id()) {
            dict.module.get_or_insert_default().iter_mut().skip(place).take(1).for_each(|part| *part = Some(inner));
        }
        if value.matters() {
            dict.entries.push((key, value));
            self.held += 1;
        }
        Ok(())
    }

    /// The storage of that key, which has the same type and length whenever it is named.
    pub(super) fn new_storage(&mut self, storage: Storage) -> Result<Value, Problem> {
        let Some(id) = self.storage(&storage.key) else {
            self.by_key.insert(storage.key.clone(), self.storages.len());
            self.storages.push(storage);
            return Ok(Value::Storage(self.storages.len() - 1));
        };
        let same = |known: &Storage| (known.dtype, known.elements) == (storage.dtype, storage.elements);
        if self.storages.get(id).is_some_and(same) {
            return Ok(Value::Storage(id));
        }
        Err(storage.part().forged("has two types or lengths"))
    }

    /// Adds a tensor once it is known to lie inside its storage.
    pub(super) fn new_tensor(&mut self, tensor: Tensor) -> Result<Value, Problem> {
        if self.tensors.len() >= TENSOR_CAP {
            return Err(Part::Pickle.too_large(format!("has more than the {TENSOR_CAP} tensors allowed")));
        }
        if let Some(storage) = self.storages.get(tensor.storage) {
            tensor.check_inside(storage)?;
        }
        self.tensors.push(tensor);
        Ok(Value::Tensor(self.tensors.len() - 1))
    }
}

/// Which dicts and objects have tensors in them.
#[derive(Debug)]
pub(super) struct Bearing(Vec<bool>);

impl Bearing {
    pub(super) fn has(&self, value: &Value) -> bool {
        value.dict_id().and_then(|id| self.0.get(id)).is_some_and(|bears| *bears)
    }
}
