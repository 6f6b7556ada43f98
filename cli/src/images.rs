//! Image files as the command line names them: files, folders, patterns, lists.

use std::{
    fs,
    io::{self, BufRead},
    path::{Path, PathBuf},
};

use convnext_data::Encoding;
use convnext_pipeline::tell;
use walkdir::WalkDir;

use crate::{Failure, Outcome, shards::alternatives};

/// The arguments, for commands that take image files.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Image files, folders of them (with all that lies below), quoted patterns, or - for names on standard input, one a line.
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A file of names, one a line.
    #[arg(long, value_name = "FILE")]
    list: Vec<PathBuf>,
}

impl Args {
    /// Whether none are named.
    pub(crate) fn is_empty(&self) -> bool {
        self.images.is_empty() && self.list.is_empty()
    }

    /// The files, in the order in which they are named, those of a folder or a pattern by name. A file that is not there
    /// is among them: that is for the reader to say.
    ///
    /// # Errors
    /// A folder or a pattern without images; a list that cannot be read.
    pub(crate) fn files(&self) -> Outcome<Vec<PathBuf>> {
        let mut files = Vec::new();
        for image in &self.images {
            match image {
                dash if dash.as_os_str() == "-" => {
                    files.extend(names(io::stdin().lock(), Path::new("standard input"))?)
                }
                folder if folder.is_dir() => files.extend(below(folder)?),
                file if file.symlink_metadata().is_ok() => files.push(file.clone()),
                pattern => files.extend(matches(pattern)?),
            }
        }
        for list in &self.list {
            let failed = |error| Failure::because(format!("{}: cannot be read", list.display()), error);
            files.extend(names(io::BufReader::new(fs::File::open(list).map_err(failed)?), list)?);
        }
        match files.is_empty() {
            true => Err(Failure::usage("no images; give files, folders, quoted patterns, --list FILE, or - for names")),
            false => Ok(files),
        }
    }
}

/// The names of a list, one a line.
fn names(list: impl BufRead, path: &Path) -> Outcome<Vec<PathBuf>> {
    let lines = list.lines().filter(|line| line.as_ref().map_or(true, |line| !line.trim().is_empty()));
    let names: io::Result<Vec<PathBuf>> = lines.map(|line| line.map(PathBuf::from)).collect();
    names.map_err(|error| Failure::because(format!("{}: is no list of names", path.display()), error))
}

/// The images below a folder, by the ends of their names; hidden ones are left out.
fn below(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let shown =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".");
    let (mut images, mut others) = (Vec::new(), 0);
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(shown) {
        let entry =
            entry.map_err(|error| Failure::because(format!("{}: cannot be listed", folder.display()), error))?;
        let path = entry.into_path();
        let is_image =
            || path.extension().is_some_and(|kind| Encoding::of_extension(&kind.to_string_lossy()).is_some());
        match path.is_dir() {
            true => {}
            false if is_image() => images.push(path),
            false => others += 1,
        }
    }
    if images.is_empty() {
        return Err(Failure::failed(format!("{}: there is no image in this folder", folder.display())));
    }
    if others > 0 {
        tell::say(format_args!("{}: left out, since their names are not those of images: {others}", folder.display()));
    }
    Ok(images)
}

/// The files of a pattern; a name that is no pattern is that of a file.
fn matches(pattern: &Path) -> Outcome<Vec<PathBuf>> {
    let Some(text) = pattern.to_str().filter(|text| text.contains(['*', '?', '[', '{'])) else {
        return Ok(vec![pattern.to_owned()]);
    };
    let what = || format!("`{text}` is not a pattern of files");
    let mut files = Vec::new();
    for pattern in alternatives(text)? {
        let found = glob::glob(&pattern).map_err(|error| Failure::because(what(), error))?;
        let found = found.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::because(what(), error))?;
        files.extend(found.into_iter().filter(|path| path.is_file()));
    }
    match files.is_empty() {
        true => Err(Failure::failed(format!("no file matches `{text}`"))),
        false => Ok(files),
    }
}
