//! Between grey, grey with opacity, RGB and RGBA.

use super::Channels;
use crate::image::Image;

/// Writes `from`, pixels of `channels` (1 grey, 2 grey + opacity, 3 RGB, 4 RGBA), into `image` as `wanted`.
pub(super) fn convert(from: &[u8], channels: usize, wanted: Channels, height: usize, width: usize, image: &mut Image) {
    image.reset(height, width, wanted.count());
    let to = &mut image.pixels[..];
    match (channels, wanted) {
        (1, Channels::Grey) | (3, Channels::Rgb) => to.copy_from_slice(from),
        (1, Channels::Rgb) => map(from, to, |[v]: [u8; 1]| [v, v, v]),
        (1, Channels::Rgba) => map(from, to, |[v]: [u8; 1]| [v, v, v, 255]),
        (2, Channels::Grey) => map(from, to, |[v, a]: [u8; 2]| [on_white(v, a)]),
        (2, Channels::Rgb) => map(from, to, |[v, a]: [u8; 2]| [on_white(v, a); 3]),
        (2, Channels::Rgba) => map(from, to, |[v, a]: [u8; 2]| [v, v, v, a]),
        (3, Channels::Grey) => map(from, to, |rgb: [u8; 3]| [luma(rgb)]),
        (3, Channels::Rgba) => map(from, to, |[r, g, b]: [u8; 3]| [r, g, b, 255]),
        (_, Channels::Grey) => map(from, to, |[r, g, b, a]: [u8; 4]| [luma([r, g, b].map(|v| on_white(v, a)))]),
        (_, Channels::Rgb) => map(from, to, |[r, g, b, a]: [u8; 4]| [r, g, b].map(|v| on_white(v, a))),
        // Bands are decoded by a way of their own.
        (_, Channels::Rgba | Channels::Bands(_)) => to.copy_from_slice(from),
    }
}

fn map<const FROM: usize, const TO: usize>(from: &[u8], to: &mut [u8], pixel: impl Fn([u8; FROM]) -> [u8; TO]) {
    let (from, _) = from.as_chunks::<FROM>();
    let (to, _) = to.as_chunks_mut::<TO>();
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = pixel(from));
}

/// `value` with opacity `alpha` over white, rounded.
fn on_white(value: u8, alpha: u8) -> u8 {
    let sum = u32::from(value) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
    ((sum + 127) / 255) as u8
}

/// Luma of ITU-R BT.601, in 16-bit fixed point, rounded: what Pillow's `convert("L")` computes.
pub(crate) fn luma([r, g, b]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b);
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(from: &[u8], wanted: Channels) -> Vec<u8> {
        let mut image = Image::default();
        convert(from, from.len(), wanted, 1, 1, &mut image);
        image.pixels
    }

    #[test]
    fn every_pair() {
        assert_eq!(one(&[7], Channels::Grey), [7]);
        assert_eq!(one(&[7], Channels::Rgb), [7, 7, 7]);
        assert_eq!(one(&[7], Channels::Rgba), [7, 7, 7, 255]);
        assert_eq!(one(&[7, 0], Channels::Grey), [255]);
        assert_eq!(one(&[7, 255], Channels::Rgb), [7, 7, 7]);
        assert_eq!(one(&[7, 9], Channels::Rgba), [7, 7, 7, 9]);
        assert_eq!(one(&[255, 0, 0], Channels::Grey), [76]);
        assert_eq!(one(&[1, 2, 3], Channels::Rgb), [1, 2, 3]);
        assert_eq!(one(&[1, 2, 3], Channels::Rgba), [1, 2, 3, 255]);
        assert_eq!(one(&[0, 0, 0, 128], Channels::Grey), [127]);
        assert_eq!(one(&[0, 255, 100, 128], Channels::Rgb), [127, 255, 177]);
        assert_eq!(one(&[1, 2, 3, 4], Channels::Rgba), [1, 2, 3, 4]);
    }

    #[test]
    fn white_and_black_keep_their_luma() {
        assert_eq!(luma([255; 3]), 255);
        assert_eq!(luma([0; 3]), 0);
    }
}
