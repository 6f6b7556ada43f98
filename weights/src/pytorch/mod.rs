//! Reading the checkpoints that `torch.save` writes, `.pt` and `.pth`, without Python and without trust.
//!
//! Such a file is a program in Python's pickle language with the tensors' elements beside it, and what reads it usually
//! does whatever the program says. Here a small machine runs it that imports, constructs and calls nothing: what is no
//! tensor becomes a name without content. So the arguments, optimizers and numbers that training programs save beside the
//! weights are passed over, and the worst that a file can do is to be refused. `pickle` has the argument in full.
//!
//! ```text
//! archive, entries            the zip container, torch 1.6 and later
//! legacy                      the container before that
//! pickle, source, opcode      the machine
//! heap, value, tensor, dtype  what it can build: values, storages, tensors, names
//! rebuild                     the functions of torch that build tensors
//! section                     from the object to named tensors
//! problem                     what can be wrong with a file
//! ```
//!
//! # Which tensors
//! The file has to hold a dict, or a module of torch, which is read as its state dict. A section says which of its dicts
//! is meant: the moving average (`model_ema`, `state_dict_ema`, ..), else the trained weights (`model`, `state_dict`, ..),
//! by the names that training programs use, at any depth; or a dict that the caller names. A file without such names
//! is read whole, or, where only one of its dicts has tensors, that one. Dicts inside are flattened: `{"encoder":
//! {"weight": ..}}` beside others has `encoder.weight`. Numbers, texts, lists and objects beside the tensors are ignored,
//! and so are tensors in lists, in objects that are no modules, and under keys that are no text. So is what its storage
//! alone does not make: sparse and quantised tensors, conjugated ones, those without elements.

mod archive;
mod dtype;
mod entries;
mod heap;
mod legacy;
mod opcode;
mod pickle;
mod problem;
mod rebuild;
mod section;
mod source;
mod tensor;
#[cfg(test)]
mod tests;
mod value;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

pub use dtype::Dtype;
pub use problem::{Part, Problem, PytorchError};
pub(crate) use section::Section;

use dtype::Decoder;
use pickle::Object;
use problem::cut;
use section::Named;
use tensor::{Storage, Tensor};

/// Bytes that are read at a time; a multiple of every element's width.
const CHUNK: usize = 1 << 16;

/// Most elements of a storage that are held at once to put a tensor in order that is not contiguous: 1 GiB.
const SPAN_CAP: u64 = 1 << 28;

/// A checkpoint of PyTorch whose pickle has been run and whose tensors have been found sound.
#[derive(Debug)]
pub(crate) struct PytorchFile {
    path: PathBuf,
    file: File,
    section: Option<String>,
    average: bool,
    tensors: Vec<Placed>,
    by_name: HashMap<String, usize>,
}

/// A named tensor and its place in the file.
#[derive(Debug)]
struct Placed {
    name: String,
    dtype: Dtype,
    tensor: Tensor,
    /// Number of elements.
    len: usize,
    /// Elements of the file from the first to the last.
    span: u64,
    /// First byte of the first element.
    start: u64,
}

enum Container {
    Archive,
    Legacy,
}

impl PytorchFile {
    /// Whether a file that starts so is one that `torch.save` wrote, as far as sixty-four bytes tell. That does not mean that
    /// [`Self::open`] accepts it; any zip archive starts the same.
    pub(crate) fn is_pytorch(head: &[u8]) -> bool {
        container(head).is_some()
    }

    /// Runs the file's pickle and checks every tensor against its storage. Reads no tensor's elements.
    ///
    /// # Errors
    /// If the file cannot be read, is damaged, or holds no such dict of tensors; see [`PytorchError`].
    pub(crate) fn open(path: &Path, section: Section<'_>) -> Result<Self, PytorchError> {
        Self::parse(path, section).map_err(|problem| PytorchError { path: path.into(), problem })
    }

    fn parse(path: &Path, section: Section<'_>) -> Result<Self, Problem> {
        let mut file = File::open(path).map_err(problem::io("open"))?;
        let len = file.metadata().map_err(problem::io("read"))?.len();
        let mut head = Vec::new();
        Read::by_ref(&mut file).take(64).read_to_end(&mut head).map_err(problem::io("read"))?;
        let (object, starts) = match container(&head) {
            Some(Container::Archive) => archive::open(&mut file, len)?,
            Some(Container::Legacy) => legacy::open(&mut file, len)?,
            None => return Err(Problem::NotPytorch),
        };
        let Named { section, average, tensors } = section::named(&object, section)?;
        let tensors = place(&object, &starts, tensors)?;
        let by_name = tensors.iter().enumerate().map(|(index, tensor)| (tensor.name.clone(), index)).collect();
        Ok(Self { path: path.into(), file, section, average, tensors, by_name })
    }

    /// Keys of the dict whose tensors these are, joined by dots: `model_ema`. None where the file is one dict of tensors.
    pub(crate) fn section(&self) -> Option<&str> {
        self.section.as_deref()
    }

    /// Whether that dict is called like a moving average of the trained weights.
    pub(crate) fn is_average(&self) -> bool {
        self.average
    }

    /// Names and shapes of all tensors, in the order of the file. The product of a shape does not overflow, and is no more
    /// than the elements of the tensor's storage in the file.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|placed| (&*placed.name, &*placed.tensor.shape))
    }

    /// Type of a tensor's elements; none if there is no such tensor.
    pub(crate) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.by_name.get(name).and_then(|index| self.tensors.get(*index)).map(|placed| placed.dtype)
    }

    /// Fills `into` with a tensor's elements in row-major order, whatever their order in the file. Floating-point numbers of
    /// any width become f32: halves exactly, doubles rounded to nearest.
    ///
    /// # Errors
    /// If there is no such tensor, if it is not of floating-point numbers or of another length than `into`, or if the file
    /// cannot be read. `into` may then be filled in part.
    pub(crate) fn read(&mut self, name: &str, into: &mut [f32]) -> Result<(), PytorchError> {
        self.read_elements(name, into).map_err(|problem| PytorchError { path: self.path.clone(), problem })
    }

    fn read_elements(&mut self, name: &str, into: &mut [f32]) -> Result<(), Problem> {
        let placed = self.by_name.get(name).and_then(|index| self.tensors.get(*index));
        let placed = placed.ok_or_else(|| no_tensor(name))?;
        let decode = placed.check(into.len())?;
        let mut elements = Elements { file: &mut self.file, dtype: placed.dtype, decode };
        if placed.tensor.is_contiguous() {
            return elements.read(placed.start, into).map_err(cut(placed.part()));
        }
        let mut span = vec![0.0; placed.checked_span()?];
        elements.read(placed.start, &mut span).map_err(cut(placed.part()))?;
        gather(&placed.tensor, &span, into);
        Ok(())
    }
}

fn container(head: &[u8]) -> Option<Container> {
    if head.starts_with(&entries::MAGIC) {
        return Some(Container::Archive);
    }
    legacy::is_magic(head).then_some(Container::Legacy)
}

fn no_tensor(name: &str) -> Problem {
    Part::tensor(name).of_other_model("is no tensor of the file")
}

fn place(object: &Object, starts: &[u64], named: Vec<(String, usize)>) -> Result<Vec<Placed>, Problem> {
    let placed = |(name, id): (String, usize)| {
        // All are there: the section has numbers of this heap only.
        let missing = no_tensor(&name);
        let tensor = object.heap.tensor(id);
        let storage = tensor.and_then(|tensor| object.heap.storages().get(tensor.storage));
        let (Some(tensor), Some(storage)) = (tensor, storage) else { return Err(missing) };
        let placed = Placed::new(name, tensor, starts).ok_or(missing)?;
        placed.check_size(storage)?;
        Ok(placed)
    };
    named.into_iter().map(placed).collect()
}

impl Placed {
    fn new(name: String, tensor: &Tensor, starts: &[u64]) -> Option<Self> {
        let dtype = tensor.dtype;
        let (len, span) = (tensor.elements()?, tensor.span()?);
        let before = tensor.offset.checked_mul(dtype.width().into())?;
        let start = starts.get(tensor.storage)?.checked_add(before)?;
        Some(Self { name, dtype, tensor: tensor.clone(), len, span, start })
    }

    fn part(&self) -> Part {
        Part::tensor(&self.name)
    }

    /// Fails if the tensor repeats elements until it is larger than its storage: so a few bytes of file could claim any
    /// amount of the caller's memory.
    fn check_size(&self, storage: &Storage) -> Result<(), Problem> {
        let elements = storage.elements_of(self.dtype);
        if u64::try_from(self.len).is_ok_and(|len| len <= elements) {
            return Ok(());
        }
        let shape = &self.tensor.shape;
        Err(self.part().not_contiguous(format!("of shape {shape:?} is larger than its storage of {elements} elements")))
    }

    fn check(&self, asked: usize) -> Result<Decoder, Problem> {
        let Self { len, dtype, .. } = *self;
        let decode = dtype.decoder().ok_or_else(|| Problem::NotFloat { at: self.part(), dtype })?;
        match asked {
            _ if asked == len => Ok(decode),
            _ => Err(self.part().of_other_model(format!("has {len} elements where {asked} were asked for"))),
        }
    }

    /// The span, if it is one to hold in memory. It is never longer than the storage in the file.
    fn checked_span(&self) -> Result<usize, Problem> {
        let span = usize::try_from(self.span).ok().filter(|_| self.span <= SPAN_CAP);
        span.ok_or_else(|| self.part().not_contiguous(format!("is strewn over {} elements of its storage", self.span)))
    }
}

/// Elements of one type in a file.
struct Elements<'a> {
    file: &'a mut File,
    dtype: Dtype,
    decode: Decoder,
}

impl Elements<'_> {
    /// Elements that lie back to back.
    fn read(&mut self, start: u64, into: &mut [f32]) -> io::Result<()> {
        let width = usize::from(self.dtype.width()).max(1);
        let mut bytes = vec![0; CHUNK.min(into.len().saturating_mul(width))];
        self.file.seek(SeekFrom::Start(start))?;
        for values in into.chunks_mut(CHUNK / width) {
            bytes.truncate(values.len().saturating_mul(width));
            self.file.read_exact(&mut bytes)?;
            (self.decode)(&bytes, values);
        }
        Ok(())
    }
}

/// Copies elements from the order of the storage to row-major order. `span` starts at the tensor's first element.
fn gather(tensor: &Tensor, span: &[f32], into: &mut [f32]) {
    // An axis of one index has a stride without meaning.
    let axes = tensor.shape.iter().zip(&tensor.strides).filter(|(size, _)| **size > 1);
    let axes: Vec<_> = axes.map(|(&size, &stride)| (size, usize::try_from(stride).unwrap_or(usize::MAX))).collect();
    let mut index = vec![0_usize; axes.len()];
    let mut from = 0_usize;
    for value in into {
        *value = span.get(from).copied().unwrap_or(f32::NAN);
        for (index, &(size, stride)) in index.iter_mut().zip(&axes).rev() {
            *index += 1;
            from = from.saturating_add(stride);
            if *index < size {
                break;
            }
            from = from.saturating_sub(size.saturating_mul(stride));
            *index = 0;
        }
    }
}
