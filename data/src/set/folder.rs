//! A folder of images as it lies on a disk: listed when it is opened, each file read when it is used.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::SetError;
use crate::decode::{Decoder, Format, Wanted};
use crate::image::Image;
use crate::pack::{FolderSource, Options, PassedOver, Source, bytes_of, read_file, select};
use crate::shard::{Encoding, Labels, ShardError, Summary};
use crate::target::{Example, Target, TargetKind};

/// Images in class folders, or a flat folder of images without labels.
///
/// Its samples have the order in which [`pack`](crate::pack::pack) packs them where nothing else is said, so that neighbours
/// are of many classes, and a model learns the same from the folder as from its shards.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    source: FolderSource,
    /// Numbers in the source, and bytes when it was listed, by sample.
    files: Vec<(usize, u64)>,
    labels: Labels,
}

impl Folder {
    /// Files from which on shards are worth their making.
    pub const MANY: u64 = 10_000;

    /// Lists the folder, and the lengths of its files. What cannot be read later is a bad sample.
    ///
    /// # Errors
    /// There is no image, a folder cannot be listed, or more files are no images than [`FolderSource::require_all`] allows.
    pub fn open(root: &Path) -> Result<Self, SetError> {
        let source = FolderSource::open(root, None)?;
        source.require_all()?;
        let length = |path: PathBuf| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let order = select(&source, &Options::default());
        let files = order.into_iter().map(|index| (index, length(source.origin(index)))).collect();
        Ok(Self { root: root.to_owned(), source, files, labels: Labels::AsIndexed })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Number of samples.
    pub fn len(&self) -> u64 {
        self.files.len() as u64
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What it holds beside the samples.
    pub fn passed_over(&self) -> &PassedOver {
        self.source.passed_over()
    }

    /// Largest label + 1; 0 where nothing is labelled.
    pub fn classes(&self) -> u32 {
        self.labels.classes(self.class_names().map_or(0, |names| names.len() as u32))
    }

    /// The names of the class folders, in the order of its own labels; `None` where there are none.
    pub fn class_names(&self) -> Option<&[String]> {
        self.source.class_names()
    }

    /// Number of samples without a label: none, or all.
    pub fn unlabelled(&self) -> u64 {
        if self.class_names().is_some() { 0 } else { self.len() }
    }

    /// The sample at `number`, counted from 0.
    ///
    /// # Errors
    /// There is none.
    pub fn sample(&self, number: u64) -> Result<File<'_>, ShardError> {
        let place = usize::try_from(number).ok().and_then(|number| self.files.get(number));
        let &(index, len) = place.ok_or(ShardError::NoSample { id: number, len: self.len() })?;
        Ok(File { folder: self, number, index, len })
    }

    /// All samples, in order.
    pub fn samples(&self) -> impl Iterator<Item = File<'_>> {
        (0..).zip(&self.files).map(|(number, &(index, len))| File { folder: self, number, index, len })
    }

    /// Fails where a sample has no target of this kind, naming the first.
    ///
    /// # Errors
    /// That.
    pub fn require_targets(&self, kind: TargetKind) -> Result<(), SetError> {
        match self.samples().find(|file| !file.has(kind)) {
            None => Ok(()),
            Some(file) => Err(SetError::NoTarget { path: file.path(), kind }),
        }
    }

    /// Counts what is there.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            samples: self.len(),
            unlabelled: self.unlabelled(),
            classes: self.classes(),
            bytes: self.files.iter().map(|(_, len)| len).sum(),
            ..Summary::default()
        };
        for encoding in self.samples().filter_map(|file| file.encoding()) {
            summary.encodings[encoding as usize - 1] += 1;
        }
        summary
    }

    /// What its labels mean, to be changed.
    pub(super) fn labels_mut(&mut self) -> &mut Labels {
        &mut self.labels
    }
}

/// One file of a folder.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    folder: &'a Folder,
    number: u64,
    /// Its number in the source.
    index: usize,
    len: u64,
}

impl File<'_> {
    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        self.folder.source.origin(self.index)
    }

    /// Its path below the folder.
    pub fn name(&self) -> String {
        self.folder.source.name(self.index)
    }

    /// Its number in the folder, from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its class, where it lies in a class folder.
    pub fn label(&self) -> Option<u32> {
        self.folder.source.label(self.index).map(|label| self.folder.labels.of(label))
    }

    /// Its class; an error where it has none, or nobody knows what it means.
    ///
    /// # Errors
    /// That.
    pub fn require_label(&self) -> Result<u32, SetError> {
        self.folder.labels.check()?;
        self.label().ok_or_else(|| SetError::NoTarget { path: self.path(), kind: TargetKind::Class })
    }

    /// Its bytes, when the folder was listed.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// Its encoding, by its extension or its first bytes; `None` where neither tells.
    pub fn encoding(&self) -> Option<Encoding> {
        let path = self.path();
        let extension = path.extension().and_then(|extension| Encoding::of_extension(&extension.to_string_lossy()));
        extension.or_else(|| {
            let mut first = Vec::new();
            let file = std::fs::File::open(&path).ok()?;
            std::io::Read::read_to_end(&mut std::io::Read::take(file, 32), &mut first).ok()?;
            Format::sniff(&first).map(Encoding::from)
        })
    }

    /// Whether it has a target of this kind.
    pub fn has(&self, kind: TargetKind) -> bool {
        match kind {
            TargetKind::None => true,
            TargetKind::Class => self.label().is_some(),
            TargetKind::Classes | TargetKind::Segmentation | TargetKind::Boxes => false,
        }
    }

    /// Its bytes, read into `scratch`.
    ///
    /// # Errors
    /// It cannot be read, has another length than when the folder was listed, or is longer than an image of
    /// [`Decoder::MAX_PIXELS`] may be.
    pub fn bytes<'b>(&self, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], SetError> {
        self.read(Decoder::MAX_PIXELS, scratch)?;
        Ok(scratch)
    }

    /// Reads and decodes it into `image`; errors name it.
    ///
    /// # Errors
    /// As [`File::bytes`], with the decoder's limit, or it is no image.
    pub fn decode_into(&self, decoder: &mut Decoder, scratch: &mut Vec<u8>, image: &mut Image) -> Result<(), SetError> {
        self.read(decoder.max_pixels(), scratch)?;
        let undecodable = |source| SetError::Undecodable { path: self.path(), source };
        decoder.decode_into(scratch, image).map_err(undecodable)
    }

    /// Reads and decodes it, with its target of `kind`, into `example`.
    ///
    /// # Errors
    /// As [`File::decode_into`], or it has no target of this kind.
    pub fn example_into(
        &self,
        kind: TargetKind,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        example: &mut Example,
    ) -> Result<(), SetError> {
        self.target_into(kind, &mut example.target)?;
        self.read(decoder.max_pixels(), scratch)?;
        self.picture_into(scratch, &|_, _| None, decoder, example)
    }

    /// Its target of `kind`.
    ///
    /// # Errors
    /// It has none.
    pub fn target_into(&self, kind: TargetKind, target: &mut Target) -> Result<(), SetError> {
        *target = match kind {
            TargetKind::None => Target::None,
            TargetKind::Class => Target::Class(self.require_label()?),
            _ => return Err(SetError::NoTarget { path: self.path(), kind }),
        };
        Ok(())
    }

    /// Decodes its bytes, `encoded`, or the part of the picture that is wanted into `example`.
    ///
    /// # Errors
    /// They are no image.
    pub fn picture_into(
        &self,
        encoded: &[u8],
        wanted: Wanted<'_>,
        decoder: &mut Decoder,
        example: &mut Example,
    ) -> Result<(), SetError> {
        let undecodable = |source| SetError::Undecodable { path: self.path(), source };
        example.excerpt = decoder.decode_part_into(encoded, wanted, &mut example.image).map_err(undecodable)?;
        Ok(())
    }

    /// Reads its bytes, for an image of at most so many pixels.
    ///
    /// # Errors
    /// As [`File::bytes`].
    pub fn read(&self, max_pixels: usize, bytes: &mut Vec<u8>) -> Result<(), SetError> {
        let path = self.path();
        read_file(&path, bytes_of(max_pixels), bytes)?;
        match bytes.len() as u64 {
            found if found == self.len => Ok(()),
            found => Err(SetError::Changed { path, len: self.len, found }),
        }
    }
}

impl fmt::Display for File<'_> {
    /// Its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}
