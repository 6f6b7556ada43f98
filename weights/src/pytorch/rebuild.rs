//! The functions of torch that a pickle may name, as far as they describe tensors.

use std::rc::Rc;

use super::{
    Dtype,
    heap::Heap,
    problem::{Part, Problem},
    tensor::{RANK_CAP, Storage, Tensor},
    value::{Form, Global, Value},
};

/// Longest key of a storage. Keys are numbers: a counter, or an address in the memory of the program that saved.
const KEY_CAP: usize = 20;

/// What Python's own pickling calls to make an object of the class that is its first argument.
const MAKERS: [&str; 4] =
    ["copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__", "copy_reg.__newobj__"];

/// What `function(*arguments)` stands for.
pub(super) fn call(heap: &mut Heap, function: Global, arguments: usize) -> Result<Value, Problem> {
    match function {
        Global::OrderedDict if heap.sequence(arguments).is_empty() => Ok(heap.new_dict(true)),
        Global::OrderedDict => Err(wrong(function, "entries; they are set one by one")),
        Global::RebuildTensorV1 | Global::RebuildTensorV2 | Global::RebuildTensorV3 => {
            tensor(heap, function, arguments)
        }
        Global::RebuildParameter | Global::RebuildParameterWithState => parameter(heap, function, arguments),
        Global::RebuildFromType => from_type(heap, arguments),
        Global::Storage(_) | Global::Type(_) => {
            Err(Part::Pickle.forged(format!("wants to call `{}`", function.name())))
        }
    }
}

/// What a call of something foreign makes: an object that is called like it.
pub(super) fn foreign(heap: &mut Heap, function: &Value, arguments: usize) -> Value {
    let name = heap.class(function);
    let class = match heap.sequence(arguments) {
        [class @ (Value::Foreign(_) | Value::Global(_)), ..] if MAKERS.contains(&&*name) => heap.class(class),
        _ => name,
    };
    heap.foreign(class)
}

fn wrong(function: Global, arguments: &str) -> Problem {
    let what = format!("calls `{}` with {arguments}, and only plain tensors are read", function.name());
    Part::Pickle.unsupported(what)
}

/// `_rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, backward_hooks[, metadata])`; the version
/// before ends after the stride, the one after has the type before the metadata.
fn tensor(heap: &mut Heap, function: Global, arguments: usize) -> Result<Value, Problem> {
    let wrong = |reason| wrong(function, reason);
    let few = || wrong("too few arguments");
    let (window, rest) = heap.sequence(arguments).split_at_checked(4).ok_or_else(few)?;
    let (own_type, rest) = match (function, rest) {
        (Global::RebuildTensorV1, rest) => (None, rest),
        (_, [] | [_]) => return Err(few()),
        (_, [_, hooks, ..]) if !is_empty(heap, hooks) => return Err(wrong("backward hooks")),
        (Global::RebuildTensorV2, [Value::Bool(_), _, rest @ ..]) => (None, rest),
        (Global::RebuildTensorV3, [Value::Bool(_), _, own_type, rest @ ..]) => (Some(own_type), rest),
        _ => return Err(wrong("arguments of other types")),
    };
    let own_type = match own_type {
        None => None,
        Some(Value::Global(Global::Type(dtype))) => Some(*dtype),
        Some(foreign @ Value::Foreign(_)) => return Ok(passed_over(heap, &foreign.clone())),
        Some(_) => return Err(wrong("another value in the place of the type")),
    };
    // The metadata say that a tensor is conjugated or negated, which its storage does not show.
    match rest {
        [] | [Value::None] => {}
        [metadata] if is_empty(heap, metadata) => {}
        [Value::Dict(_)] => return Ok(passed_over(heap, &Value::Global(function))),
        _ => return Err(wrong("metadata")),
    }
    let [storage, Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides)] = window else {
        return Err(wrong("arguments of other types"));
    };
    let storage = match storage {
        Value::Storage(storage) => *storage,
        // One that was pickled by itself, within the pickle.
        foreign @ Value::Foreign(_) => return Ok(passed_over(heap, &foreign.clone())),
        _ => return Err(wrong("arguments of other types")),
    };
    let (shape, strides) = (heap.sequence(*shape), heap.sequence(*strides));
    if shape.len() != strides.len() {
        return Err(wrong("another number of sizes than of strides"));
    }
    if shape.len() > RANK_CAP {
        let what = format!("has a tensor of {} dimensions, and {RANK_CAP} are allowed", shape.len());
        return Err(Part::Pickle.too_large(what));
    }
    let of_storage = heap.storages().get(storage).map_or(Dtype::Untyped, |storage| storage.dtype);
    let tensor = Tensor {
        storage,
        offset: u64::try_from(*offset).map_err(|_| wrong("a negative offset"))?,
        shape: numbers(shape).ok_or_else(|| wrong("a shape that is no tuple of sizes"))?,
        strides: numbers(strides).ok_or_else(|| wrong("strides that are no tuple of distances"))?,
        dtype: own_type.unwrap_or(of_storage),
    };
    heap.new_tensor(tensor)
}

/// A tensor that cannot be told from its storage alone.
fn passed_over(heap: &mut Heap, like: &Value) -> Value {
    let class = heap.class(like);
    heap.foreign(class)
}

/// `_rebuild_parameter(data, requires_grad, backward_hooks)`: the tensor itself. The other one has the parameter's
/// attributes besides.
fn parameter(heap: &mut Heap, function: Global, arguments: usize) -> Result<Value, Problem> {
    let fields = match (function, heap.sequence(arguments)) {
        (Global::RebuildParameterWithState, [fields @ .., _state]) => fields,
        (_, fields) => fields,
    };
    match fields {
        [data @ (Value::Tensor(_) | Value::Foreign(_)), Value::Bool(_), hooks] if is_empty(heap, hooks) => {
            Ok(data.clone())
        }
        [_, _, _] => Err(wrong(function, "something else than a tensor, a bool and no hooks")),
        _ => Err(wrong(function, "another number of arguments than three")),
    }
}

/// `_rebuild_from_type_v2(function, class, arguments, state)`: what the function makes, of another class.
fn from_type(heap: &mut Heap, arguments: usize) -> Result<Value, Problem> {
    let wrong = |reason| wrong(Global::RebuildFromType, reason);
    match *heap.sequence(arguments) {
        [Value::Global(Global::RebuildFromType), ..] => Err(wrong("itself")),
        [Value::Global(function), _, Value::Tuple(arguments), _] => call(heap, function, arguments),
        [ref function @ Value::Foreign(_), _, Value::Tuple(_), _] => {
            let function = function.clone();
            Ok(passed_over(heap, &function))
        }
        _ => Err(wrong("something else than a function, a class, a tuple and a state")),
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

fn foreign_reference(by: &str) -> Problem {
    Part::Pickle.unsupported(format!("refers to a storage by {by}, and only tensors are read"))
}

/// What a reference out of the pickle stands for: a storage, or, in the older format, the class of a module, which
/// comes with its source: `("module", class, file, source)`.
pub(super) fn persistent(heap: &mut Heap, form: Form, id: &Value) -> Result<Value, Problem> {
    let wrong = foreign_reference;
    let Value::Tuple(id) = id else { return Err(wrong("something else than a tuple")) };
    match heap.sequence(*id) {
        [Value::Text(tag), class @ Value::Foreign(_), _, _] if &**tag == "module" => Ok(class.clone()),
        _ => storage(heap, form, *id),
    }
}

/// A storage from `("storage", class, key, device, elements)`; the older format has one more, `None`.
fn storage(heap: &mut Heap, form: Form, id: usize) -> Result<Value, Problem> {
    let wrong = foreign_reference;
    let fields = match (form, heap.sequence(id)) {
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
    heap.new_storage(storage)
}

fn is_number(key: &str) -> bool {
    (1..=KEY_CAP).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_digit())
}
