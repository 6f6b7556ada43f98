//! What makes a rename last.

use std::{fs::File, io, path::Path};

/// Writes the entries of a directory through to the disk: names that were made or renamed in it.
///
/// Only Unix lets a directory be opened and synced; elsewhere a rename is as durable as it gets.
///
/// # Errors
/// The system's.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// The directory that holds `path`.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
