//! The format before torch 1.6: five pickles one after the other, then the storages.
//!
//! The pickles are a magic number, the protocol's version, facts about the machine, the object, and the list of keys of
//! the storages. Each storage is its number of elements as 64 bits, then the elements.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    rc::Rc,
};

use super::{
    archive::big_endian,
    heap::Heap,
    pickle::{self, Object},
    problem::{Part, Problem, cut, io},
    value::{Form, Value},
};

/// torch's magic number, 0x1950a86a20f9469cfc6c, in little-endian bytes, and as the first two protocols write it. Such a
/// file starts with the pickle of it.
const MAGIC: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const MAGIC_IN_DIGITS: &[u8] = b"L119547037146038801333356L\n.";

/// Most bytes of a pickle before the number: its protocol, a frame, the number's length.
const BEFORE_MAGIC: usize = 13;

/// Whether a file starts with the magic number.
pub(super) fn is_magic(head: &[u8]) -> bool {
    let here = |place: usize| head.get(place..).is_some_and(|rest| rest.starts_with(MAGIC));
    head.starts_with(MAGIC_IN_DIGITS) || head.starts_with(&[0x80]) && (0..=BEFORE_MAGIC).any(here)
}

const VERSION: i64 = 1001;

/// The object, and where in the file each storage of its heap starts.
pub(super) fn open(file: &mut File, len: u64) -> Result<(Object, Vec<u64>), Problem> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0)).map_err(io("read"))?;
    pickle::load(&mut reader, Form::Legacy)?;
    check_version(&mut reader)?;
    check_machine(&mut reader)?;
    let object = pickle::load(&mut reader, Form::Legacy)?;
    let keys = keys(&mut reader)?;
    let starts = Storages { reader, len }.locate(&object.heap, &keys)?;
    Ok((object, starts))
}

fn check_version(reader: &mut impl Read) -> Result<(), Problem> {
    match pickle::load(reader, Form::Legacy)?.root {
        Value::Int(VERSION) => Ok(()),
        _ => Err(wrong("version")),
    }
}

fn check_machine(reader: &mut impl Read) -> Result<(), Problem> {
    let Object { heap, root } = pickle::load(reader, Form::Legacy)?;
    let facts = if let Value::Dict(dict) = root { heap.dict(dict) } else { None };
    match facts.and_then(|facts| facts.get("little_endian")) {
        Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false)) => Err(big_endian("big")),
        _ => Err(wrong("description of the machine")),
    }
}

fn wrong(header: &'static str) -> Problem {
    Part::Header(header).damaged("is not what torch.save writes")
}

fn keys(reader: &mut impl Read) -> Result<Vec<Rc<str>>, Problem> {
    let Object { heap, root } = pickle::load(reader, Form::Legacy)?;
    let wrong = || wrong("list of storages");
    let Value::List(list) = root else { return Err(wrong()) };
    let key = |value: &Value| match value {
        Value::Text(key) => Ok(Rc::clone(key)),
        _ => Err(wrong()),
    };
    heap.sequence(list).iter().map(key).collect()
}

/// The end of the file, after the pickles.
struct Storages<R> {
    reader: R,
    len: u64,
}

impl<R: Read + Seek> Storages<R> {
    /// Where each storage of the heap starts; they lie in the file in the order of `keys`.
    fn locate(mut self, heap: &Heap, keys: &[Rc<str>]) -> Result<Vec<u64>, Problem> {
        let mut starts = vec![None; heap.storages().len()];
        let mut seen = HashSet::new();
        for key in keys {
            let unknown = || Part::storage(key).forged("is in the file, and no tensor's");
            let id = heap.storage(key).ok_or_else(unknown)?;
            if !seen.insert(id) {
                return Err(Part::storage(key).forged("is listed twice"));
            }
            let start = self.pass(heap, id)?;
            starts.iter_mut().skip(id).take(1).for_each(|slot| *slot = Some(start));
        }
        self.check_end()?;
        let both = starts.into_iter().zip(heap.storages());
        both.map(|(start, storage)| start.ok_or_else(|| storage.missing())).collect()
    }

    /// Steps over one storage; returns where its elements start.
    fn pass(&mut self, heap: &Heap, id: usize) -> Result<u64, Problem> {
        let mut count = [0; 8];
        self.reader.read_exact(&mut count).map_err(cut(Part::Header("length of a storage")))?;
        let start = self.reader.stream_position().map_err(io("read"))?;
        let Some(storage) = heap.storages().get(id) else { return Ok(start) };
        let width = u64::from(storage.dtype.width());
        let bytes = u64::from_le_bytes(count).saturating_mul(width);
        storage.check_len(bytes)?;
        let left = self.len.saturating_sub(start);
        if bytes > left {
            return storage.check_len(left).map(|()| start);
        }
        self.reader.seek(SeekFrom::Start(start.saturating_add(bytes))).map_err(io("read"))?;
        Ok(start)
    }

    fn check_end(&mut self) -> Result<(), Problem> {
        let end = self.reader.stream_position().map_err(io("read"))?;
        match self.len.saturating_sub(end) {
            0 => Ok(()),
            bytes => Err(Part::Header("last storage").forged(format!("is followed by {bytes} bytes"))),
        }
    }
}
