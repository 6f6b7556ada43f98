//! What makes a rename last.

use std::{fs::File, io, path::Path};

/// Writes the entries of a directory through to the disk: names that were made or renamed in it.
///
/// Only Unix lets a directory be opened and synced, and not all file systems there do (network drives, FUSE); elsewhere a
/// rename is as durable as it gets.
///
/// # Errors
/// The system's, when the disk refused, not when the file system knows no such thing.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
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
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

/// The directory that holds `path`.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
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
}
