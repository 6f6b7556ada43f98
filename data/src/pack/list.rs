//! A list of images: one a line, `path<TAB>label`.

use std::path::{Path, PathBuf};

use super::{PackError, Source, read_file};
use crate::error::FileError;

/// Images named by a text file. Relative paths start where the list lies; empty lines and lines that begin with `#` are
/// passed over; a line without a tab is a sample without a label.
#[derive(Clone, Debug)]
pub struct ListSource {
    samples: Vec<(PathBuf, Option<u32>)>,
}

impl ListSource {
    /// Reads the list, not the images.
    ///
    /// # Errors
    /// A label is no number from 0 to 4294967294.
    pub fn open(path: &Path) -> Result<Self, PackError> {
        let text = std::fs::read_to_string(path).map_err(FileError::on("read", path))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let samples = (text.lines().enumerate())
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|(number, line)| {
                let (file, label) =
                    parse(line).map_err(|why| PackError::List { path: path.to_owned(), line: number + 1, why })?;
                Ok((folder.join(file), label))
            })
            .collect::<Result<_, PackError>>()?;
        Ok(Self { samples })
    }
}

fn parse(line: &str) -> Result<(&str, Option<u32>), String> {
    let Some((file, label)) = line.trim_end().rsplit_once('\t') else {
        return Ok((line.trim(), None));
    };
    match label.trim().parse() {
        Ok(label) if label != u32::MAX => Ok((file.trim(), Some(label))),
        _ => Err(format!("{label:?} is no class number from 0 to 4294967294")),
    }
}

impl Source for ListSource {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.samples[index].1
    }

    fn load(&self, index: usize, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        read_file(&self.samples[index].0, bytes)
    }

    fn origin(&self, index: usize) -> PathBuf {
        self.samples[index].0.clone()
    }

    fn class_names(&self) -> Option<&[String]> {
        None
    }
}
