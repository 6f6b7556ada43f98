//! Named tensors between a flat buffer and a file.
//!
//! Tensors are written in the order of the layout, so that the data of a file are the flat buffer itself. A file is read
//! header first, and memory is taken only for tensors that the layout asks for.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::pytorch::{Dtype as PytorchType, PytorchFile, Section};
use convnext_core::optim::{Layout, Segment};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::{
    error::{CheckpointError, Misshapen, TensorProblems, at, open_plain},
    shards::{self, Shards},
    sniff::{self, Format},
    usage::{self, Usage},
};

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
pub(super) fn write(
    out: &mut impl Write,
    layout: &Layout,
    parts: &[Part<'_>],
    usage: Option<&Usage>,
) -> std::io::Result<()> {
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
    let mut about = HashMap::from([("format".to_owned(), "convnext".to_owned())]);
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

/// A file of tensors whose header has been read and found sound: `.safetensors`, PyTorch's `.pt`, or the index of several.
///
/// It stays open: what becomes of its name does not matter any more.
pub(super) struct TensorFile {
    path: PathBuf,
    container: Container,
}

enum Container {
    Safetensors(Safetensors),
    Pytorch(PytorchFile),
    Shards(Shards),
}

impl TensorFile {
    /// Reads and checks the header. Which container it is shows in the first bytes, an index in its name; `section` says
    /// which dict of a `.pt` file is meant.
    pub(super) fn open(path: &Path, section: Section<'_>) -> Result<Self, CheckpointError> {
        if shards::is_index(path) {
            return Ok(Self { path: path.into(), container: Container::Shards(Shards::open(path)?) });
        }
        let container = match sniff::format(path)? {
            Format::Pytorch => Container::Pytorch(PytorchFile::open(path, section)?),
            Format::Safetensors => Container::Safetensors(Safetensors::open(path)?),
        };
        Ok(Self { path: path.into(), container })
    }

    /// Names and shapes of all tensors, in the order of the file.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        match &self.container {
            Container::Safetensors(file) => file.shapes(),
            Container::Pytorch(file) => file.tensors().map(|(name, shape)| (name.into(), shape.into())).collect(),
            Container::Shards(shards) => shards.files().flat_map(Self::shapes).collect(),
        }
    }

    /// The dict of a `.pt` file that was taken, where it has several.
    pub(super) fn section(&self) -> Option<&str> {
        match &self.container {
            Container::Safetensors(_) | Container::Shards(_) => None,
            Container::Pytorch(file) => file.section(),
        }
    }

    /// Whether that is the moving average of the trained weights.
    pub(super) fn is_average(&self) -> bool {
        matches!(&self.container, Container::Pytorch(file) if file.is_average())
    }

    /// What the file says about the use of the weights.
    pub(super) fn usage(&self) -> Option<Usage> {
        match &self.container {
            Container::Safetensors(file) => Usage::of_json(file.metadata.metadata().as_ref()?.get(usage::KEY)?),
            Container::Pytorch(_) => None,
            Container::Shards(shards) => shards.files().find_map(Self::usage),
        }
    }

    /// Fails with everything that is wrong unless the file holds `wanted` (and nothing else that `ours` accepts).
    pub(super) fn check<'s>(
        &self,
        wanted: impl IntoIterator<Item = (String, &'s [usize])>,
        ours: impl Fn(&str) -> bool,
    ) -> Result<(), CheckpointError> {
        let found = self.shapes();
        let shapes: HashMap<&str, &[usize]> = found.iter().map(|(name, shape)| (&name[..], &shape[..])).collect();
        let mut problems = TensorProblems::default();
        let mut names = BTreeSet::new();
        for (name, shape) in wanted {
            match shapes.get(&name[..]) {
                None => problems.missing.push(name.clone()),
                Some(&found) => self.compare(&name, shape, found, &mut problems),
            }
            names.insert(name);
        }
        problems.extra =
            found.iter().map(|(name, _)| name).filter(|name| ours(name) && !names.contains(*name)).cloned().collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(CheckpointError::Tensors { path: self.path.clone(), problems })
    }

    fn compare(&self, name: &str, expected: &[usize], found: &[usize], problems: &mut TensorProblems) {
        if found != expected {
            let (expected, found) = (expected.into(), found.into());
            problems.misshapen.push(Misshapen { name: name.into(), expected, found });
        }
        if let Some(dtype) = self.foreign_type(name) {
            problems.mistyped.push((name.into(), dtype));
        }
    }

    /// The type of a tensor that is of no floating-point type we read.
    fn foreign_type(&self, name: &str) -> Option<String> {
        match &self.container {
            Container::Safetensors(file) => {
                let dtype = file.metadata.info(name)?.dtype;
                (!FLOATS.contains(&dtype)).then(|| dtype.to_string())
            }
            Container::Pytorch(file) => {
                use PytorchType::{Bf16, F16, F32, F64};
                file.dtype(name).filter(|dtype| !matches!(dtype, F32 | F16 | Bf16 | F64)).map(|dtype| dtype.to_string())
            }
            Container::Shards(shards) => shards.of(name)?.foreign_type(name),
        }
    }

    /// Copies a tensor that has passed [`Self::check`] into `into`; smaller and larger floats are converted.
    pub(super) fn read(&mut self, name: &str, into: &mut [f32]) -> Result<(), CheckpointError> {
        match &mut self.container {
            Container::Safetensors(file) => file.read(name, into).map_err(at("read", &self.path)),
            Container::Pytorch(file) => Ok(file.read(name, into)?),
            Container::Shards(shards) => shards.of_mut(name).expect("checked before").read(name, into),
        }
    }

    /// Reads a whole flat buffer that has passed [`Self::check`]. Every value is finite.
    pub(super) fn read_all(&mut self, prefix: &str, layout: &Layout) -> Result<Vec<f32>, CheckpointError> {
        let mut flat = vec![0.0; layout.len()];
        for segment in layout.segments() {
            self.read(&format!("{prefix}{}", segment.name), &mut flat[segment.range.clone()])?;
        }
        let Some((name, element, value)) = layout.not_finite(&flat) else { return Ok(flat) };
        Err(CheckpointError::NotFinite { path: self.path.clone(), name: format!("{prefix}{name}"), element, value })
    }
}

const FLOATS: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];

struct Safetensors {
    file: BufReader<File>,
    data: u64,
    metadata: Metadata,
}

impl Safetensors {
    /// Reads and checks the header: its length, its JSON, that tensors lie back to back and fill the file.
    fn open(path: &Path) -> Result<Self, CheckpointError> {
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

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let shape = |name: String| {
            let shape = self.metadata.info(&name).map(|info| info.shape.clone()).unwrap_or_default();
            (name, shape)
        };
        self.metadata.offset_keys().into_iter().map(shape).collect()
    }

    fn read(&mut self, name: &str, into: &mut [f32]) -> std::io::Result<()> {
        let info = self.metadata.info(name).expect("checked before");
        self.file.seek(SeekFrom::Start(self.data + info.data_offsets.0 as u64))?;
        match info.dtype {
            Dtype::F32 => self.file.read_exact(bytemuck::cast_slice_mut(into)),
            Dtype::F16 => converted(&mut self.file, into, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => converted(&mut self.file, into, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::F64 => converted(&mut self.file, into, |bytes| f64::from_le_bytes(bytes) as f32),
            other => unreachable!("{other} is no type that passes the check"),
        }
    }
}

fn converted<const N: usize>(
    file: &mut impl Read,
    into: &mut [f32],
    value: impl Fn([u8; N]) -> f32,
) -> std::io::Result<()> {
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
        return Err(CheckpointError::HeaderTooLarge { path: path.into(), claimed });
    }
    if claimed > len - PREFIX {
        return Err(CheckpointError::Truncated { path: path.into(), found: len });
    }
    let mut header = vec![0; claimed as usize];
    file.read_exact(&mut header).map_err(at("read", path))?;
    Ok(header)
}
