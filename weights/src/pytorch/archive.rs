//! The format since torch 1.6: a zip archive of stored entries, all in one folder.
//!
//! `data.pkl` is the object, `data/<key>` the elements of a storage; `byteorder`, which early versions leave out, says
//! `little`. The checksums of the entries are not looked at: torch has a switch to leave them out, and does not look either.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
};

use super::{
    entries::{self, Entry, MAGIC},
    pickle::{self, Object},
    problem::{Part, Problem, RESAVE, cut, io, shown},
    tensor::Storage,
    value::Form,
};

const PICKLE: &str = "data.pkl";

/// What a TorchScript program has besides, in its folder: a file, and a folder of compressed files.
const SCRIPT: [&str; 2] = ["constants.pkl", "code"];

/// The object, and where in the file each storage of its heap starts.
pub(super) fn open(file: &mut File, len: u64) -> Result<(Object, Vec<u64>), Problem> {
    let mut archive = Archive::open(file, len)?;
    archive.check_byte_order()?;
    let object = archive.pickle()?;
    let starts: Result<_, _> = object.heap.storages().iter().map(|storage| archive.start(storage)).collect();
    Ok((object, starts?))
}

struct Archive<'a> {
    file: &'a mut File,
    folder: String,
    entries: HashMap<String, Entry>,
}

impl<'a> Archive<'a> {
    fn open(file: &'a mut File, len: u64) -> Result<Self, Problem> {
        let found = entries::read(file, len, survey)?;
        let folder = folder(&found)?;
        let mut entries = HashMap::new();
        for entry in found {
            if let Some(twice) = entries.insert(entry.name.clone(), entry) {
                return Err(Part::entry(&twice.name).forged("is in the archive twice"));
            }
        }
        let archive = Self { file, folder, entries };
        archive.check_files()?;
        Ok(archive)
    }

    /// No entry may be the folder of another.
    fn check_files(&self) -> Result<(), Problem> {
        for name in self.entries.keys() {
            let mut folders = name.match_indices('/').filter_map(|(end, _)| name.get(..end));
            if let Some(entry) = folders.find(|folder| self.entries.contains_key(*folder)) {
                return Err(Part::entry(entry).forged("is a file and a folder"));
            }
        }
        Ok(())
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(&self.full_name(name))
    }

    /// Early files do not say. They are taken as little-endian, as all machines are that models are trained on.
    fn check_byte_order(&mut self) -> Result<(), Problem> {
        const LONGEST: u64 = 16;
        let Some((start, len)) = self.entry("byteorder").map(|entry| (entry.start, entry.len)) else { return Ok(()) };
        let mut found = Vec::new();
        self.file.seek(SeekFrom::Start(start)).map_err(io("read"))?;
        self.file.take(len.min(LONGEST)).read_to_end(&mut found).map_err(io("read"))?;
        if found == b"little" && len <= LONGEST {
            return Ok(());
        }
        Err(big_endian(&String::from_utf8_lossy(&found)))
    }

    fn pickle(&mut self) -> Result<Object, Problem> {
        let Some(entry) = self.entry(PICKLE) else { return Err(no_pickle(&[])) };
        let (start, len) = (entry.start, entry.len);
        self.refuse_archive(start, len)?;
        self.file.seek(SeekFrom::Start(start)).map_err(io("read"))?;
        let mut reader = BufReader::new(&mut *self.file).take(len);
        let object = pickle::load(&mut reader, Form::Archive)?;
        match reader.limit() {
            0 => Ok(object),
            bytes => Err(Part::Pickle.forged(format!("is followed by {bytes} bytes of its entry"))),
        }
    }

    fn refuse_archive(&mut self, start: u64, len: u64) -> Result<(), Problem> {
        let mut magic = [0; MAGIC.len()];
        if len < MAGIC.len() as u64 {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(start)).map_err(io("read"))?;
        self.file.read_exact(&mut magic).map_err(cut(Part::Pickle))?;
        if magic != MAGIC {
            return Ok(());
        }
        let what =
            format!("its entry `{}` is an archive itself: unpack that one and give it", shown(&self.full_name(PICKLE)));
        Err(Problem::OtherArchive { what })
    }

    fn start(&self, storage: &Storage) -> Result<u64, Problem> {
        let entry = self.entry(&format!("data/{}", storage.key)).ok_or_else(|| storage.missing())?;
        storage.check_len(entry.len)?;
        Ok(entry.start)
    }
}

/// For a file that was saved where the highest byte of a number comes first.
pub(super) fn big_endian(found: &str) -> Problem {
    let what = format!("is of a machine with the byte order `{}`, and only `little` is read", shown(found));
    Part::Object.unsupported(what)
}

/// The folder that all entries are in.
fn folder(entries: &[Entry]) -> Result<String, Problem> {
    let mut folders = entries.iter().map(Entry::folder);
    let first = folders.next().ok_or_else(|| no_pickle(&[]))?;
    match folders.find(|folder| *folder != first) {
        None => Ok(first.into()),
        Some(second) => {
            let (first, second) = (shown(first), shown(second));
            let what = format!("has the folders `{first}` and `{second}` where torch.save writes one: packed anew?");
            Err(Part::Archive.unsupported(what))
        }
    }
}

/// Refuses what torch.save did not write by its names, before anything else is said of it.
fn survey(names: &[Cow<'_, str>]) -> Result<(), Problem> {
    let script = names.iter().find(|name| name.split('/').nth(1).is_some_and(|part| SCRIPT.contains(&part)));
    if let Some(entry) = script {
        let what = format!("is a TorchScript program, as its entry `{}` shows; only tensors are read", shown(entry));
        return Err(Part::Archive.unsupported(what));
    }
    match names.iter().any(|name| name.rsplit('/').next() == Some(PICKLE)) {
        true => Ok(()),
        false => Err(no_pickle(names)),
    }
}

/// Says what a zip archive is that torch.save did not write.
fn no_pickle(names: &[Cow<'_, str>]) -> Problem {
    let all = |end: &str| !names.is_empty() && names.iter().all(|name| name.ends_with(end));
    let any = |end: &str| names.iter().any(|name| name.ends_with(end));
    let weights = [".pt", ".pth", ".ckpt", ".bin", ".safetensors"];
    let inner = names.iter().find(|name| weights.iter().any(|end| name.ends_with(end)));
    let what = match (inner, names.first()) {
        _ if all(".npy") => "it holds arrays of numpy (.npz): save them as safetensors".into(),
        _ if any("model.weights.h5") => "it holds a model of Keras: export its weights as safetensors".into(),
        _ if any("archive_format") => format!("it holds a program of torch.export. {RESAVE}"),
        (Some(inner), _) => format!("it holds `{}`: unpack it and give that file", shown(inner)),
        (None, Some(first)) => {
            format!("it holds {} files such as `{}`. Is it really a .pt or .pth file?", names.len(), shown(first))
        }
        (None, None) => "it holds no file at all. Copied only in part?".into(),
    };
    Problem::OtherArchive { what }
}
