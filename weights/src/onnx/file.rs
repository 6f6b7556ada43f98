//! Files under temporary names, and the step that puts them in their places.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use convnext_files::{UNFINISHED, directory_of, sync_directory};

use super::error::{OnnxError, at};

/// A file that is written beside its place. Unless it is put there, it is removed.
#[derive(Debug)]
pub(super) struct Unfinished {
    temporary: PathBuf,
    place: PathBuf,
}

impl Unfinished {
    /// Writes what will be the file `place`, and has the disk keep it.
    ///
    /// # Errors
    /// When the disk refuses; nothing is left behind.
    pub(super) fn write(
        place: &Path,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<Self, OnnxError> {
        let unfinished = Self { temporary: beside(place, UNFINISHED), place: place.into() };
        let written = File::create(&unfinished.temporary).and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            write(&mut out)?;
            out.flush()?;
            out.get_ref().sync_all()
        });
        written.map_err(at("write", place))?;
        Ok(unfinished)
    }

    /// Puts the file in its place, over an older one.
    ///
    /// # Errors
    /// When the disk refuses; the older file is then as it was.
    pub(super) fn put(self) -> Result<(), OnnxError> {
        fs::rename(&self.temporary, &self.place).map_err(at("replace", &self.place))
    }

    /// Puts this file and then `last` in their places.
    ///
    /// Two files cannot be replaced in one step. An error puts the older first file back; a crash in between leaves
    /// it under its `.tmp-old-` name.
    ///
    /// # Errors
    /// When the disk refuses; the older files are then as they were.
    pub(super) fn put_before(self, last: Self) -> Result<(), OnnxError> {
        let place = self.place.clone();
        let older = Aside::new(&place)?;
        let put = self.put().and_then(|()| last.put());
        match put {
            Ok(()) => older.forget(),
            Err(_) => older.restore(),
        }
        put
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // In its place it has no temporary name any more. Otherwise the error that counts is the one on its way.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// An older file under another name, should it be needed again.
struct Aside {
    place: PathBuf,
    name: Option<PathBuf>,
}

impl Aside {
    fn new(place: &Path) -> Result<Self, OnnxError> {
        let name = beside(place, ".tmp-old-");
        let name = match fs::symlink_metadata(place) {
            // A folder of that name is nothing of ours.
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => fs::rename(place, &name).map(|()| Some(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Self { place: place.into(), name: name.map_err(at("replace", place))? })
    }

    fn forget(self) {
        if let Some(name) = self.name {
            // What it was kept for is done; a file too many is no error.
            let _ = fs::remove_file(name);
        }
    }

    fn restore(self) {
        // The error that counts is the first one.
        let _ = match self.name {
            Some(name) => fs::rename(name, self.place),
            None => fs::remove_file(self.place),
        };
    }
}

/// The path of a file in the same folder whose name has `prefix` before it.
fn beside(path: &Path, prefix: &str) -> PathBuf {
    let mut name = OsString::from(prefix);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Makes the new names in the folder of `path` survive a power cut.
pub(super) fn sync_folder(path: &Path) -> Result<(), OnnxError> {
    let parent = directory_of(path);
    sync_directory(parent).map_err(|source| OnnxError::Sync { path: parent.into(), source })
}
