//! What a pickle can build here: plain values, dicts, descriptions of tensors, and objects of foreign classes, which are no
//! more than a name and what was put into them.
//!
//! Everything that contains other values lies in the [`Heap`] and is referred to by number. So a list that contains
//! itself, or one that is shared a thousand times, costs one number, and nothing recurses, not even dropping.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    rc::Rc,
};

use super::{
    Dtype,
    error::{PytorchError, shown},
};

/// Most tensors of a file. The largest models have thousands, and an optimizer keeps two more for each.
pub(super) const TENSOR_CAP: usize = 1 << 16;

/// Most dimensions of a tensor. A convolution's weight has four.
pub(super) const RANK_CAP: usize = 8;

/// Most values that are held, each a few dozen bytes: containers and what is in them. A tensor takes about ten; numbers in
/// lists, as of losses, are not held.
pub(super) const HELD_CAP: usize = 1 << 20;

/// Most bytes of texts that are held.
pub(super) const TEXTS_CAP: usize = 32 << 20;

/// A value on the stack, in the memo or in a container. What no tensor needs has lost its content.
#[derive(Debug, Clone)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    BigInt,
    Float,
    Bytes,
    /// Too long to be a name, or not of Unicode's characters alone.
    LongText,
    Text(Rc<str>),
    Set,
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    /// A class or function outside of [`Global`], or whatever one of those has made.
    Foreign(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value {
    /// For messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) | Self::BigInt => "an int",
            Self::Float => "a float",
            Self::Bytes => "bytes",
            Self::LongText | Self::Text(_) => "a str",
            Self::Set => "a set",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class or function",
            Self::Foreign(_) => "an object",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }

    /// Whether Python accepts it as a key of a dict, as far as checkpoints need it.
    pub(super) fn is_key(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Dict(_) | Self::Set | Self::Storage(_))
    }

    fn dict_id(&self) -> Option<usize> {
        if let Self::Dict(id) | Self::Foreign(id) = self { Some(*id) } else { None }
    }

    /// Whether a container keeps it: tensors, what may lead to some, and what describes them.
    fn matters(&self) -> bool {
        !matches!(
            self,
            Self::None | Self::Int(_) | Self::BigInt | Self::Float | Self::Bytes | Self::LongText | Self::Set
        )
    }
}

/// The Python classes and functions that mean something here. Every other is foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor`, of the first versions, without gradient and hooks.
    RebuildTensorV1,
    RebuildTensorV2,
    /// For types that have no storage class.
    RebuildTensorV3,
    RebuildParameter,
    /// With attributes that somebody gave it.
    RebuildParameterWithState,
    /// Of subclasses of tensors.
    RebuildFromType,
    Storage(Dtype),
    Type(Dtype),
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor") => Some(Self::RebuildTensorV1),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensorV2),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::RebuildTensorV3),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch._utils", "_rebuild_parameter_with_state") => Some(Self::RebuildParameterWithState),
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Self::RebuildFromType),
            ("torch.storage", "UntypedStorage") => Some(Self::Storage(Dtype::Untyped)),
            ("torch", name) => {
                Dtype::of_storage(name).map(Self::Storage).or_else(|| Dtype::of_name(name).map(Self::Type))
            }
            _ => None,
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::OrderedDict => "collections.OrderedDict".into(),
            Self::RebuildTensorV1 => "torch._utils._rebuild_tensor".into(),
            Self::RebuildTensorV2 => "torch._utils._rebuild_tensor_v2".into(),
            Self::RebuildTensorV3 => "torch._utils._rebuild_tensor_v3".into(),
            Self::RebuildParameter => "torch._utils._rebuild_parameter".into(),
            Self::RebuildParameterWithState => "torch._utils._rebuild_parameter_with_state".into(),
            Self::RebuildFromType => "torch._tensor._rebuild_from_type_v2".into(),
            Self::Storage(dtype) => format!("torch.{}", dtype.storage()),
            Self::Type(dtype) => format!("torch.{dtype}"),
        }
    }
}

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

/// Where the elements of tensors lie, as the pickle says.
#[derive(Debug)]
pub(super) struct Storage {
    pub(super) key: Rc<str>,
    pub(super) dtype: Dtype,
    pub(super) elements: u64,
}

impl Storage {
    /// How many elements of a type it has room for.
    fn elements_of(&self, dtype: Dtype) -> u64 {
        if dtype == self.dtype {
            return self.elements;
        }
        let bytes = self.elements.saturating_mul(self.dtype.width().into());
        bytes / u64::from(dtype.width().max(1))
    }

    /// Fails unless the storage takes `found` bytes.
    pub(super) fn check_len(&self, path: &Path, found: u64) -> Result<(), PytorchError> {
        if self.elements.checked_mul(self.dtype.width().into()) == Some(found) {
            return Ok(());
        }
        let (path, key) = (path.into(), shown(&self.key));
        Err(PytorchError::StorageLength { path, key, elements: self.elements, dtype: self.dtype, found })
    }
}

/// A window on a storage; it has been checked that it lies inside.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    pub(super) storage: usize,
    /// First element, in elements of the storage.
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    /// Elements of the storage from one index of an axis to the next; as many as `shape` has.
    pub(super) strides: Vec<u64>,
    /// Of its elements; the storage may be of plain bytes.
    pub(super) dtype: Dtype,
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
    pub(super) fn new_storage(&mut self, path: &Path, storage: Storage) -> Result<Value, PytorchError> {
        let Some(id) = self.storage(&storage.key) else {
            self.by_key.insert(storage.key.clone(), self.storages.len());
            self.storages.push(storage);
            return Ok(Value::Storage(self.storages.len() - 1));
        };
        let same = |known: &Storage| (known.dtype, known.elements) == (storage.dtype, storage.elements);
        if self.storages.get(id).is_some_and(same) {
            return Ok(Value::Storage(id));
        }
        Err(PytorchError::StorageTwice { path: path.into(), key: shown(&storage.key) })
    }

    /// Adds a tensor once it is known to lie inside its storage.
    pub(super) fn new_tensor(&mut self, path: &Path, tensor: Tensor) -> Result<Value, PytorchError> {
        if self.tensors.len() >= TENSOR_CAP {
            return Err(PytorchError::TooManyTensors(path.into()));
        }
        if let Some(storage) = self.storages.get(tensor.storage) {
            check_inside(path, &tensor, storage)?;
        }
        self.tensors.push(tensor);
        Ok(Value::Tensor(self.tensors.len() - 1))
    }

    /// Fails if a tensor repeats elements until it is larger than its storage: so a few bytes of file could claim any amount
    /// of the caller's memory.
    pub(super) fn check_size(&self, path: &Path, tensor: &Tensor) -> Result<(), PytorchError> {
        let Some(storage) = self.storages.get(tensor.storage) else { return Ok(()) };
        let elements = storage.elements_of(tensor.dtype);
        if tensor.elements().and_then(|count| u64::try_from(count).ok()).is_some_and(|count| count <= elements) {
            return Ok(());
        }
        let (path, key, shape) = (path.into(), shown(&storage.key), tensor.shape.clone());
        Err(PytorchError::Expanded { path, key, shape, elements })
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

fn check_inside(path: &Path, tensor: &Tensor, storage: &Storage) -> Result<(), PytorchError> {
    let elements = storage.elements_of(tensor.dtype);
    let (path, key, shape) = (path.into(), shown(&storage.key), tensor.shape.clone());
    let (Some(_), Some(end)) = (tensor.elements(), tensor.end()) else {
        return Err(PytorchError::Overflow { path, key, shape });
    };
    if end > elements {
        return Err(PytorchError::OutOfStorage { path, key, shape, elements });
    }
    Ok(())
}

impl Tensor {
    /// Number of elements. None if a product over any of its axes overflows, even if one of them is 0.
    pub(super) fn elements(&self) -> Option<usize> {
        let product = self.shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size.max(1)))?;
        Some(if self.shape.contains(&0) { 0 } else { product })
    }

    /// Elements of the storage from the first to the last one of the tensor; 0 if it has none.
    pub(super) fn span(&self) -> Option<u64> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().zip(&self.strides).try_fold(1_u64, |span, (&size, stride)| {
            let steps = u64::try_from(size.saturating_sub(1)).ok()?;
            span.checked_add(steps.checked_mul(*stride)?)
        })
    }

    fn end(&self) -> Option<u64> {
        self.offset.checked_add(self.span()?)
    }

    /// Whether the elements lie back to back in row-major order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
            let fits = size <= 1 || u64::try_from(expected) == Ok(stride);
            // The product of all sizes has been checked.
            expected = usize::saturating_mul(expected, size);
            fits
        })
    }
}
