//! The format since torch 1.6: a zip archive of stored entries, all in one folder.
//!
//! `data.pkl` is the object, `data/<key>` the elements of a storage; `byteorder`, which early versions leave out, says
//! `little`. The checksums of the entries are not looked at: torch has a switch to leave them out, and does not look either.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

pub(super) use super::zip_directory::{DIRECTORY_CAP, ENTRY_NAME_CAP};
use super::{
    error::{PytorchError, at, cut, shown},
    object::Storage,
    pickle::{self, Form, Object},
    zip_directory::{self, Entry},
};

const PICKLE: &str = "data.pkl";

/// What a TorchScript program has besides, in its folder: a file, and a folder of compressed files.
const SCRIPT: [&str; 2] = ["constants.pkl", "code"];

/// The object, and where in the file each storage of its heap starts.
pub(super) fn open(path: &Path, file: &mut File, len: u64) -> Result<(Object, Vec<u64>), PytorchError> {
    let mut archive = Archive::open(path, file, len)?;
    archive.check_byte_order()?;
    let object = archive.pickle()?;
    let starts: Result<_, _> = object.heap.storages().iter().map(|storage| archive.start(storage)).collect();
    Ok((object, starts?))
}

struct Archive<'a> {
    path: &'a Path,
    file: &'a mut File,
    folder: String,
    entries: HashMap<String, Entry>,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path, file: &'a mut File, len: u64) -> Result<Self, PytorchError> {
        let found = zip_directory::read(path, file, len, |names| survey(path, names))?;
        check_folders(path, &found)?;
        let folder = found.first().map(|entry| entry.folder().to_owned());
        let folder = folder.ok_or_else(|| no_pickle(path, &[]))?;
        let mut entries = HashMap::new();
        for entry in found {
            if let Some(twice) = entries.insert(entry.name.clone(), entry) {
                return Err(PytorchError::EntryTwice { path: path.into(), entry: shown(&twice.name) });
            }
        }
        let archive = Self { path, file, folder, entries };
        archive.check_files()?;
        Ok(archive)
    }

    /// No entry may be the folder of another.
    fn check_files(&self) -> Result<(), PytorchError> {
        for name in self.entries.keys() {
            let mut folders = name.match_indices('/').filter_map(|(end, _)| name.get(..end));
            if let Some(entry) = folders.find(|folder| self.entries.contains_key(*folder)) {
                return Err(PytorchError::EntryFolder { path: self.path.into(), entry: shown(entry) });
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
    fn check_byte_order(&mut self) -> Result<(), PytorchError> {
        const LONGEST: u64 = 16;
        let Some((start, len)) = self.entry("byteorder").map(|entry| (entry.start, entry.len)) else { return Ok(()) };
        let mut found = Vec::new();
        self.file.seek(SeekFrom::Start(start)).map_err(at("read", self.path))?;
        self.file.take(len.min(LONGEST)).read_to_end(&mut found).map_err(at("read", self.path))?;
        if found == b"little" && len <= LONGEST {
            return Ok(());
        }
        Err(PytorchError::ByteOrder { path: self.path.into(), found: shown(&String::from_utf8_lossy(&found)) })
    }

    fn pickle(&mut self) -> Result<Object, PytorchError> {
        let Some(entry) = self.entry(PICKLE) else { return Err(no_pickle(self.path, &[])) };
        let (start, len) = (entry.start, entry.len);
        self.refuse_archive(start, len)?;
        self.file.seek(SeekFrom::Start(start)).map_err(at("read", self.path))?;
        let mut reader = BufReader::new(&mut *self.file).take(len);
        let object = pickle::load(self.path, &mut reader, Form::Archive)?;
        match reader.limit() {
            0 => Ok(object),
            bytes => Err(PytorchError::Leftover { path: self.path.into(), part: "the pickle", bytes }),
        }
    }

    fn refuse_archive(&mut self, start: u64, len: u64) -> Result<(), PytorchError> {
        let mut magic = [0; 4];
        if len < 4 {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(start)).map_err(at("read", self.path))?;
        self.file.read_exact(&mut magic).map_err(cut("its pickle", self.path))?;
        if magic != zip_directory::MAGIC {
            return Ok(());
        }
        Err(PytorchError::NestedArchive { path: self.path.into(), entry: shown(&self.full_name(PICKLE)) })
    }

    fn start(&self, storage: &Storage) -> Result<u64, PytorchError> {
        let missing = || PytorchError::StorageMissing { path: self.path.into(), key: shown(&storage.key) };
        let entry = self.entry(&format!("data/{}", storage.key)).ok_or_else(missing)?;
        storage.check_len(self.path, entry.len)?;
        Ok(entry.start)
    }
}

fn check_folders(path: &Path, entries: &[Entry]) -> Result<(), PytorchError> {
    let mut folders = entries.iter().map(Entry::folder);
    let Some(first) = folders.next() else { return Ok(()) };
    match folders.find(|folder| *folder != first) {
        None => Ok(()),
        Some(second) => Err(PytorchError::Folders { path: path.into(), first: shown(first), second: shown(second) }),
    }
}

/// Refuses what torch.save did not write by its names, before anything else is said of it.
fn survey(path: &Path, names: &[Cow<'_, str>]) -> Result<(), PytorchError> {
    let script = names.iter().find(|name| name.split('/').nth(1).is_some_and(|part| SCRIPT.contains(&part)));
    if let Some(entry) = script {
        return Err(PytorchError::TorchScript { path: path.into(), entry: shown(entry) });
    }
    match names.iter().any(|name| name.rsplit('/').next() == Some(PICKLE)) {
        true => Ok(()),
        false => Err(no_pickle(path, names)),
    }
}

/// Says what a zip archive is that torch.save did not write.
fn no_pickle(path: &Path, names: &[Cow<'_, str>]) -> PytorchError {
    let all = |end: &str| !names.is_empty() && names.iter().all(|name| name.ends_with(end));
    let weights = [".pt", ".pth", ".ckpt", ".bin", ".safetensors"];
    let inner = names.iter().find(|name| weights.iter().any(|end| name.ends_with(end)));
    let holds = match inner {
        _ if all(".npy") => "arrays of numpy (.npz); save them as safetensors".into(),
        _ if names.iter().any(|name| name.ends_with("model.weights.h5")) => {
            "a model of Keras; export its weights as safetensors".into()
        }
        _ if names.iter().any(|name| name.ends_with("archive_format")) => {
            format!("a program of torch.export. {}", super::error::RESAVE)
        }
        Some(inner) => format!("`{}`; unpack it and give that file", shown(inner)),
        None => match names.first() {
            Some(first) => {
                format!("{} files such as `{}`; is it really a .pt or .pth file?", names.len(), shown(first))
            }
            None => "no file at all; copied only in part?".into(),
        },
    };
    PytorchError::NoPickle { path: path.into(), holds }
}
