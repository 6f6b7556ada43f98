//! Writing shards: the same samples give the same bytes, and nothing half-written is left behind.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Encoding, Shard, ShardError, names};
use crate::error::FileError;

/// When a shard is full. A shard holds at least one sample, whatever its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of images.
    pub bytes: u64,
    /// Samples.
    pub samples: u64,
}

impl Default for Limits {
    /// 256 MiB: few files, and a unit that can still be copied again.
    fn default() -> Self {
        Self { bytes: 256 << 20, samples: u64::MAX }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The shards, in order.
    pub shards: Vec<PathBuf>,
    /// Samples in them.
    pub samples: u64,
    /// Bytes of images.
    pub bytes: u64,
}

/// Writes `name-000000.tar`, `name-000001.tar`, ... and their indices into a folder.
///
/// Shards carry the suffix `.partial` until [`ShardWriter::finish`] renames them all; dropped before, it removes them.
pub struct ShardWriter {
    folder: PathBuf,
    name: String,
    limits: Limits,
    class_names: Option<Vec<String>>,
    open: Option<Open>,
    /// Final paths; on disk they still end in `.partial`.
    written: Written,
}

struct Open {
    tar: tar::Builder<BufWriter<File>>,
    path: PathBuf,
    samples: u64,
    bytes: u64,
}

impl ShardWriter {
    /// Starts a set of shards. Makes the folder where it is missing.
    ///
    /// # Errors
    /// Shards of this name are already there, or `name` is no file name.
    pub fn create(folder: impl AsRef<Path>, name: &str, limits: Limits) -> Result<Self, ShardError> {
        let folder = folder.as_ref();
        check_key(name)?;
        check_key(&name.replace('/', "."))?; // a file name, not a path
        fs::create_dir_all(folder).map_err(FileError::on("make the folder", folder))?;
        refuse_existing(folder, name)?;
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            limits,
            class_names: None,
            open: None,
            written: Written::default(),
        })
    }

    /// Says what the classes are called, class 0 first; [`ShardWriter::finish`] writes it beside the shards. Line breaks
    /// inside a name become spaces.
    ///
    /// # Errors
    /// Two names are the same, or one is empty.
    pub fn name_classes(&mut self, names: &[String]) -> Result<(), ShardError> {
        let names: Vec<String> = names.iter().map(|name| name.replace(['\n', '\r'], " ")).collect();
        self.class_names = Some(names::checked(names.iter().map(String::as_str), &self.class_names_path())?);
        Ok(())
    }

    fn class_names_path(&self) -> PathBuf {
        names::names_path(&self.folder.join(&self.name))
    }

    /// Adds a sample. Keys must be unique in the set; neighbours with one key make the index fail.
    pub fn append(
        &mut self,
        key: &str,
        encoding: Encoding,
        bytes: &[u8],
        label: Option<u32>,
    ) -> Result<(), ShardError> {
        check_key(key)?;
        self.make_room(bytes.len() as u64)?;
        let open = match &mut self.open {
            Some(open) => open,
            empty => empty.insert(Open::create(self.folder.join(format!(
                "{}-{:06}.tar",
                self.name,
                self.written.shards.len()
            )))?),
        };
        let image = open.member(&format!("{key}.{}", extension(encoding, bytes)), bytes);
        let label = label.map(|label| label.to_string());
        image
            .and_then(|()| match label {
                Some(label) => open.member(&format!("{key}.cls"), label.as_bytes()),
                None => Ok(()),
            })
            .map_err(FileError::on("write", &partial(&open.path)))?;
        open.samples += 1;
        open.bytes += bytes.len() as u64;
        self.written.samples += 1;
        self.written.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Syncs, renames and indexes everything.
    pub fn finish(mut self) -> Result<Written, ShardError> {
        self.close()?;
        self.write_class_names()?;
        for path in &self.written.shards {
            fs::rename(partial(path), path).map_err(FileError::on("write", path))?;
        }
        let written = std::mem::take(&mut self.written);
        for path in &written.shards {
            Shard::index(path)?;
        }
        Ok(written)
    }

    fn write_class_names(&self) -> Result<(), ShardError> {
        let Some(names) = &self.class_names else { return Ok(()) };
        let path = self.class_names_path();
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        File::create(partial(&path))
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(partial(&path), &path))
            .map_err(FileError::on("write", &path))?;
        Ok(())
    }

    fn make_room(&mut self, bytes: u64) -> Result<(), ShardError> {
        let full = self
            .open
            .as_ref()
            .is_some_and(|open| open.samples >= self.limits.samples || open.bytes + bytes > self.limits.bytes);
        if full { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), ShardError> {
        let Some(Open { tar, path, .. }) = self.open.take() else {
            return Ok(());
        };
        let temporary = partial(&path);
        self.written.shards.push(path);
        tar.into_inner()
            .and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error))
            .and_then(|file| file.sync_all())
            .map_err(FileError::on("write", &temporary))?;
        Ok(())
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        let open = self.open.take().map(|open| open.path);
        for path in self.written.shards.iter().chain(&open) {
            // Best effort: there is nobody left to tell.
            let _ = fs::remove_file(partial(path));
        }
    }
}

impl Open {
    fn create(path: PathBuf) -> Result<Self, ShardError> {
        let temporary = partial(&path);
        let file = File::create(&temporary).map_err(FileError::on("create", &temporary))?;
        Ok(Self { tar: tar::Builder::new(BufWriter::new(file)), path, samples: 0, bytes: 0 })
    }

    /// Everything in the header that is not name and size is constant, so that equal samples give equal tars.
    fn member(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_path(name)?;
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        self.tar.append(&header, bytes)
    }
}

fn extension(encoding: Encoding, bytes: &[u8]) -> &'static str {
    match encoding {
        Encoding::Jpeg => "jpg",
        Encoding::Png => "png",
        Encoding::Pnm if bytes.starts_with(b"P5") => "pgm",
        Encoding::Pnm => "ppm",
        Encoding::Webp => "webp",
        Encoding::Gif => "gif",
        Encoding::Tiff => "tif",
        Encoding::Bmp => "bmp",
    }
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

fn check_key(key: &str) -> Result<(), ShardError> {
    let known = |c: char| c.is_ascii_alphanumeric() || "_-/".contains(c);
    let sound = (1..=90).contains(&key.len()) && key.chars().all(known) && !key.starts_with('/');
    sound.then_some(()).ok_or_else(|| ShardError::Key { key: key.to_owned() })
}

fn refuse_existing(folder: &Path, name: &str) -> Result<(), ShardError> {
    let listing = || -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let file = entry.file_name();
            let number =
                (file.to_str()).and_then(|file| file.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".tar"));
            if number.is_some_and(|number| number.bytes().all(|c| c.is_ascii_digit())) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    };
    match listing().map_err(FileError::on("list", folder))? {
        Some(path) => Err(ShardError::Exists { path }),
        None => Ok(()),
    }
}
