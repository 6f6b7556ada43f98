//! What a pickle can build here: plain values, dicts, descriptions of tensors, and objects of foreign classes, which are no
//! more than a name and what was put into them.

use std::rc::Rc;

use super::Dtype;

/// How the container writes a reference to a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Archive,
    Legacy,
}

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

    pub(super) fn dict_id(&self) -> Option<usize> {
        if let Self::Dict(id) | Self::Foreign(id) = self { Some(*id) } else { None }
    }

    /// Whether a container keeps it: tensors, what may lead to some, and what describes them.
    pub(super) fn matters(&self) -> bool {
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
