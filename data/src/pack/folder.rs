//! A tree of class folders: `root/CLASS/.../IMAGE.jpg`.

use std::fs;
use std::path::{Path, PathBuf};

use super::{PackError, Source, read_file};
use crate::error::FileError;
use crate::shard::Encoding;

/// Folders deeper than this below a class are an error of the operating system's making, not a data set.
const DEEPEST: usize = 32;

/// Images in class folders. Classes are the folders of the root that hold an image, by name; images are all files below
/// them named .jpg, .jpeg, .png, .pgm or .ppm. Hidden ones are passed over, linked folders inside a class not entered.
#[derive(Clone, Debug)]
pub struct FolderSource {
    samples: Vec<(PathBuf, u32)>,
    classes: Vec<String>,
}

impl FolderSource {
    /// Lists the tree.
    ///
    /// # Errors
    /// A folder cannot be read, or there are no images in folders.
    pub fn open(root: &Path) -> Result<Self, PackError> {
        let mut source = Self { samples: Vec::new(), classes: Vec::new() };
        for (name, path) in entries(root)? {
            let mut images = Vec::new();
            if path.is_dir() {
                list_images(&path, DEEPEST, &mut images)?;
            }
            if !images.is_empty() {
                let label = source.classes.len() as u32;
                source.classes.push(name);
                source.samples.extend(images.into_iter().map(|path| (path, label)));
            }
        }
        if source.samples.is_empty() {
            return Err(PackError::NoClasses { path: root.to_owned() });
        }
        Ok(source)
    }
}

impl Source for FolderSource {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(self.samples[index].1)
    }

    fn load(&self, index: usize, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        read_file(&self.samples[index].0, bytes)
    }

    fn origin(&self, index: usize) -> PathBuf {
        self.samples[index].0.clone()
    }

    fn class_names(&self) -> Option<&[String]> {
        Some(&self.classes)
    }
}

/// What is in a folder and not hidden, by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, PackError> {
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(FileError::on("list", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let named = |entry: &fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    Ok(entries.iter().map(named).filter(|(name, _)| !name.starts_with('.')).collect())
}

fn list_images(folder: &Path, depth: usize, images: &mut Vec<PathBuf>) -> Result<(), PackError> {
    for (_, path) in entries(folder)? {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if depth > 0 && !path.is_symlink() {
                list_images(&path, depth - 1, images)?;
            }
        } else if Encoding::of_extension(&extension).is_some() {
            images.push(path);
        }
    }
    Ok(())
}
