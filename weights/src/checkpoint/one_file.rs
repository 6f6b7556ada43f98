//! One file of tensors, of either format.

use std::path::Path;

use super::{
    error::CheckpointError,
    files::at,
    safetensors::Safetensors,
    sniff::{self, Format},
    usage::Usage,
};
use crate::pytorch::{PytorchFile, Section};

/// A file whose header has been read and found sound.
pub(super) enum OneFile {
    Safetensors(Safetensors),
    Pytorch(PytorchFile),
}

impl OneFile {
    /// Reads and checks the header. Which format it is shows in the first bytes; `section` says which dict of a `.pt` file is
    /// meant.
    pub(super) fn open(path: &Path, section: Section<'_>) -> Result<Self, CheckpointError> {
        Ok(match sniff::format(path)? {
            Format::Pytorch => Self::Pytorch(PytorchFile::open(path, section)?),
            Format::Safetensors => Self::Safetensors(Safetensors::open(path)?),
        })
    }

    /// Names and shapes of all tensors, in the order of the file.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::Safetensors(file) => file.shapes(),
            Self::Pytorch(file) => file.tensors().map(|(name, shape)| (name.into(), shape.into())).collect(),
        }
    }

    /// What the file says about the use of the weights.
    pub(super) fn usage(&self) -> Option<Usage> {
        match self {
            Self::Safetensors(file) => file.usage(),
            Self::Pytorch(_) => None,
        }
    }

    /// The type of a tensor that is of no floating-point type that is read.
    pub(super) fn foreign_type(&self, name: &str) -> Option<String> {
        match self {
            Self::Safetensors(file) => file.foreign_type(name),
            Self::Pytorch(file) => file.dtype(name).filter(|dtype| !dtype.is_float()).map(|dtype| dtype.to_string()),
        }
    }

    /// Copies a tensor of a floating-point type into `into`, which has its length; smaller and larger floats are converted.
    pub(super) fn read(&mut self, path: &Path, name: &str, into: &mut [f32]) -> Result<(), CheckpointError> {
        match self {
            Self::Safetensors(file) => file.read(name, into).map_err(at("read", path)),
            Self::Pytorch(file) => Ok(file.read(name, into)?),
        }
    }
}
