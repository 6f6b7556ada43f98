//! Where the page goes.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use super::ReportError;
use crate::inside;

/// Writes a text that begins with `beginning` to a file: whole or not at all, in place of an earlier one that begins so, and of
/// nothing else.
pub(super) fn write(path: &Path, text: &str, beginning: &str) -> Result<(), ReportError> {
    let failed = |source| ReportError::Write { path: path.to_owned(), source };
    let refused = |why| ReportError::Place { path: path.to_owned(), why };
    let Some(name) = path.file_name() else {
        return Err(refused("it is no name of a file; give one, such as report.html"));
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(refused("the folder that it is to lie in does not exist; make it first, or give another name"));
    }
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(refused("it is a folder; give the name of a file in it, such as report.html"))
        }
        // Writing through a link would change a file somewhere else, and a pipe would wait for its reader.
        Ok(found) if !found.is_file() => Err(refused("a link, a pipe or a device is there; give another name")),
        Ok(_) if !begins(folder, Path::new(name), beginning).map_err(failed)? => {
            Err(refused("there is something else, which no report wrote; give another name"))
        }
        _ => inside::replace(folder, name, text.as_bytes()).map_err(failed),
    }
}

fn begins(folder: &Path, name: &Path, beginning: &str) -> io::Result<bool> {
    let mut found = Vec::new();
    inside::open(folder, name)?.take(beginning.len() as u64).read_to_end(&mut found)?;
    Ok(found.is_empty() || found.eq_ignore_ascii_case(beginning.as_bytes()))
}
