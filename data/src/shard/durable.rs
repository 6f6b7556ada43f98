//! Files that are there whole or not at all, also after the power went.

use std::fs::{File, Permissions};
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// A file under a name of its own, removed unless it is given its final name.
pub(super) struct Temporary(NamedTempFile);

impl Temporary {
    /// In the folder of `path`, whose name it bears with a random part and `.partial`.
    pub(super) fn beside(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        let mut builder = tempfile::Builder::new();
        builder.prefix(&name).suffix(".partial");
        if let Some(readable) = readable() {
            builder.permissions(readable);
        }
        Ok(Self(builder.tempfile_in(folder)?))
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

/// Makes names in `folder` outlast the power. File systems that do not know this for folders are trusted.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    use io::ErrorKind::{InvalidInput, IsADirectory, PermissionDenied, Unsupported};
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported | PermissionDenied | IsADirectory) => Ok(()),
        synced => synced,
    }
}
