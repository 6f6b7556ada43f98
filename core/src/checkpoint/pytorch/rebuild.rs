//! The functions of torch that a pickle may name, as far as they describe tensors.

use std::{path::Path, rc::Rc};

use super::{
    error::PytorchError,
    object::{Global, Heap, RANK_CAP, Storage, Tensor, Value},
    pickle::Form,
};

/// Longest key of a storage. Keys are numbers: a counter, or an address in the memory of the program that saved.
const KEY_CAP: usize = 20;

/// What `function(*arguments)` stands for.
pub(super) fn call(path: &Path, heap: &mut Heap, function: Global, arguments: usize) -> Result<Value, PytorchError> {
    match function {
        Global::OrderedDict if heap.sequence(arguments).is_empty() => Ok(heap.new_dict(true)),
        Global::OrderedDict => Err(wrong(path, function, "entries; they are set one by one")),
        Global::RebuildTensor => tensor(path, heap, arguments),
        Global::RebuildParameter => parameter(path, heap, arguments),
        Global::Storage(_) => Err(PytorchError::Call { path: path.into(), callee: format!("`{}`", function.name()) }),
    }
}

fn wrong(path: &Path, function: Global, reason: &'static str) -> PytorchError {
    PytorchError::Arguments { path: path.into(), function: function.name(), reason }
}

/// `_rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks[, metadata])`.
fn tensor(path: &Path, heap: &mut Heap, arguments: usize) -> Result<Value, PytorchError> {
    let wrong = |reason| wrong(path, Global::RebuildTensor, reason);
    let (first, rest) = heap.sequence(arguments).split_at_checked(6).ok_or_else(|| wrong("too few arguments"))?;
    let [
        Value::Storage(storage),
        Value::Int(offset),
        Value::Tuple(shape),
        Value::Tuple(strides),
        Value::Bool(_),
        hooks,
    ] = first
    else {
        return Err(wrong("arguments of other types"));
    };
    if !is_empty(heap, hooks) {
        return Err(wrong("backward hooks"));
    }
    // The metadata say that a tensor is conjugated or negated, which its storage does not show.
    if !matches!(rest, []) && !matches!(rest, [Value::None]) && !matches!(rest, [dict] if is_empty(heap, dict)) {
        return Err(wrong("metadata"));
    }
    let (shape, strides) = (heap.sequence(*shape), heap.sequence(*strides));
    if shape.len() != strides.len() {
        return Err(wrong("another number of sizes than of strides"));
    }
    if shape.len() > RANK_CAP {
        return Err(PytorchError::Rank { path: path.into(), found: shape.len() });
    }
    let tensor = Tensor {
        storage: *storage,
        offset: u64::try_from(*offset).map_err(|_| wrong("a negative offset"))?,
        shape: numbers(shape).ok_or_else(|| wrong("a shape that is no tuple of sizes"))?,
        strides: numbers(strides).ok_or_else(|| wrong("strides that are no tuple of distances"))?,
    };
    heap.new_tensor(path, tensor)
}

/// `_rebuild_parameter(data, requires_grad, backward_hooks)`: the tensor itself.
fn parameter(path: &Path, heap: &Heap, arguments: usize) -> Result<Value, PytorchError> {
    match heap.sequence(arguments) {
        [Value::Tensor(tensor), Value::Bool(_), hooks] if is_empty(heap, hooks) => Ok(Value::Tensor(*tensor)),
        [_, _, _] => Err(wrong(path, Global::RebuildParameter, "something else than a tensor, a bool and no hooks")),
        _ => Err(wrong(path, Global::RebuildParameter, "another number of arguments than three")),
    }
}

fn is_empty(heap: &Heap, value: &Value) -> bool {
    matches!(value, Value::Dict(dict) if heap.dict(*dict).is_some_and(|dict| dict.len == 0))
}

fn numbers<T: TryFrom<i64>>(values: &[Value]) -> Option<Vec<T>> {
    let number = |value: &Value| match value {
        Value::Int(number) => T::try_from(*number).ok(),
        _ => None,
    };
    values.iter().map(number).collect()
}

/// A storage from `("storage", class, key, device, elements)`; the older format has one more, `None`.
pub(super) fn storage(path: &Path, heap: &mut Heap, form: Form, id: &Value) -> Result<Value, PytorchError> {
    let wrong = |reason| PytorchError::PersistentId { path: path.into(), reason };
    let Value::Tuple(id) = id else { return Err(wrong("something else than a tuple")) };
    let fields = match (form, heap.sequence(*id)) {
        (Form::Archive, fields) => fields,
        (Form::Legacy, [fields @ .., Value::None]) => fields,
        (Form::Legacy, _) => return Err(wrong("a view of another storage")),
    };
    let [
        Value::Text(tag),
        Value::Global(Global::Storage(dtype)),
        Value::Text(key),
        Value::Text(_),
        Value::Int(elements),
    ] = fields
    else {
        return Err(wrong("a tuple of other fields than a class, a key, a device and a length"));
    };
    if &**tag != "storage" {
        return Err(wrong("another tag than `storage`"));
    }
    if !is_number(key) {
        return Err(wrong("a key that is no number"));
    }
    let elements = u64::try_from(*elements).map_err(|_| wrong("a negative length"))?;
    let storage = Storage { key: Rc::clone(key), dtype: *dtype, elements };
    heap.new_storage(path, storage)
}

fn is_number(key: &str) -> bool {
    (1..=KEY_CAP).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_digit())
}
