//! A tree of class folders, `root/CLASS/.../IMAGE.jpg`, or a flat folder of images without labels.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use convnext_files::FileError;

use super::{Classes, PackError, Source, read_file};
use crate::decode::Format;
use crate::shard::{Encoding, composed};

/// Folders deeper than this below a class are an error of the operating system's making, not a data set.
const DEEPEST: usize = 32;
/// Folders and files that file managers and archives leave behind.
const THUMBS: [&str; 6] = ["thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin"];
/// Extensions of what is written about images and is none.
const NOTES: [&str; 18] = [
    "txt", "md", "rst", "csv", "tsv", "json", "jsonl", "xml", "yaml", "yml", "toml", "html", "htm", "log", "cls", "py",
    "sh", "md5",
];

/// Images in class folders. Classes are the folders of the root that hold an image, by name, in Unicode's composed form
/// (NFC) and in the order of its bytes, or those of a list; images are all files below them that one of the extensions of
/// [`Encoding`], or their first bytes, say to be one. A root that holds no folder with an image, but images, is a set
/// without labels.
#[derive(Clone, Debug)]
pub struct FolderSource {
    root: PathBuf,
    /// Paths below the root, and classes.
    samples: Vec<(PathBuf, Option<u32>)>,
    classes: Option<Vec<String>>,
    passed_over: PassedOver,
}

/// What a tree holds beside what is packed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// Files that are no image that can be read, by extension (in lower case, with its dot), and images that have no
    /// class where others have one. Hidden files, thumbnails of file managers and notes (text, tables, markup) do not
    /// count.
    pub kinds: BTreeMap<String, u64>,
    /// Class folders that hold files, and none that can be read.
    pub unreadable: Vec<String>,
    /// Class folders that hold nothing.
    pub empty: Vec<String>,
    /// Classes of the list that have no image.
    pub absent: Vec<String>,
    /// Linked folders inside of classes, which are not entered.
    pub links: u64,
}

impl PassedOver {
    /// Files that were left out.
    pub fn files(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// `3 of .heic, 1 of .psd`, the most first.
    pub fn by_kind(&self) -> String {
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by_key(|(kind, count)| (u64::MAX - **count, (*kind).clone()));
        kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
    }
}

/// What is below one folder.
#[derive(Default)]
struct Found {
    images: Vec<PathBuf>,
    others: BTreeMap<String, u64>,
    links: u64,
}

impl FolderSource {
    /// The share of files that may be left out unless that is allowed.
    pub const MOST_LEFT_OUT: f64 = 0.01;

    /// Lists the tree. Classes have the numbers that `classes` gives them, or those of their order.
    ///
    /// # Errors
    /// A folder cannot be read, there are no images, or a class folder is not in `classes`.
    pub fn open(root: &Path, classes: Option<&Classes>) -> Result<Self, PackError> {
        let (folders, beside) = list_root(root)?;
        let mut passed_over = PassedOver::default();
        let mut named: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for (name, found) in folders {
            let files = found.images.len() as u64 + found.others.values().sum::<u64>();
            passed_over.links += found.links;
            count(&mut passed_over.kinds, found.others);
            match (found.images.is_empty(), files) {
                (false, _) => named.entry(name).or_default().extend(found.images),
                (true, 0) => passed_over.empty.push(name),
                (true, _) => passed_over.unreadable.push(name),
            }
        }
        if named.is_empty() && !beside.images.is_empty() && passed_over.unreadable.is_empty() {
            return Self::flat(root, beside, passed_over, classes);
        }
        if !beside.images.is_empty() {
            passed_over.kinds.insert("beside the class folders".to_owned(), beside.images.len() as u64);
        }
        count(&mut passed_over.kinds, beside.others);
        if named.is_empty() {
            return Err(PackError::NoClasses { path: root.to_owned(), left_out: passed_over.by_kind() });
        }
        let mut source = Self { root: root.to_owned(), samples: Vec::new(), classes: None, passed_over };
        source.number(named, classes)?;
        Ok(source)
    }

    /// What the tree holds beside the samples.
    pub fn passed_over(&self) -> &PassedOver {
        &self.passed_over
    }

    /// Fails if more than [`FolderSource::MOST_LEFT_OUT`] of the files, or all of a class, are no image that can be read.
    ///
    /// # Errors
    /// [`PackError::LeftOut`].
    pub fn require_all(&self) -> Result<(), PackError> {
        let PassedOver { unreadable, .. } = &self.passed_over;
        let (left, all) = (self.passed_over.files(), self.passed_over.files() + self.samples.len() as u64);
        if unreadable.is_empty() && left as f64 <= all as f64 * Self::MOST_LEFT_OUT {
            return Ok(());
        }
        Err(PackError::LeftOut { left, all, kinds: self.passed_over.by_kind(), classes: unreadable.clone() })
    }

    fn flat(
        root: &Path,
        found: Found,
        mut passed_over: PassedOver,
        classes: Option<&Classes>,
    ) -> Result<Self, PackError> {
        if classes.is_some() {
            return Err(PackError::NoClasses { path: root.to_owned(), left_out: passed_over.by_kind() });
        }
        count(&mut passed_over.kinds, found.others);
        let mut source = Self { root: root.to_owned(), samples: Vec::new(), classes: None, passed_over };
        source.add(found.images, None);
        Ok(source)
    }

    fn add(&mut self, images: Vec<PathBuf>, label: Option<u32>) {
        let below = |path: PathBuf| path.strip_prefix(&self.root).map(Path::to_owned).unwrap_or(path);
        self.samples.extend(images.into_iter().map(|path| (below(path), label)));
    }

    fn number(&mut self, named: BTreeMap<String, Vec<PathBuf>>, classes: Option<&Classes>) -> Result<(), PackError> {
        let names: Vec<String> = named.keys().cloned().collect();
        let numbers = match classes {
            None => (0..names.len() as u32).collect(),
            Some(classes) => {
                let folders: Vec<String> =
                    names.iter().chain(&self.passed_over.empty).chain(&self.passed_over.unreadable).cloned().collect();
                classes.numbers(&self.root, &folders)?
            }
        };
        for (images, number) in named.into_values().zip(numbers) {
            self.add(images, Some(number));
        }
        if let Some(Classes { names: all, .. }) = classes {
            self.passed_over.absent = all.iter().filter(|name| !names.contains(name)).cloned().collect();
        }
        self.classes = Some(classes.map_or(names, |classes| classes.names.clone()));
        Ok(())
    }
}

impl Source for FolderSource {
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
        self.root.join(&self.samples[index].0)
    }

    fn name(&self, index: usize) -> String {
        composed(&self.samples[index].0.to_string_lossy())
    }

    fn class_names(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }
}

fn count(to: &mut BTreeMap<String, u64>, kinds: BTreeMap<String, u64>) {
    for (kind, count) in kinds {
        *to.entry(kind).or_default() += count;
    }
}

/// What is below each folder of the root, and what lies beside them.
fn list_root(root: &Path) -> Result<(Vec<(String, Found)>, Found), PackError> {
    if root.is_file() {
        return Err(PackError::NoFolder { path: root.to_owned() });
    }
    let (mut folders, mut beside) = (Vec::new(), Found::default());
    for (name, path) in entries(root)? {
        if path.is_dir() {
            let mut found = Found::default();
            list(&path, DEEPEST, &mut found)?;
            folders.push((composed(&name), found));
        } else {
            beside.take(path)?;
        }
    }
    Ok((folders, beside))
}

fn list(folder: &Path, depth: usize, found: &mut Found) -> Result<(), PackError> {
    for (_, path) in entries(folder)? {
        if !path.is_dir() {
            found.take(path)?;
        } else if path.is_symlink() {
            found.links += 1;
        } else if depth > 0 {
            list(&path, depth - 1, found)?;
        } else {
            return Err(PackError::TooDeep { path, deepest: DEEPEST });
        }
    }
    Ok(())
}

impl Found {
    /// Takes a file for an image, by its extension or, where that says nothing, by its first bytes; else counts it.
    fn take(&mut self, path: PathBuf) -> Result<(), PackError> {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if Encoding::of_extension(&extension).is_some() {
            self.images.push(path);
        } else if !NOTES.contains(&extension.as_str()) {
            if is_image(&path)? {
                self.images.push(path);
            } else {
                let kind =
                    if extension.is_empty() { "without an extension".to_owned() } else { format!(".{extension}") };
                *self.others.entry(kind).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// Whether the first bytes are those of an image; the two letters of PGM and PPM are too few to tell.
fn is_image(path: &Path) -> Result<bool, PackError> {
    if !path.is_file() {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(FileError::on("open", path))?;
    file.take(32).read_to_end(&mut bytes).map_err(FileError::on("read", path))?;
    Ok(Format::sniff(&bytes).is_some_and(|format| format != Format::Pnm))
}

/// What is in a folder, neither hidden nor left behind by a program, by name.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, PackError> {
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(FileError::on("list", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let named = |entry: &fs::DirEntry| (entry.file_name().to_string_lossy().into_owned(), entry.path());
    let meant = |name: &str| !name.starts_with('.') && !THUMBS.contains(&name.to_lowercase().as_str());
    Ok(entries.iter().map(named).filter(|(name, _)| meant(name)).collect())
}
