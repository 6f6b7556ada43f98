//! The list of a checkpoint's files with their lengths and hashes. Written last, checked first.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    error::CheckpointError,
    files::{at, kind_of, read_json, sync_directory},
};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const WEIGHTS: &str = "weights.safetensors";
pub(super) const OPTIMIZER: &str = "optimizer.safetensors";
pub(super) const EMA: &str = "ema.safetensors";
pub(super) const STATE: &str = "state.json";

pub(super) const FILES: [&str; 4] = [WEIGHTS, OPTIMIZER, EMA, STATE];
const REQUIRED: [&str; 2] = [WEIGHTS, STATE];
const VERSION: u32 = 1;

/// What `manifest.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    sha256: String,
}

impl Manifest {
    pub(super) fn new() -> Self {
        Self { version: VERSION, files: BTreeMap::new() }
    }

    /// Writes `name` in `directory`, syncs it and notes its length and hash, taken from the bytes as they are written.
    pub(super) fn add(
        &mut self,
        directory: &Path,
        name: &'static str,
        write: impl FnOnce(&mut Hashing<BufWriter<File>>) -> io::Result<()>,
    ) -> Result<(), CheckpointError> {
        let path = directory.join(name);
        let entry = write_synced(&path, write).map_err(at("write", &path))?;
        self.files.insert(name.into(), entry);
        Ok(())
    }

    /// Writes and syncs the manifest itself: after this the directory is complete.
    pub(super) fn finish(&self, directory: &Path) -> Result<(), CheckpointError> {
        let path = directory.join(MANIFEST);
        let json = serde_json::to_vec_pretty(self).expect("names and numbers are JSON");
        write_synced(&path, |out| out.write_all(&json)).map_err(at("write", &path))?;
        sync_directory(directory)
    }

    /// Reads the manifest of `directory` and checks what it claims against itself.
    pub(super) fn read(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(MANIFEST);
        if !path.exists() {
            return Err(CheckpointError::NoManifest(directory.into()));
        }
        let text = read_json(&path)?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| CheckpointError::Manifest { path: path.clone(), reason: error.to_string() })?;
        manifest.check(&path)?;
        Ok(manifest)
    }

    fn check(&self, path: &Path) -> Result<(), CheckpointError> {
        let path = || path.into();
        if self.version != VERSION {
            return Err(CheckpointError::Version { path: path(), found: self.version, known: VERSION });
        }
        if let Some(file) = self.files.keys().find(|file| !FILES.contains(&file.as_str())) {
            return Err(CheckpointError::UnknownFile { path: path(), file: file.clone() });
        }
        match REQUIRED.into_iter().find(|&file| !self.has(file)) {
            Some(file) => Err(CheckpointError::Unlisted { path: path(), file }),
            None => Ok(()),
        }
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }

    /// Checks that every file is there in its full length: cheap, and enough to see that a copy was cut off.
    pub(super) fn check_lengths(&self, directory: &Path) -> Result<(), CheckpointError> {
        self.files.iter().try_for_each(|(name, entry)| entry.check_length(directory.join(name)))
    }

    /// Checks lengths, then hashes: reads every byte.
    pub(super) fn verify(&self, directory: &Path) -> Result<(), CheckpointError> {
        self.check_lengths(directory)?;
        self.files.iter().try_for_each(|(name, entry)| entry.check_hash(directory.join(name)))
    }

    /// As [`Self::verify`], for `files` alone: the others may be damaged or gone.
    pub(super) fn verify_files(&self, directory: &Path, files: &[&str]) -> Result<(), CheckpointError> {
        let asked = || self.files.iter().filter(|(name, _)| files.contains(&name.as_str()));
        asked().try_for_each(|(name, entry)| entry.check_length(directory.join(name)))?;
        asked().try_for_each(|(name, entry)| entry.check_hash(directory.join(name)))
    }
}

impl Entry {
    fn check_length(&self, path: PathBuf) -> Result<(), CheckpointError> {
        let found = match path.metadata() {
            Ok(metadata) if !metadata.is_file() => {
                let found = kind_of(metadata.file_type());
                return Err(CheckpointError::NotPlain { path, found, wanted: "a file" });
            }
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CheckpointError::FileMissing(path)),
            Err(error) => return Err(at("read", &path)(error)),
        };
        if found == self.bytes {
            return Ok(());
        }
        Err(CheckpointError::Length { path, expected: self.bytes, found })
    }

    fn check_hash(&self, path: PathBuf) -> Result<(), CheckpointError> {
        let found = hash_file(&path).map_err(at("read", &path))?;
        if found == self.sha256 {
            return Ok(());
        }
        Err(CheckpointError::Hash { path, expected: self.sha256.clone(), found })
    }
}

/// A writer that hashes and counts what passes through it.
pub(super) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.hash.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn write_synced(path: &Path, write: impl FnOnce(&mut Hashing<BufWriter<File>>) -> io::Result<()>) -> io::Result<Entry> {
    let inner = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut out = Hashing { inner, hash: Sha256::new(), bytes: 0 };
    write(&mut out)?;
    out.flush()?;
    out.inner.get_ref().sync_all()?;
    Ok(Entry { bytes: out.bytes, sha256: hex(&out.hash.finalize()) })
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut out = Hashing { inner: io::sink(), hash: Sha256::new(), bytes: 0 };
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&out.hash.finalize())),
            read => out.write_all(&buffer[..read])?,
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
