//! What a pickle can build here: plain values, dicts, and descriptions of tensors.
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

/// A value on the stack, in the memo or in a container. What no tensor needs has lost its content.
#[derive(Debug, Clone)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    BigInt,
    Float,
    Text(Rc<str>),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
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
            Self::Text(_) => "a str",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class or function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }

    /// Whether Python accepts it as a key of a dict, as far as checkpoints need it.
    pub(super) fn is_key(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Dict(_) | Self::Storage(_))
    }
}

/// The Python classes and functions that a file may name. Naming another is an error.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", class) => Dtype::of_storage(class).map(Self::Storage),
            _ => None,
        }
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::OrderedDict => "collections.OrderedDict".into(),
            Self::RebuildTensor => "torch._utils._rebuild_tensor_v2".into(),
            Self::RebuildParameter => "torch._utils._rebuild_parameter".into(),
            Self::Storage(dtype) => format!("torch.{}", dtype.storage()),
        }
    }
}

/// A dict. Only text keys are kept: no other names a tensor.
#[derive(Debug, Default)]
pub(super) struct Dict {
    pub(super) ordered: bool,
    /// How many keys it has, of any type.
    pub(super) len: usize,
    entries: Vec<(Rc<str>, Value)>,
    seen: HashSet<Rc<str>>,
}

impl Dict {
    /// In the order of the file.
    pub(super) fn entries(&self) -> &[(Rc<str>, Value)] {
        &self.entries
    }

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
}

/// All containers of a pickle, by number. Numbers come from here only, so that each is valid.
#[derive(Debug, Default)]
pub(super) struct Heap {
    sequences: Vec<Vec<Value>>,
    dicts: Vec<Dict>,
    storages: Vec<Storage>,
    by_key: HashMap<Rc<str>, usize>,
    tensors: Vec<Tensor>,
}

impl Heap {
    pub(super) fn tuple(&mut self, values: Vec<Value>) -> Value {
        self.sequences.push(values);
        Value::Tuple(self.sequences.len() - 1)
    }

    pub(super) fn list(&mut self) -> Value {
        self.sequences.push(Vec::new());
        Value::List(self.sequences.len() - 1)
    }

    pub(super) fn new_dict(&mut self, ordered: bool) -> Value {
        self.dicts.push(Dict { ordered, ..Dict::default() });
        Value::Dict(self.dicts.len() - 1)
    }

    /// Elements of a tuple or list.
    pub(super) fn sequence(&self, id: usize) -> &[Value] {
        self.sequences.get(id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn dict(&self, id: usize) -> Option<&Dict> {
        self.dicts.get(id)
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
            list.extend(values);
        }
    }

    /// Sets one entry; the error is the key that was there already.
    pub(super) fn insert(&mut self, dict: usize, key: Value, value: Value) -> Result<(), Rc<str>> {
        let Some(dict) = self.dicts.get_mut(dict) else { return Ok(()) };
        dict.len += 1;
        let Value::Text(key) = key else { return Ok(()) };
        if !dict.seen.insert(key.clone()) {
            return Err(key);
        }
        dict.entries.push((key, value));
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
}

fn check_inside(path: &Path, tensor: &Tensor, storage: &Storage) -> Result<(), PytorchError> {
    let (path, key, shape, elements) = (path.into(), shown(&storage.key), tensor.shape.clone(), storage.elements);
    let (Some(count), Some(end)) = (tensor.elements(), tensor.end()) else {
        return Err(PytorchError::Overflow { path, key, shape });
    };
    if end > elements {
        return Err(PytorchError::OutOfStorage { path, key, shape, elements });
    }
    // Else a stride of 0 would let a few bytes of file claim any amount of the caller's memory.
    if u64::try_from(count).is_ok_and(|count| count <= elements) {
        return Ok(());
    }
    Err(PytorchError::Expanded { path, key, shape, elements })
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
