//! Pixels in memory: height x width x channels, 8 bits, channels last.

/// An image that owns its pixels: `[height, width, channels]`, row-major, one byte a value.
///
/// Meant to be reused: every operation that writes one keeps its allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Rows.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Values of a pixel: 1 (grey), 3 (RGB), 4 (RGBA), or another number of bands.
    pub channels: usize,
    /// `height * width * channels` bytes.
    pub pixels: Vec<u8>,
}

impl Image {
    /// A black image.
    pub fn new(height: usize, width: usize, channels: usize) -> Self {
        let mut image = Self::default();
        image.reset(height, width, channels);
        image
    }

    /// An image of these pixels, or `None` where their number is not `height * width * channels`.
    pub fn from_pixels(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Option<Self> {
        let size = height.checked_mul(width)?.checked_mul(channels)?;
        (pixels.len() == size).then_some(Self { height, width, channels, pixels })
    }

    /// Takes this shape, keeping the allocation. What the pixels are afterwards is not specified.
    pub fn reset(&mut self, height: usize, width: usize, channels: usize) {
        (self.height, self.width, self.channels) = (height, width, channels);
        self.pixels.resize(height * width * channels, 0);
    }

    /// The image, borrowed.
    pub fn view(&self) -> ImageView<'_> {
        ImageView { height: self.height, width: self.width, channels: self.channels, pixels: &self.pixels }
    }

    /// Takes shape and pixels of `other`, keeping the allocation.
    pub fn copy_from(&mut self, other: ImageView<'_>) {
        (self.height, self.width, self.channels) = (other.height, other.width, other.channels);
        self.pixels.clear();
        self.pixels.extend_from_slice(other.pixels);
    }

    /// The channels of the pixel at `(y, x)`.
    ///
    /// # Panics
    /// Outside the image.
    pub fn pixel(&self, y: usize, x: usize) -> &[u8] {
        let at = (y * self.width + x) * self.channels;
        &self.pixels[at..at + self.channels]
    }
}

/// An image that borrows its pixels, perhaps straight from a mapped shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageView<'a> {
    /// Rows.
    pub height: usize,
    /// Pixels in a row.
    pub width: usize,
    /// Values of a pixel: 1 (grey), 3 (RGB), 4 (RGBA), or another number of bands.
    pub channels: usize,
    /// `height * width * channels` bytes.
    pub pixels: &'a [u8],
}

/// That an image is a part of a picture, and which: its first pixel is the one at (`top`, `left`) of a picture of `height` x
/// `width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Rows of the picture above the image.
    pub top: usize,
    /// Columns of the picture left of the image.
    pub left: usize,
    /// Rows of the picture.
    pub height: usize,
    /// Columns of the picture.
    pub width: usize,
}
