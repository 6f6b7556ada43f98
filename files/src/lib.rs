//! Files that are there whole or not at all, also after a power cut, and errors that name their file.
//!
//! The crate `atomic-write-file` does much of this, but calls a write failed where a file system does not sync directories,
//! as network drives and FUSE do not, and leaves files behind under random names that nothing finds again.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// What was being done to which file when the operating system refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// A verb: "open", "read", "rename".
    pub doing: &'static str,
    /// What the operating system said.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: `File::open(path).map_err(FileError::on("open", path))`.
    pub fn on(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), doing, source }
    }
}

/// What an unfinished file is called before its own name.
pub const UNFINISHED: &str = ".tmp-";

/// Writes the file `path` whole: under another name beside it, synced, then renamed over what was there, and the directory
/// synced. What an interrupted write left under the other name is removed, and a link there is not followed.
///
/// # Errors
/// The operating system refused. What was there before is then still there, unless only the directory could not be synced.
pub fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let unfinished = unfinished_path(path);
    discard(&unfinished)?;
    let put = || {
        let mut file = File::create_new(&unfinished)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    };
    put().inspect_err(|_| {
        // The error that counts is the first one.
        let _ = fs::remove_file(&unfinished);
    })?;
    sync_directory(directory_of(path))
}

/// Where [`replace`] writes what is to be `path`.
pub fn unfinished_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(UNFINISHED);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Removes a file, or a link and not what it points to; does nothing where nothing is.
///
/// # Errors
/// The operating system refused.
pub fn discard(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The directory that holds `path`.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes the entries of a directory through to the disk: names that were made or renamed in it.
///
/// Only Unix lets a directory be opened and synced, and not all file systems there do (network drives, FUSE); elsewhere a
/// rename is as durable as it gets.
///
/// # Errors
/// The disk refused; not that the file system knows no such thing.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(path).and_then(|directory| directory.sync_all()) {
        Err(error) if is_no_answer(&error) => Ok(()),
        done => done,
    }
}

/// Whether a file system says that it does not sync directories, or may not: `EINVAL`, `ENOTSUP`, `EACCES` and their kin.
fn is_no_answer(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, IsADirectory, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | IsADirectory | PermissionDenied | Unsupported)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_system_that_syncs_no_directories_is_no_error() {
        // EPERM, EACCES, EINVAL, ENOSYS, EOPNOTSUPP.
        for code in [1, 13, 22, 38, 95] {
            assert!(is_no_answer(&io::Error::from_raw_os_error(code)), "{code}");
        }
        // EIO, ENOSPC, ENOENT: the disk's own.
        for code in [5, 28, 2] {
            assert!(!is_no_answer(&io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(sync_directory(Path::new("/")).is_ok());
        assert!(sync_directory(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let names = || fs::read_dir(&folder).unwrap().count();
        replace(&path, |file| file.write_all(b"old")).unwrap();
        let cut = |file: &mut File| file.write_all(b"ne").and_then(|()| Err(io::Error::other("full")));
        assert_eq!(replace(&path, cut).unwrap_err().to_string(), "full");
        assert_eq!((fs::read(&path).unwrap(), names()), (b"old".to_vec(), 1));
        // What a crash left is no hindrance.
        fs::write(unfinished_path(&path), "half").unwrap();
        replace(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"new".to_vec(), 1));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_unfinished_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("a"), folder.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, unfinished_path(&path)).unwrap();
        replace(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}
