//! A file under a name that no other process has, since two may index one tar at the same time.

use std::fs::{File, Permissions};
use std::io;
use std::path::Path;

use convnext_files::directory_of;
use tempfile::NamedTempFile;

/// A file under a name of its own, removed unless it is given its final name.
pub(super) struct Temporary(NamedTempFile);

impl Temporary {
    /// In the folder of `path`, whose name it bears with a random part and `.partial`.
    pub(super) fn beside(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&name).suffix(".partial");
        if let Some(readable) = readable() {
            builder.permissions(readable);
        }
        Ok(Self(builder.tempfile_in(directory_of(path))?))
    }

    pub(super) fn file(&mut self) -> &mut File {
        self.0.as_file_mut()
    }

    /// Renames it; what stood there is replaced.
    pub(super) fn persist(self, path: &Path) -> io::Result<()> {
        self.0.persist(path).map(drop).map_err(|error| error.error)
    }
}

/// As any file: what the process's mask leaves.
#[cfg(unix)]
fn readable() -> Option<Permissions> {
    Some(std::os::unix::fs::PermissionsExt::from_mode(0o666))
}

#[cfg(not(unix))]
fn readable() -> Option<Permissions> {
    None
}
