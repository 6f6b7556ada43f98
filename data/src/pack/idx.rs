//! IDX: the format of MNIST and its family. Big-endian header, then bytes; often gzipped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use convnext_files::FileError;
use flate2::bufread::MultiGzDecoder;

use super::{IdxFault, PackError, Source};

const IMAGES: u32 = 0x0000_0803;
const LABELS: u32 = 0x0000_0801;
/// IDX files are read whole: this much and no more.
const MOST: u64 = 4 << 30;

/// The ten classes of Fashion-MNIST.
pub const FASHION_MNIST_CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

/// Grey images and their labels, from two IDX files, gzipped or not.
#[derive(Clone, Debug)]
pub struct IdxSource {
    path: PathBuf,
    height: u32,
    width: u32,
    pixels: Vec<u8>,
    labels: Vec<u8>,
    class_names: Option<Vec<String>>,
}

impl IdxSource {
    /// Reads both files whole.
    ///
    /// # Errors
    /// A header lies, a file is cut or too long, or images and labels differ in number.
    pub fn open(images: &Path, labels: &Path) -> Result<Self, PackError> {
        let ([count, height, width], pixels) = read(images, "images", IMAGES, None)?;
        let (_, labels) = read(labels, "labels", LABELS, Some(count))?;
        Ok(Self { path: images.to_owned(), height, width, pixels, labels, class_names: None })
    }

    /// With names for the classes, class 0 first.
    pub fn with_class_names(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { class_names: Some(names.into_iter().map(Into::into).collect()), ..self }
    }

    fn size(&self) -> usize {
        self.height as usize * self.width as usize
    }
}

impl Source for IdxSource {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some(u32::from(self.labels[index]))
    }

    fn load(&self, index: usize, _: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        bytes.clear();
        bytes.extend_from_slice(format!("P5\n{} {}\n255\n", self.width, self.height).as_bytes());
        bytes.extend_from_slice(&self.pixels[index * self.size()..(index + 1) * self.size()]);
        Ok(())
    }

    fn origin(&self, index: usize) -> PathBuf {
        self.path.join(index.to_string())
    }

    fn class_names(&self) -> Option<&[String]> {
        self.class_names.as_deref()
    }
}

/// Count, height, width (1 and 1 for labels), and the bytes after the header; of labels no more than there are `images`.
fn read(path: &Path, what: &'static str, magic: u32, images: Option<u32>) -> Result<([u32; 3], Vec<u8>), PackError> {
    let at_fault = |fault| PackError::Idx { path: path.to_owned(), fault };
    let mut file = unzipped(path)?;
    let mut header = vec![0; if magic == IMAGES { 16 } else { 8 }];
    let taken = fill(&mut file, &mut header).map_err(FileError::on("read", path))?;
    if taken < header.len() {
        let (promised, found) = (header.len() as u64, taken as u64);
        return Err(at_fault(IdxFault::Truncated { promised, found }));
    }
    let field = |i: usize| match header.get(4 * i..4 * i + 4) {
        Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
        _ => 1,
    };
    if field(0) != magic {
        return Err(at_fault(IdxFault::Magic { wanted: what, found: field(0), expected: magic }));
    }
    let shape @ [count, height, width] = [field(1), field(2), field(3)];
    if height == 0 || width == 0 {
        return Err(at_fault(IdxFault::NoPixels { height, width }));
    }
    if let Some(images) = images.filter(|&images| images != count) {
        return Err(at_fault(IdxFault::Count { images: images as usize, labels: count as usize }));
    }
    let promised = u128::from(count) * u128::from(height) * u128::from(width);
    let promised = u64::try_from(promised).ok().filter(|&bytes| bytes <= MOST);
    let promised = promised.ok_or_else(|| at_fault(IdxFault::TooLarge { count, height, width }))?;

    // One byte more than promised tells a file that goes on; memory grows with what is there, not with what is promised.
    let mut bytes = Vec::new();
    file.take(promised + 1).read_to_end(&mut bytes).map_err(FileError::on("read", path))?;
    match bytes.len() as u64 {
        found if found < promised => Err(at_fault(IdxFault::Truncated { promised, found })),
        found if found > promised => Err(at_fault(IdxFault::Trailing { promised })),
        _ => Ok((shape, bytes)),
    }
}

fn unzipped(path: &Path) -> Result<Box<dyn Read>, PackError> {
    if path.is_dir() {
        return Err(PackError::NoFile { path: path.to_owned(), wanted: "an IDX file" });
    }
    let mut file = BufReader::new(File::open(path).map_err(FileError::on("open", path))?);
    let first = file.fill_buf().map_err(FileError::on("read", path))?;
    if first.starts_with(&[0x1F, 0x8B]) {
        return Ok(Box::new(MultiGzDecoder::new(file)));
    }
    Ok(Box::new(file))
}

fn fill(from: &mut impl Read, to: &mut [u8]) -> std::io::Result<usize> {
    let mut taken = 0;
    while taken < to.len() {
        match from.read(&mut to[taken..])? {
            0 => break,
            n => taken += n,
        }
    }
    Ok(taken)
}
