//! `.safetensors`: named tensors between a flat buffer and a file.
//!
//! Tensors are written in the order of the layout, so that the data of a file are the flat buffer itself. A file is read
//! header first, and memory is taken only for tensors that the layout asks for.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use convnext_core::optim::{Layout, Segment};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{
    error::CheckpointError,
    files::{at, open_plain},
    usage::{self, Usage},
};

/// Longest header that is read, in bytes. The largest model here needs 60 kB; the format would allow 100 MB.
pub(super) const HEADER_CAP: u64 = 16 << 20;

const PREFIX: u64 = 8;

// The format is little-endian, and buffers go to the disk as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"), "checkpoints are written on little-endian machines only");

/// One flat buffer of a file; `prefix` goes before the layout's names.
pub(super) struct Part<'a> {
    pub(super) prefix: &'static str,
    pub(super) values: &'a [f32],
}

/// Writes the parts one after the other, each in `layout`.
///
/// # Panics
/// If a part has another length than the layout.
pub(super) fn write(
    out: &mut impl Write,
    layout: &Layout,
    parts: &[Part<'_>],
    usage: Option<&Usage>,
) -> io::Result<()> {
    let header = header(layout, parts, usage);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for part in parts {
        out.write_all(bytemuck::cast_slice(part.values))?;
    }
    out.flush()
}

fn header(layout: &Layout, parts: &[Part<'_>], usage: Option<&Usage>) -> Vec<u8> {
    let mut tensors = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(part.values.len(), layout.len(), "a flat buffer of another layout");
        let start = index * layout.len();
        tensors.extend(layout.segments().iter().map(|segment| entry(part.prefix, segment, start)));
    }
    // transformers 4 loads no file that does not say `pt`: axes are PyTorch's, or ours, and names tell.
    let mut about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    about.extend(usage.map(|usage| (usage::KEY.to_owned(), usage.to_json())));
    let metadata = Metadata::new(Some(about), tensors).expect("a layout lies back to back");
    // By way of a value, whose keys are in order: a hash map's are not, and the same weights must give the same bytes.
    let ordered = serde_json::to_value(&metadata).expect("names and numbers are JSON");
    let mut header = serde_json::to_vec(&ordered).expect("names and numbers are JSON");
    header.resize(header.len().next_multiple_of(PREFIX as usize), b' ');
    header
}

fn entry(prefix: &str, segment: &Segment, start: usize) -> (String, TensorInfo) {
    let bytes = |element: usize| (start + element) * size_of::<f32>();
    let info = TensorInfo {
        dtype: Dtype::F32,
        shape: segment.shape.clone(),
        data_offsets: (bytes(segment.range.start), bytes(segment.range.end)),
    };
    (format!("{prefix}{}", segment.name), info)
}

const FLOATS: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];

/// A file whose header has been read and found sound.
pub(super) struct Safetensors {
    file: BufReader<File>,
    data: u64,
    metadata: Metadata,
}

impl Safetensors {
    /// Reads and checks the header: its length, its JSON, that tensors lie back to back and fill the file.
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let mut file = open_plain(path)?;
        let len = file.metadata().map_err(at("read", path))?.len();
        let header = read_header(path, &mut file, len)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| CheckpointError::Header { path: path.into(), reason: error.to_string() })?;
        let data = PREFIX + header.len() as u64;
        let (expected, found) = (metadata.data_len() as u64, len - data);
        if expected != found {
            return Err(CheckpointError::DataLength { path: path.into(), expected, found });
        }
        Ok(Self { file: BufReader::with_capacity(1 << 20, file), data, metadata })
    }

    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shape = |name: String| {
            let shape = self.metadata.info(&name).map(|info| info.shape.clone()).unwrap_or_default();
            (name, shape)
        };
        self.metadata.offset_keys().into_iter().map(shape).collect()
    }

    /// What the file says about the use of the weights.
    pub(super) fn usage(&self) -> Option<Usage> {
        Usage::of_json(self.metadata.metadata().as_ref()?.get(usage::KEY)?)
    }

    /// The type of a tensor that is of no floating-point type that is read.
    pub(super) fn foreign_type(&self, name: &str) -> Option<String> {
        let dtype = self.metadata.info(name)?.dtype;
        (!FLOATS.contains(&dtype)).then(|| dtype.to_string())
    }

    /// Copies a tensor of the file into `into`, which has its length; smaller and larger floats are converted.
    pub(super) fn read(&mut self, name: &str, into: &mut [f32]) -> io::Result<()> {
        let info = self.metadata.info(name).expect("checked before");
        self.file.seek(SeekFrom::Start(self.data + info.data_offsets.0 as u64))?;
        match info.dtype {
            Dtype::F32 => self.file.read_exact(bytemuck::cast_slice_mut(into)),
            Dtype::F16 => converted(&mut self.file, into, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => converted(&mut self.file, into, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => converted(&mut self.file, into, |bytes| f64::from_le_bytes(bytes) as f32),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{other} is no floating-point type"))),
        }
    }
}

fn converted<const N: usize>(file: &mut impl Read, into: &mut [f32], value: impl Fn([u8; N]) -> f32) -> io::Result<()> {
    into.iter_mut().try_for_each(|into| {
        let mut bytes = [0; N];
        file.read_exact(&mut bytes)?;
        *into = value(bytes);
        Ok(())
    })
}

fn read_header(path: &Path, file: &mut File, len: u64) -> Result<Vec<u8>, CheckpointError> {
    if len < PREFIX {
        return Err(CheckpointError::Truncated { path: path.into(), found: len });
    }
    let mut prefix = [0; PREFIX as usize];
    file.read_exact(&mut prefix).map_err(at("read", path))?;
    let claimed = u64::from_le_bytes(prefix);
    if claimed > HEADER_CAP {
        return Err(CheckpointError::HeaderTooLarge { path: path.into(), claimed, allowed: HEADER_CAP });
    }
    if claimed > len - PREFIX {
        return Err(CheckpointError::Truncated { path: path.into(), found: len });
    }
    let mut header = vec![0; claimed as usize];
    file.read_exact(&mut header).map_err(at("read", path))?;
    Ok(header)
}
