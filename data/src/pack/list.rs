//! A list of images: one a line, `path<TAB>label`.

use std::path::{Path, PathBuf};

use super::{Classes, PackError, Source, read_file, read_text};
use crate::shard::composed;

/// A list is read whole: this many bytes and no more.
const MOST: u64 = 1 << 30;

/// Images named by a text file. Relative paths start where the list lies; empty lines and lines that begin with `#` are
/// passed over; a line without a tab is a sample without a label. A label is a number or, where the classes are named, a
/// name.
#[derive(Clone, Debug)]
pub struct ListSource {
    /// Where the list lies.
    folder: PathBuf,
    /// Paths as the list has them, and classes.
    samples: Vec<(String, Option<u32>)>,
    classes: Option<Vec<String>>,
}

impl ListSource {
    /// Reads the list, not the images.
    ///
    /// # Errors
    /// A label is no number from 0 to 4294967294, or neither one of `classes` nor the number of one; or the list is longer
    /// than 1 GiB.
    pub fn open(path: &Path, classes: Option<&Classes>) -> Result<Self, PackError> {
        let text = read_text(path, "a list of images", MOST)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let samples = (text.trim_start_matches('\u{feff}').lines().enumerate())
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|(number, line)| {
                let (file, label) = parse(line, classes).map_err(|why| PackError::List {
                    path: path.to_owned(),
                    line: number + 1,
                    why,
                })?;
                Ok((file.to_owned(), label))
            })
            .collect::<Result<_, PackError>>()?;
        Ok(Self { folder: folder.to_owned(), samples, classes: classes.map(|classes| classes.names.clone()) })
    }
}

fn parse<'a>(line: &'a str, classes: Option<&Classes>) -> Result<(&'a str, Option<u32>), String> {
    let Some((file, label)) = line.trim_end().rsplit_once('\t') else {
        return Ok((line.trim(), None));
    };
    let number: Option<u32> = label.trim().parse().ok();
    let label = match classes {
        None => number
            .filter(|&label| label != u32::MAX)
            .ok_or_else(|| format!("{label:?} is no class number from 0 to 4294967294; names need --classes")),
        Some(Classes { names, path }) => {
            let named = names.iter().position(|name| *name == composed(label)).map(|number| number as u32);
            named
                .or(number.filter(|&number| (number as usize) < names.len()))
                .ok_or_else(|| format!("{label:?} is none of the {} classes in {}", names.len(), path.display()))
        }
    };
    Ok((file.trim(), Some(label?)))
}

impl Source for ListSource {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.samples[index].1
    }

    fn load(&self, index: usize, most: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        read_file(&self.origin(index), most, bytes)
    }

    fn origin(&self, index: usize) -> PathBuf {
        self.folder.join(&self.samples[index].0)
    }

    fn name(&self, index: usize) -> String {
        self.samples[index].0.clone()
    }

    fn class_names(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }
}
