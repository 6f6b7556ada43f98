//! Pictures of what a model sees and says. Pure functions from pixels to pixels.
//!
//! A picture is `[H, W, C]`, row-major, channels last. One channel is gray and three are RGB; of any other number
//! the first is shown as gray.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use image::{ExtendedColorType, ImageEncoder, ImageError, Rgb, RgbImage, codecs::png::PngEncoder, imageops};
use thiserror::Error;

/// Pixels between the pictures of a grid.
pub const GUTTER: u32 = 4;
/// What is drawn over a removed patch: mid-gray.
pub const REMOVED: Rgb<u8> = Rgb([128, 128, 128]);

/// A picture smaller than this is enlarged, by a whole factor, to at most this many pixels a side.
const LEGIBLE: u32 = 128;
/// Between pictures, and where nothing is shown: neither black nor white, so that both kinds of background show where a
/// picture ends.
const BACKGROUND: Rgb<u8> = Rgb([226, 228, 232]);

/// Why a picture could not be made.
#[derive(Debug, Error)]
pub enum PictureError {
    /// A buffer does not have as many values as its shape says.
    #[error("{what} has {found} values, its shape {shape} needs {expected}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many it needs.
        expected: usize,
        /// The shape, in words.
        shape: String,
    },
    /// A side is zero, or patches do not tile the picture.
    #[error("patches of {patch} x {patch} do not tile a picture of {height} x {width}")]
    Tiling {
        /// Side of a patch.
        patch: usize,
        /// Height of the picture.
        height: usize,
        /// Width of the picture.
        width: usize,
    },
    /// A grid's rows differ in size, or there are none, or it is larger than a picture can be.
    #[error("cannot lay out a grid: {0}")]
    Grid(&'static str),
    /// The encoder refused.
    #[error("could not encode PNG: {0}")]
    Encode(#[from] ImageError),
    /// The operating system refused.
    #[error("{}: could not be written: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Channels of what [`to_u8`] makes of `channels`: 3 stay 3, anything else becomes 1.
pub fn shown_channels(channels: usize) -> usize {
    if channels == 3 { 3 } else { 1 }
}

/// Undoes normalisation: `[H, W, C]` of `(pixel / 255 - mean) / std` to `[H, W, shown_channels(C)]` of 0 to 255.
///
/// Values out of range are clamped; NaN becomes 0.
///
/// # Panics
/// If `mean` or `std` has fewer than `shown_channels(channels)` values, or `channels` is 0.
pub fn to_u8(pixels: &[f32], mean: &[f32], std: &[f32], channels: usize) -> Vec<u8> {
    let shown = shown_channels(channels);
    let byte = |(value, (mean, std)): (&f32, (&f32, &f32))| ((value * std + mean) * 255.0).round() as u8;
    pixels
        .chunks_exact(channels)
        .flat_map(|pixel| pixel[..shown].iter().zip(mean[..shown].iter().zip(&std[..shown])).map(byte))
        .collect()
}

/// A picture of `[height, width, channels]` bytes.
///
/// # Errors
/// The buffer's length is not that of its shape.
pub fn picture(pixels: &[u8], height: usize, width: usize, channels: usize) -> Result<RgbImage, PictureError> {
    let shape = || format!("[{height}, {width}, {channels}]");
    expect_length("a picture", pixels.len(), height * width * channels, shape)?;
    let color = |pixel: &[u8]| if channels == 3 { [pixel[0], pixel[1], pixel[2]] } else { [pixel[0]; 3] };
    let bytes = pixels.chunks_exact(channels.max(1)).flat_map(color).collect();
    // The length was checked, so this can only fail for sides beyond u32.
    RgbImage::from_raw(height_or_width(width)?, height_or_width(height)?, bytes)
        .ok_or(PictureError::Grid("a side is too long"))
}

fn height_or_width(side: usize) -> Result<u32, PictureError> {
    u32::try_from(side).map_err(|_| PictureError::Grid("a side is too long"))
}

fn expect_length(
    what: &'static str,
    found: usize,
    expected: usize,
    shape: impl Fn() -> String,
) -> Result<(), PictureError> {
    if found == expected { Ok(()) } else { Err(PictureError::Length { what, found, expected, shape: shape() }) }
}

/// One image, its mask and what the autoencoder made of it.
#[derive(Debug, Clone, Copy)]
pub struct Reconstruction<'a> {
    /// `[H, W, C]`.
    pub original: &'a [u8],
    /// `[L]`: 0 = keep, 1 = remove; `L = (H / patch) * (W / patch)`, row-major.
    pub mask: &'a [u8],
    /// `[H, W, C]`: predictions of all patches, the visible ones included.
    pub prediction: &'a [u8],
    /// `[H, W, C]`: the same without what is known of the removed patches.
    pub blind: &'a [u8],
    /// `H`.
    pub height: usize,
    /// `W`.
    pub width: usize,
    /// `C`.
    pub channels: usize,
    /// Pixels a side of a patch.
    pub patch: usize,
}

impl Reconstruction<'_> {
    /// Original, masked, predicted, and original and prediction together.
    fn columns(&self) -> Result<[RgbImage; 4], PictureError> {
        self.check()?;
        let original = picture(self.original, self.height, self.width, self.channels)?;
        let predicted = picture(self.prediction, self.height, self.width, self.channels)?;
        let guessed = picture(self.blind, self.height, self.width, self.channels)?;
        let blank = RgbImage::from_pixel(original.width(), original.height(), BACKGROUND);
        let masked = self.by_patch(&original, |_, _| REMOVED);
        let filled = self.by_patch(&blank, |x, y| *guessed.get_pixel(x, y));
        let together = self.by_patch(&original, |x, y| *predicted.get_pixel(x, y));
        Ok([original, masked, filled, together])
    }

    fn check(&self) -> Result<(), PictureError> {
        let Self { height, width, patch, .. } = *self;
        if height == 0 || width == 0 || patch == 0 || height % patch != 0 || width % patch != 0 {
            return Err(PictureError::Tiling { patch, height, width });
        }
        let patches = (height / patch) * (width / patch);
        expect_length("a mask", self.mask.len(), patches, || format!("[{patches}]"))
    }

    /// `visible` where the mask keeps a patch, `removed` where it does not.
    fn by_patch(&self, visible: &RgbImage, removed: impl Fn(u32, u32) -> Rgb<u8>) -> RgbImage {
        RgbImage::from_fn(visible.width(), visible.height(), |x, y| {
            let patch = (y as usize / self.patch) * (self.width / self.patch) + x as usize / self.patch;
            if self.mask[patch] == 0 { *visible.get_pixel(x, y) } else { removed(x, y) }
        })
    }
}

/// A grid with one row an image: original | what the model saw | what it filled in, blind | prediction and original together.
///
/// Removed patches are [`REMOVED`] in the second column. The third has the prediction on them and nothing elsewhere: the
/// loss never looks at what is predicted for a visible patch, so that it means nothing. Small images are enlarged by a whole factor, so that every
/// pixel stays a square. Pictures are [`GUTTER`] pixels apart, with no border.
///
/// # Errors
/// No rows, rows of different size, or buffers that do not fit their shape.
pub fn reconstruction_grid(rows: &[Reconstruction<'_>]) -> Result<RgbImage, PictureError> {
    let rows = rows.iter().map(Reconstruction::columns).collect::<Result<Vec<_>, _>>()?;
    grid(&rows)
}

/// Pictures side by side, every row `COLUMNS` wide.
fn grid<const COLUMNS: usize>(rows: &[[RgbImage; COLUMNS]]) -> Result<RgbImage, PictureError> {
    let size = rows.first().and_then(|row| row.first()).map(RgbImage::dimensions);
    let (width, height) = size.ok_or(PictureError::Grid("there are no images"))?;
    if rows.iter().flatten().any(|cell| cell.dimensions() != (width, height)) {
        return Err(PictureError::Grid("the images differ in size"));
    }
    let factor = enlargement(width, height);
    let (step_x, step_y) = (width * factor + GUTTER, height * factor + GUTTER);
    let high = (rows.len() as u32).checked_mul(step_y).ok_or(PictureError::Grid("too many rows"))?;
    let mut sheet = RgbImage::from_pixel(COLUMNS as u32 * step_x - GUTTER, high - GUTTER, BACKGROUND);
    for (y, row) in (0..).step_by(step_y as usize).zip(rows) {
        for (x, cell) in (0..).step_by(step_x as usize).zip(row) {
            imageops::replace(&mut sheet, &enlarge(cell, factor), x, y);
        }
    }
    Ok(sheet)
}

/// How many times a picture is enlarged to be legible: at least 1.
fn enlargement(width: u32, height: u32) -> u32 {
    (LEGIBLE / width.max(height)).max(1)
}

fn enlarge(picture: &RgbImage, factor: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    imageops::resize(picture, width * factor, height * factor, imageops::FilterType::Nearest)
}

/// A picture as the bytes of a PNG file.
///
/// # Errors
/// The picture is empty.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    let (width, height) = picture.dimensions();
    PngEncoder::new(&mut bytes).write_image(picture, width, height, ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

/// Writes a picture as a PNG file, and the directory it lies in.
///
/// # Errors
/// The picture is empty, or the file cannot be written.
pub fn save(picture: &RgbImage, path: &Path) -> Result<(), PictureError> {
    let failed = |source| PictureError::Write { path: path.to_owned(), source };
    let bytes = png(picture)?;
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
    fs::write(path, bytes).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: [u8; 3] = [255, 0, 0];
    const BLUE: [u8; 3] = [0, 0, 255];

    /// 4 x 4 pixels in four patches of 2 x 2, of which the second and third are removed.
    fn red_predicted_blue<'a>(original: &'a [u8], prediction: &'a [u8]) -> Reconstruction<'a> {
        Reconstruction {
            original,
            mask: &[0, 1, 1, 0],
            prediction,
            blind: prediction,
            height: 4,
            width: 4,
            channels: original.len() / 16,
            patch: 2,
        }
    }

    #[test]
    fn normalisation_is_undone() {
        let (mean, std) = ([0.5, 0.4, 0.3], [0.25, 0.2, 0.1]);
        let bytes = [0, 128, 255, 7, 99, 201];
        let normalised: Vec<f32> =
            bytes.iter().enumerate().map(|(i, &b)| (f32::from(b) / 255.0 - mean[i % 3]) / std[i % 3]).collect();
        assert_eq!(to_u8(&normalised, &mean, &std, 3), bytes);
    }

    #[test]
    fn values_out_of_range_are_clamped() {
        assert_eq!(to_u8(&[-9.0, 9.0, f32::NAN], &[0.5], &[0.5], 1), [0, 255, 0]);
    }

    #[test]
    fn four_channels_show_the_first() {
        assert_eq!(to_u8(&[1.0, 0.5, 0.5, 0.5, 0.0, 1.0, 1.0, 1.0], &[0.0; 4], &[1.0; 4], 4), [255, 0]);
        let gray = picture(&[9, 1, 2, 3, 8, 1, 2, 3], 1, 2, 4).unwrap();
        assert_eq!(gray.as_raw(), &[9, 9, 9, 8, 8, 8]);
    }

    #[test]
    fn columns_are_original_masked_filled_together() {
        let (original, prediction) = (RED.repeat(16), BLUE.repeat(16));
        let grid = reconstruction_grid(&[red_predicted_blue(&original, &prediction); 2]).unwrap();
        let (side, step) = (128, 128 + GUTTER);
        assert_eq!(grid.dimensions(), (4 * side + 3 * GUTTER, 2 * side + GUTTER));
        // Corners of the patches: the first is kept, the one to its right was removed.
        let (kept, removed) = ([0, side / 2 - 1], [side / 2, side - 1]);
        for row in 0..2 {
            for (column, in_kept, in_removed) in
                [(0, RED, RED), (1, RED, REMOVED.0), (2, BACKGROUND.0, BLUE), (3, RED, BLUE)]
            {
                let pixel = |x: u32| grid.get_pixel(column * step + x, row * step + 1).0;
                assert_eq!(kept.map(pixel), [in_kept; 2], "column {column}");
                assert_eq!(removed.map(pixel), [in_removed; 2], "column {column}");
            }
        }
        assert_eq!(*grid.get_pixel(side, 0), BACKGROUND);
        assert_eq!(*grid.get_pixel(0, side), BACKGROUND);
    }

    #[test]
    fn gray_pictures_make_gray_grids() {
        let (original, prediction) = ([200; 16], [50; 16]);
        let grid = reconstruction_grid(&[red_predicted_blue(&original, &prediction)]).unwrap();
        assert_eq!(grid.get_pixel(0, 0).0, [200; 3]);
        assert_eq!(grid.get_pixel(2 * (128 + GUTTER) + 127, 0).0, [50; 3]);
    }

    #[test]
    fn large_pictures_keep_their_size() {
        assert_eq!([8, 28, 32, 100, 128, 224].map(|side| enlargement(side, side / 2)), [16, 4, 4, 1, 1, 1]);
    }

    #[test]
    fn shapes_are_checked() {
        let pixels = [0; 16];
        let good = red_predicted_blue(&pixels, &pixels);
        let fails = |row| reconstruction_grid(&[row]).unwrap_err();
        assert!(matches!(fails(Reconstruction { mask: &[0; 3], ..good }), PictureError::Length { expected: 4, .. }));
        assert!(matches!(fails(Reconstruction { patch: 3, ..good }), PictureError::Tiling { patch: 3, .. }));
        assert!(matches!(fails(Reconstruction { patch: 0, ..good }), PictureError::Tiling { .. }));
        assert!(matches!(fails(Reconstruction { channels: 3, ..good }), PictureError::Length { expected: 48, .. }));
        assert!(matches!(reconstruction_grid(&[]), Err(PictureError::Grid(_))));
    }

    #[test]
    fn png_round_trips_and_creates_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pictures/a.png");
        let blue = picture(&BLUE.repeat(6), 2, 3, 3).unwrap();
        save(&blue, &path).unwrap();
        assert_eq!(image::open(&path).unwrap().to_rgb8(), blue);
    }
}
