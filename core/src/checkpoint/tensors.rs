//! Named tensors between a flat buffer and a `.safetensors` file.
//!
//! Tensors are written in the order of the layout, so that the data of a file are the flat buffer itself. A file is read
//! header first, and memory is taken only for tensors that the layout asks for.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::error::{CheckpointError, Misshapen, TensorProblems, at};
use crate::optim::{Layout, Segment};

/// Longest header that is read, in bytes. The largest model here needs 60 kB; the format would allow 100 MB.
pub const HEADER_CAP: u64 = 16 << 20;

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
pub(super) fn write(out: &mut impl Write, layout: &Layout, parts: &[Part<'_>]) -> std::io::Result<()> {
    let header = header(layout, parts);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for part in parts {
        out.write_all(bytemuck::cast_slice(part.values))?;
    }
    out.flush()
}

fn header(layout: &Layout, parts: &[Part<'_>]) -> Vec<u8> {
    let mut tensors = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(part.values.len(), layout.len(), "a flat buffer of another layout");
        let start = index * layout.len();
        tensors.extend(layout.segments().iter().map(|segment| entry(part.prefix, segment, start)));
    }
    let about = HashMap::from([("format".to_owned(), "convnext".to_owned())]);
    let metadata = Metadata::new(Some(about), tensors).expect("a layout lies back to back");
    let mut header = serde_json::to_vec(&metadata).expect("names and numbers are JSON");
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

/// A `.safetensors` file whose header has been read and found sound.
pub(super) struct TensorFile<'a> {
    path: &'a Path,
    file: BufReader<File>,
    data: u64,
    metadata: Metadata,
}

impl<'a> TensorFile<'a> {
    /// Reads and checks the header: its length, its JSON, that tensors lie back to back and fill the file.
    pub(super) fn open(path: &'a Path) -> Result<Self, CheckpointError> {
        let mut file = File::open(path).map_err(at("open", path))?;
        let len = file.metadata().map_err(at("read", path))?.len();
        let header = read_header(path, &mut file, len)?;
        let metadata: Metadata = serde_json::from_slice(&header)
            .map_err(|error| CheckpointError::Header { path: path.into(), reason: error.to_string() })?;
        let data = PREFIX + header.len() as u64;
        let (expected, found) = (metadata.data_len() as u64, len - data);
        if expected != found {
            return Err(CheckpointError::DataLength { path: path.into(), expected, found });
        }
        Ok(Self { path, file: BufReader::with_capacity(1 << 20, file), data, metadata })
    }

    /// Names and shapes of all tensors, in the order of the file.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shape = |name: String| {
            let shape = self.metadata.info(&name).map(|info| info.shape.clone()).unwrap_or_default();
            (name, shape)
        };
        self.metadata.offset_keys().into_iter().map(shape).collect()
    }

    /// Fails with everything that is wrong unless the file holds `wanted` (and nothing else that `ours` accepts).
    pub(super) fn check<'s>(
        &self,
        wanted: impl IntoIterator<Item = (String, &'s [usize])>,
        ours: impl Fn(&str) -> bool,
    ) -> Result<(), CheckpointError> {
        let mut problems = TensorProblems::default();
        let mut names = BTreeSet::new();
        for (name, shape) in wanted {
            self.compare(&name, shape, &mut problems);
            names.insert(name);
        }
        let found = self.metadata.offset_keys().into_iter();
        problems.extra = found.filter(|name| ours(name) && !names.contains(name)).collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::Tensors { path: self.path.into(), problems })
    }

    fn compare(&self, name: &str, shape: &[usize], problems: &mut TensorProblems) {
        let Some(info) = self.metadata.info(name) else {
            problems.missing.push(name.into());
            return;
        };
        if info.shape != shape {
            let (expected, found) = (shape.into(), info.shape.clone());
            problems.misshapen.push(Misshapen { name: name.into(), expected, found });
        }
        if info.dtype != Dtype::F32 {
            problems.mistyped.push((name.into(), info.dtype.to_string()));
        }
    }

    /// Copies a tensor that has passed [`Self::check`] into `into`.
    pub(super) fn read(&mut self, name: &str, into: &mut [f32]) -> Result<(), CheckpointError> {
        let start = self.metadata.info(name).expect("checked before").data_offsets.0 as u64;
        let to = SeekFrom::Start(self.data + start);
        self.file.seek(to).map_err(at("read", self.path))?;
        self.file.read_exact(bytemuck::cast_slice_mut(into)).map_err(at("read", self.path))
    }

    /// Reads a whole flat buffer that has passed [`Self::check`].
    pub(super) fn read_all(&mut self, prefix: &str, layout: &Layout) -> Result<Vec<f32>, CheckpointError> {
        let mut flat = vec![0.0; layout.len()];
        for segment in layout.segments() {
            self.read(&format!("{prefix}{}", segment.name), &mut flat[segment.range.clone()])?;
        }
        Ok(flat)
    }
}

fn read_header(path: &Path, file: &mut File, len: u64) -> Result<Vec<u8>, CheckpointError> {
    if len < PREFIX {
        return Err(CheckpointError::Truncated { path: path.into(), found: len });
    }
    let mut prefix = [0; PREFIX as usize];
    file.read_exact(&mut prefix).map_err(at("read", path))?;
    let claimed = u64::from_le_bytes(prefix);
    if claimed > HEADER_CAP {
        return Err(CheckpointError::HeaderTooLarge { path: path.into(), claimed });
    }
    if claimed > len - PREFIX {
        return Err(CheckpointError::Truncated { path: path.into(), found: len });
    }
    let mut header = vec![0; claimed as usize];
    file.read_exact(&mut header).map_err(at("read", path))?;
    Ok(header)
}
