//! Plain files, opened and made so that no link, pipe or device stands in for one.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use super::error::CheckpointError;

/// No file of JSON here comes near it.
const JSON_CAP: u64 = 1 << 20;

/// What a thing is that is no plain file or folder.
pub(super) fn kind_of(kind: fs::FileType) -> &'static str {
    match kind {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a folder",
        kind if kind.is_file() => "a file",
        _ => "a pipe or device",
    }
}

/// Opens a plain file, or what a link to one leads to: a pipe would be waited for, a device read without end.
pub(super) fn open_plain(path: &Path) -> Result<File, CheckpointError> {
    let kind = fs::metadata(path).map_err(at("open", path))?.file_type();
    if !kind.is_file() {
        return Err(CheckpointError::NotPlain { path: path.into(), found: kind_of(kind), wanted: "a file" });
    }
    File::open(path).map_err(at("open", path))
}

/// Puts the action and the path on an I/O error.
pub(super) fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> CheckpointError + 'a {
    move |source| CheckpointError::Io { action, path: path.into(), source }
}

/// Reads a small file; of one that is not small, only so much that the parser fails.
pub(super) fn read_json(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let mut text = Vec::new();
    open_plain(path)?.take(JSON_CAP).read_to_end(&mut text).map_err(at("read", path))?;
    Ok(text)
}

/// Makes names in a directory survive a power cut.
pub(super) fn sync_directory(path: &Path) -> Result<(), CheckpointError> {
    convnext_files::sync_directory(path).map_err(at("sync", path))
}
