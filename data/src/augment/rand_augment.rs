//! RandAugment: a few random operations of about the same strength.

use super::normalise::IMAGENET;
use super::{Augment, AugmentError, Geometry, Scratch, setting};
use crate::decode::luma;
use crate::image::Image;
use crate::random::{Draw, Purpose};
use crate::target::Example;

const NAME: &str = "RandAugment";
/// Magnitude at which an operation is strongest.
const STRONGEST: f64 = 10.0;
/// What geometry pulls in from outside: ImageNet's mean.
const OUTSIDE: [u8; 3] = [of_bytes(IMAGENET[0].0), of_bytes(IMAGENET[1].0), of_bytes(IMAGENET[2].0)];

const fn of_bytes(mean: f64) -> u8 {
    (255.0 * mean + 0.5) as u8
}

/// RandAugment (Cubuk et al., 2019) with the operations and the "increasing" strengths of the official fine-tuning
/// recipe, `rand-m9-mstd0.5-inc1`: each of `operations` picks one of fifteen and applies it with probability 0.5, at a
/// strength drawn from a normal distribution. Geometry is bilinear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandAugment {
    /// Operations an image.
    pub operations: usize,
    /// Mean strength, 0 to 10.
    pub magnitude: f64,
    /// Standard deviation of the strength.
    pub deviation: f64,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self { operations: 2, magnitude: 9.0, deviation: 0.5 }
    }
}

impl Augment for RandAugment {
    fn output(&self, input: Geometry) -> Result<Geometry, AugmentError> {
        setting(self.operations <= 15, NAME, "operations", self.operations, "0 to 15")?;
        setting((0.0..=STRONGEST).contains(&self.magnitude), NAME, "magnitude", self.magnitude, "0 to 10")?;
        setting(self.deviation >= 0.0 && self.deviation.is_finite(), NAME, "deviation", self.deviation, "0 or more")?;
        if input.target.is_spatial() {
            return Err(AugmentError::Target { augmentation: NAME, target: input.target });
        }
        match input.channels {
            1 | 3 => Ok(input),
            found => Err(AugmentError::Channels { augmentation: NAME, wanted: "1 or 3", found }),
        }
    }

    fn apply(&self, example: &mut Example, draw: &Draw, scratch: &mut Scratch) -> Result<(), AugmentError> {
        let mut random = draw.random(Purpose::Augment);
        for _ in 0..self.operations {
            // All are drawn whether used or not, so that one choice does not move the next.
            let operation = Operation::ALL[random.range(Operation::ALL.len() as u64) as usize];
            let applied = random.chance(0.5);
            let strength = self.magnitude + self.deviation * f64::from(random.normal());
            let strength = strength.clamp(0.0, STRONGEST) / STRONGEST;
            let signed = if random.chance(0.5) { strength } else { -strength };
            if applied {
                operation.apply(signed, &mut example.image, scratch);
            }
        }
        Ok(())
    }
}

/// One operation of [`RandAugment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Stretches each channel to 0..=255.
    AutoContrast,
    /// Flattens the histogram of each channel.
    Equalise,
    /// 255 - value.
    Invert,
    /// By up to 30 degrees either way.
    Rotate,
    /// Keeps 4 bits down to none.
    Posterise,
    /// Inverts values above a threshold: 256 down to 0.
    Solarise,
    /// Adds up to 110 to values below 128.
    SolariseAdd,
    /// Towards grey, or away from it.
    Colour,
    /// Towards the mean, or away from it.
    Contrast,
    /// Towards black, or away from it.
    Brightness,
    /// Towards a blurred image, or away from it.
    Sharpness,
    /// Slants rows by up to 0.3.
    ShearX,
    /// Slants columns by up to 0.3.
    ShearY,
    /// Moves sideways by up to 0.45 of the width.
    TranslateX,
    /// Moves up or down by up to 0.45 of the height.
    TranslateY,
}

impl Operation {
    /// All fifteen, in the order in which random numbers name them.
    pub const ALL: [Self; 15] = [
        Self::AutoContrast,
        Self::Equalise,
        Self::Invert,
        Self::Rotate,
        Self::Posterise,
        Self::Solarise,
        Self::SolariseAdd,
        Self::Colour,
        Self::Contrast,
        Self::Brightness,
        Self::Sharpness,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
    ];

    /// Applies it at `signed` strength, -1 to 1; the sign matters only where there are two directions. `image` has 1 or
    /// 3 channels.
    pub fn apply(self, signed: f64, image: &mut Image, scratch: &mut Scratch) {
        let strength = signed.abs();
        let factor = (1.0 + 0.9 * signed) as f32;
        let (height, width) = (image.height as f64, image.width as f64);
        match self {
            Self::AutoContrast => per_channel(image, stretched),
            Self::Equalise => per_channel(image, equalised),
            Self::Invert => by_value(image, |v| 255 - v),
            Self::Posterise => {
                let bits = 4 - (strength * 4.0) as u32;
                by_value(image, |v| v & !(0xFF_u32 >> bits) as u8);
            }
            Self::Solarise => {
                let threshold = 256 - (strength * 256.0) as u32;
                by_value(image, |v| if u32::from(v) < threshold { v } else { 255 - v });
            }
            Self::SolariseAdd => {
                let add = (strength * 110.0) as u8;
                by_value(image, |v| if v < 128 { v.saturating_add(add) } else { v });
            }
            Self::Colour => colour(image, factor),
            Self::Contrast => contrast(image, factor),
            Self::Brightness => by_value(image, |v| blend(0, v, factor)),
            Self::Sharpness => sharpness(image, factor, scratch),
            Self::Rotate => {
                let (sin, cos) = (30.0 * signed).to_radians().sin_cos();
                affine(image, [[cos, sin, 0.0], [-sin, cos, 0.0]], scratch);
            }
            Self::ShearX => affine(image, [[1.0, 0.3 * signed, 0.0], [0.0, 1.0, 0.0]], scratch),
            Self::ShearY => affine(image, [[1.0, 0.0, 0.0], [0.3 * signed, 1.0, 0.0]], scratch),
            Self::TranslateX => affine(image, [[1.0, 0.0, 0.45 * signed * width], [0.0, 1.0, 0.0]], scratch),
            Self::TranslateY => affine(image, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.45 * signed * height]], scratch),
        }
    }
}

/// `from` + factor * (`value` - `from`), cut to a byte: beyond 1 it moves away from `from`.
fn blend(from: u8, value: u8, factor: f32) -> u8 {
    let (from, value) = (f32::from(from), f32::from(value));
    (from + factor * (value - from)).round() as u8 // `as` saturates
}

fn by_value(image: &mut Image, to: impl Fn(u8) -> u8) {
    let table: [u8; 256] = std::array::from_fn(|value| to(value as u8));
    image.pixels.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

/// Maps each channel by a table made of its histogram.
fn per_channel(image: &mut Image, table: impl Fn(&[u32; 256]) -> [u8; 256]) {
    let channels = image.channels;
    for c in 0..channels {
        let mut histogram = [0; 256];
        image.pixels.iter().skip(c).step_by(channels).for_each(|&v| histogram[usize::from(v)] += 1);
        let table = table(&histogram);
        image.pixels.iter_mut().skip(c).step_by(channels).for_each(|v| *v = table[usize::from(*v)]);
    }
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|value| value as u8)
}

fn stretched(histogram: &[u32; 256]) -> [u8; 256] {
    let low = histogram.iter().position(|&n| n > 0);
    let high = histogram.iter().rposition(|&n| n > 0);
    let (Some(low), Some(high)) = (low, high) else { return identity() };
    if low == high {
        return identity();
    }
    let scale = 255.0 / (high - low) as f32;
    std::array::from_fn(|value| ((value as f32 - low as f32) * scale) as u8)
}

fn equalised(histogram: &[u32; 256]) -> [u8; 256] {
    let total: u32 = histogram.iter().sum();
    let last = histogram.iter().rev().find(|&&n| n > 0).copied().unwrap_or(0);
    let step = (total - last) / 255;
    if step == 0 {
        return identity();
    }
    let mut sum = step / 2;
    std::array::from_fn(|value| {
        let mapped = (sum / step).min(255) as u8;
        sum += histogram[value];
        mapped
    })
}

fn colour(image: &mut Image, factor: f32) {
    let (pixels, _) = image.pixels.as_chunks_mut::<3>();
    if image.channels != 3 {
        return; // grey has no colour
    }
    for pixel in pixels {
        let grey = luma(*pixel);
        *pixel = pixel.map(|v| blend(grey, v, factor));
    }
}

fn contrast(image: &mut Image, factor: f32) {
    let (rgb, _) = image.pixels.as_chunks::<3>();
    let sum: u64 = match image.channels {
        3 => rgb.iter().map(|pixel| u64::from(luma(*pixel))).sum(),
        _ => image.pixels.iter().map(|&v| u64::from(v)).sum(),
    };
    let count = (image.height * image.width).max(1) as u64;
    let mean = ((sum + count / 2) / count) as u8;
    by_value(image, |v| blend(mean, v, factor));
}

/// Blends with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the border stays.
fn sharpness(image: &mut Image, factor: f32, scratch: &mut Scratch) {
    scratch.image.copy_from(image.view());
    let from = &scratch.image;
    let (c, row) = (from.channels, from.width * from.channels);
    for y in 1..from.height.saturating_sub(1) {
        for x in c..row.saturating_sub(c) {
            let at = y * row + x;
            let of_row = |at: usize| [at - c, at, at + c].map(|i| u32::from(from.pixels[i])).iter().sum::<u32>();
            let sum = of_row(at - row) + of_row(at) + of_row(at + row) + 4 * u32::from(from.pixels[at]);
            image.pixels[at] = blend(((sum + 6) / 13) as u8, from.pixels[at], factor);
        }
    }
}

/// Pixel (x, y), measured from the centre, is taken from `matrix` * (x, y, 1), bilinear.
fn affine(image: &mut Image, [mx, my]: [[f64; 3]; 2], scratch: &mut Scratch) {
    let (height, width, channels) = (image.height, image.width, image.channels);
    let (cy, cx) = ((height as f64 - 1.0) / 2.0, (width as f64 - 1.0) / 2.0);
    let to = &mut scratch.image;
    to.reset(height, width, channels);
    for (y, row) in to.pixels.chunks_exact_mut((width * channels).max(1)).enumerate() {
        let dy = y as f64 - cy;
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let dx = x as f64 - cx;
            bilinear(image, my[0] * dx + my[1] * dy + my[2] + cy, mx[0] * dx + mx[1] * dy + mx[2] + cx, pixel);
        }
    }
    std::mem::swap(image, to);
}

fn bilinear(image: &Image, y: f64, x: f64, to: &mut [u8]) {
    let (y0, x0) = (y.floor(), x.floor());
    let (fy, fx) = ((y - y0) as f32, (x - x0) as f32);
    let (y0, x0) = (y0 as isize, x0 as isize);
    let inside = |y: isize, x: isize| (0..image.height as isize).contains(&y) && (0..image.width as isize).contains(&x);
    let outside = if image.channels == 1 { [OUTSIDE[1]; 3] } else { OUTSIDE };
    let at = |y: isize, x: isize, c: usize| match inside(y, x) {
        true => f32::from(image.pixels[(y as usize * image.width + x as usize) * image.channels + c]),
        false => f32::from(outside[c]),
    };
    for (c, value) in to.iter_mut().enumerate() {
        let top = at(y0, x0, c) * (1.0 - fx) + at(y0, x0 + 1, c) * fx;
        let bottom = at(y0 + 1, x0, c) * (1.0 - fx) + at(y0 + 1, x0 + 1, c) * fx;
        *value = (top * (1.0 - fy) + bottom * fy).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::testing::{self, coordinates, draw};

    fn applied(operation: Operation, signed: f64, mut image: Image) -> Image {
        operation.apply(signed, &mut image, &mut Scratch::default());
        image
    }

    fn noise(height: usize, width: usize) -> Image {
        let mut random = draw(0).random(Purpose::Augment);
        let pixels = (0..height * width * 3).map(|_| random.next_u32() as u8).collect();
        Image::from_pixels(height, width, 3, pixels).unwrap()
    }

    #[test]
    fn strength_zero_changes_nothing() {
        use Operation::*;
        for operation in [
            Rotate,
            Solarise,
            SolariseAdd,
            Colour,
            Contrast,
            Brightness,
            Sharpness,
            ShearX,
            ShearY,
            TranslateX,
            TranslateY,
        ] {
            let image = noise(9, 12);
            assert_eq!(applied(operation, 0.0, image.clone()), image, "{operation:?}");
        }
    }

    #[test]
    fn tables_do_what_they_say() {
        let ramp = Image::from_pixels(1, 4, 1, vec![50, 100, 150, 200]).unwrap();
        assert_eq!(applied(Operation::AutoContrast, 1.0, ramp.clone()).pixels, [0, 85, 170, 255]);
        assert_eq!(applied(Operation::Invert, 1.0, ramp.clone()).pixels, [205, 155, 105, 55]);
        assert_eq!(applied(Operation::Posterise, 0.5, ramp.clone()).pixels, [0, 64, 128, 192]);
        assert_eq!(applied(Operation::Posterise, 1.0, ramp.clone()).pixels, [0; 4]);
        assert_eq!(applied(Operation::Solarise, 0.5, ramp.clone()).pixels, [50, 100, 105, 55]);
        assert_eq!(applied(Operation::SolariseAdd, 0.5, ramp.clone()).pixels, [105, 155, 150, 200]);
        assert_eq!(applied(Operation::Brightness, -1.0, ramp.clone()).pixels, [5, 10, 15, 20]);
        assert_eq!(applied(Operation::Contrast, 1.0, ramp).pixels, [0, 78, 173, 255]);
    }

    #[test]
    fn equalising_spreads_the_values() {
        let pixels = (0..4096).map(|i| 100 + (i % 16) as u8).collect();
        let flat = applied(Operation::Equalise, 1.0, Image::from_pixels(64, 64, 1, pixels).unwrap());
        assert_eq!(flat.pixels.iter().min(), Some(&0));
        assert!(*flat.pixels.iter().max().unwrap() >= 250);
    }

    #[test]
    fn translating_moves_and_fills() {
        let moved = applied(Operation::TranslateX, 1.0, coordinates(4, 20));
        assert_eq!(moved.pixel(2, 0), [2, 9, 7]);
        assert_eq!(moved.pixel(2, 19), OUTSIDE);
    }

    #[test]
    fn rotating_keeps_the_centre() {
        let image = coordinates(21, 21);
        assert_eq!(applied(Operation::Rotate, 1.0, image.clone()).pixel(10, 10), image.pixel(10, 10));
    }

    #[test]
    fn colour_goes_towards_grey() {
        let red = Image::from_pixels(1, 1, 3, vec![255, 0, 0]).unwrap();
        let pale = applied(Operation::Colour, -1.0, red);
        assert_eq!(pale.pixels, [94, 68, 68]);
    }

    #[test]
    fn every_operation_takes_every_size() {
        for operation in Operation::ALL {
            for (height, width, channels) in [(1, 1, 1), (1, 1, 3), (2, 9, 3), (1, 5, 1), (32, 32, 3)] {
                for signed in [-1.0, -0.3, 0.7, 1.0] {
                    let image = applied(operation, signed, Image::new(height, width, channels));
                    assert_eq!(image.pixels.len(), height * width * channels);
                }
            }
        }
    }

    #[test]
    fn about_a_quarter_are_left_alone() {
        let unchanged = |sample| testing::applied(&RandAugment::default(), noise(8, 8), sample) == noise(8, 8);
        let count = (0..1000).filter(|&sample| unchanged(sample)).count();
        // Neither of two operations with probability 1/4; noise is a fixed point of two operations besides.
        assert!((200..420).contains(&count), "{count}");
    }

    #[test]
    fn four_channels_are_refused() {
        let refused = RandAugment::default().output(Geometry::decoded(4));
        assert!(matches!(refused, Err(AugmentError::Channels { found: 4, .. })));
    }

    /// Numbers from Pillow 12's `ImageEnhance` for `(3 x x + 17 y + 5 x y) % 256`, 12 wide and 10 high.
    #[test]
    fn enhancing_is_what_pillow_does() {
        let value = |y: usize, x: usize| ((x * x * 3 + y * 17 + x * y * 5) % 256) as u8;
        let pixels = (0..10).flat_map(|y| (0..12).map(move |x| value(y, x))).collect();
        let image = Image::from_pixels(10, 12, 1, pixels).unwrap();
        let check = |found: &[u8], expected: [u8; 12]| {
            assert!(found.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 2), "{found:?}");
        };
        let sharp = applied(Operation::Sharpness, 1.0, image.clone());
        check(&sharp.pixels[12..24], [17, 24, 38, 58, 84, 116, 154, 215, 255, 0, 92, 179]);
        let flat = applied(Operation::Contrast, -1.0, image);
        check(&flat.pixels[..12], [113, 113, 114, 116, 118, 120, 124, 128, 132, 137, 117, 124]);
    }
}
