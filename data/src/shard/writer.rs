//! Writing shards: the same samples give the same bytes, and nothing half-written is left behind.

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use convnext_files::{FileError, sync_directory};

use super::map::identity;
use super::{Encoding, Indexing, ShardError, annotation, build, names};
use crate::encode::{self, EncodeError};
use crate::target::Target;

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

/// Writes `name-000000.tar`, `name-000001.tar`, ..., their indices and the names of their classes into a folder.
///
/// Everything carries the suffix `.partial` until [`ShardWriter::finish`] has written and indexed all of it; then each
/// index gets its final name before its tar does. From before the first file to after the last there is `name.packing`,
/// which the writer holds locked: while it is there, the set is unfinished ([`ShardError::Unfinished`]), and who finds it
/// unlocked knows that its writer died, removes what that left, and starts anew. A writer that is dropped removes all.
pub struct ShardWriter {
    folder: PathBuf,
    name: String,
    limits: Limits,
    class_names: Option<Vec<String>>,
    open: Option<Open>,
    written: Written,
    marker: Option<Marker>,
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
    /// Shards of this name are already there, another process is writing some, or `name` is no file name.
    pub fn create(folder: impl AsRef<Path>, name: &str, limits: Limits) -> Result<Self, ShardError> {
        let folder = folder.as_ref();
        check_key(name)?;
        check_key(&name.replace('/', "."))?; // a file name, not a path
        fs::create_dir_all(folder).map_err(FileError::on("make the folder", folder))?;
        let marker = Some(Marker::set(folder, name)?);
        let (folder, name) = (folder.to_owned(), name.to_owned());
        Ok(Self { folder, name, limits, class_names: None, open: None, written: Written::default(), marker })
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

    /// Adds a sample with its target. Keys must be unique in the set; neighbours with one key make the index fail.
    ///
    /// # Errors
    /// The key is none, a segmentation is no image of one channel, or something cannot be written.
    pub fn append(
        &mut self,
        key: &str,
        encoding: Encoding,
        bytes: &[u8],
        target: impl Into<Target>,
    ) -> Result<(), ShardError> {
        check_key(key)?;
        let target = member_of(key, &target.into())?;
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
        image
            .and_then(|()| match target {
                Some((extension, bytes)) => open.member(&format!("{key}.{extension}"), &bytes),
                None => Ok(()),
            })
            .map_err(FileError::on("write", &partial(&open.path)))?;
        open.samples += 1;
        open.bytes += bytes.len() as u64;
        self.written.samples += 1;
        self.written.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Syncs and indexes everything, and gives it its final names.
    ///
    /// # Errors
    /// Something cannot be written. Nothing is left behind then.
    pub fn finish(mut self) -> Result<Written, ShardError> {
        self.close()?;
        self.write_class_names()?;
        self.index()?;
        let failed = FileError::on("write", &self.folder);
        self.rename().and_then(|()| sync_directory(&self.folder)).map_err(failed)?;
        let written = std::mem::take(&mut self.written);
        if let Some(marker) = self.marker.take() {
            marker.remove();
        }
        // The set is there, whether or not the disk knows it by now.
        let _ = sync_directory(&self.folder);
        Ok(written)
    }

    /// Indexes all shards, on all cores: their bytes are read again.
    fn index(&self) -> Result<(), ShardError> {
        let shards = &self.written.shards;
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(shards.len());
        let index = |first: usize| {
            shards.iter().skip(first).step_by(threads).try_for_each(|path| {
                let index = partial(&build::index_path(path));
                build::build(&partial(path), &index, &Indexing { left_out: 1.0, ..Indexing::default() }).map(drop)
            })
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|first| scope.spawn(move || index(first))).collect();
            let own = if threads > 0 { index(0) } else { Ok(()) };
            let joined =
                others.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.fold(own, Result::and)
        })
    }

    fn rename(&self) -> io::Result<()> {
        let names = self.class_names.is_some().then(|| self.class_names_path());
        let shards = self.written.shards.iter().flat_map(|path| [build::index_path(path), path.clone()]);
        names.into_iter().chain(shards).try_for_each(|path| fs::rename(partial(&path), path))
    }

    fn write_class_names(&self) -> Result<(), ShardError> {
        let Some(names) = &self.class_names else { return Ok(()) };
        let path = partial(&self.class_names_path());
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        File::create(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
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
        self.open = None;
        if let Some(marker) = self.marker.take() {
            // Best effort: there is nobody left to tell.
            let _ = remove_set(&self.folder, &self.name);
            marker.remove();
        }
    }
}

/// The file that says that a set is being written, held by who writes it.
struct Marker {
    path: PathBuf,
    /// Locked, where the file system can.
    file: File,
}

/// What it says once nothing of the set's name was there: then all that is, is its writer's.
const CLAIM: &str =
    "`convnext pack` is writing the shards of this name. If it was ended, run it again: it starts anew.\n";

impl Marker {
    fn set(folder: &Path, name: &str) -> Result<Self, ShardError> {
        let path = marker_path(&folder.join(name));
        let failed = |source| FileError::on("write", &path)(source);
        let created = File::options().read(true).write(true).create_new(true).open(&path);
        let (fresh, mut file) = match created {
            Ok(file) => (true, file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (false, File::options().read(true).write(true).open(&path).map_err(failed)?)
            }
            Err(error) => return Err(failed(error).into()),
        };
        match file.try_lock() {
            Ok(()) => {}
            // Without locks, nobody knows whether the writer of an old marker lives.
            Err(TryLockError::Error(_)) if fresh => {}
            Err(_) => return Err(ShardError::Busy { marker: path }),
        }
        if fs::metadata(&path).ok().and_then(|there| identity(&there))
            != file.metadata().ok().and_then(|held| identity(&held))
        {
            // Its writer ended between our opening and our lock.
            return Err(ShardError::Busy { marker: path });
        }
        let mut claim = String::new();
        file.read_to_string(&mut claim).map_err(failed)?;
        if claim == CLAIM {
            remove_set(folder, name).map_err(FileError::on("clean up", folder))?;
        } else if let Some(there) =
            files_of(folder, name).map_err(FileError::on("list", folder))?.into_iter().find(|path| is_tar(path))
        {
            Self { path, file }.remove();
            return Err(ShardError::Exists { path: there });
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(CLAIM.as_bytes()))
            .and_then(|()| file.sync_all())
            .map_err(|source| {
                // A folder that was empty stays so.
                let _ = fs::remove_file(&path);
                failed(source)
            })?;
        Ok(Self { path, file })
    }

    /// While the lock is held, so that nobody finds it unlocked.
    fn remove(self) {
        // Who has opened it by now must not take the set for one whose writer died. What stays is removed by who writes
        // this set next.
        let _ = self.file.set_len(0);
        let _ = fs::remove_file(&self.path);
        drop(self.file);
    }
}

/// `data/train` -> `data/train.packing`.
fn marker_path(set: &Path) -> PathBuf {
    let mut path = set.as_os_str().to_owned();
    path.push(".packing");
    path.into()
}

/// Fails where the writer of `set` has not finished.
pub(crate) fn check_finished(set: &Path) -> Result<(), ShardError> {
    let marker = marker_path(set);
    match marker.exists() {
        true => Err(ShardError::Unfinished { set: set.display().to_string(), marker }),
        false => Ok(()),
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

/// Extension and bytes of the member that holds a target.
fn member_of(key: &str, target: &Target) -> Result<Option<(&'static str, Vec<u8>)>, ShardError> {
    Ok(match target {
        Target::None => None,
        Target::Class(class) => Some(("cls", class.to_string().into_bytes())),
        Target::Classes(_) | Target::Boxes(_) => annotation::written(target).map(|text| ("json", text)),
        Target::Segmentation(map) => {
            let mut png = Vec::new();
            let encoded = match map.channels {
                1 => encode::png(map.view(), &mut png),
                channels => Err(EncodeError::new(format!("has 1 channel, not {channels}"))),
            };
            encoded.map_err(|source| ShardError::Encode { key: key.to_owned(), source })?;
            Some(("seg.png", png))
        }
    })
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
        Encoding::Npy => "npy",
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

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

/// What of a set is in its folder, under final or temporary names.
fn files_of(folder: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|file| is_of(file, name)) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// Whether a file is a shard of the set `name`, an index of one, or its names of classes.
fn is_of(file: &str, name: &str) -> bool {
    let Some(rest) = file.strip_prefix(name) else { return false };
    if rest == ".classes.txt" || rest == ".classes.txt.partial" {
        return true;
    }
    let Some((number, kind)) = rest.strip_prefix('-').and_then(|rest| rest.split_once('.')) else { return false };
    let known = matches!(kind, "tar" | "tar.idx") || kind.starts_with("tar.") && kind.ends_with(".partial");
    !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) && known
}

fn remove_set(folder: &Path, name: &str) -> io::Result<()> {
    files_of(folder, name)?.iter().try_for_each(fs::remove_file)
}
