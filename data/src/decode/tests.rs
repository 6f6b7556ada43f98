//! Decoding held to what Pillow 12 makes of the same files, and to damage.

use proptest::prelude::*;

use super::*;
use crate::encode;

const CMYK: &[u8] = include_bytes!("../../tests/images/cmyk.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("../../tests/images/progressive.jpg");
const ROTATED: &[u8] = include_bytes!("../../tests/images/rotated.jpg");
const PALETTE: &[u8] = include_bytes!("../../tests/images/palette.png");
const SIXTEEN: &[u8] = include_bytes!("../../tests/images/sixteen.png");

fn decode(bytes: &[u8], channels: Channels) -> Image {
    Decoder::new(channels).decode(bytes).unwrap()
}

fn gradient(height: usize, width: usize, channels: usize) -> Image {
    let value = |i: usize| (i * 7 % 251) as u8;
    Image::from_pixels(height, width, channels, (0..height * width * channels).map(value).collect()).unwrap()
}

fn jpeg() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::jpeg(gradient(40, 50, 3).view(), 90, Chroma::Full, &mut bytes).unwrap();
    bytes
}

fn png() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::png(gradient(40, 50, 3).view(), &mut bytes).unwrap();
    bytes
}

fn close(a: &[u8], b: [u8; 3], by: u8) {
    assert!(a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= by), "{a:?}, expected {b:?}");
}

#[test]
fn progressive_jpeg_is_what_pillow_makes_of_it() {
    let image = decode(PROGRESSIVE, Channels::Rgb);
    assert_eq!((image.height, image.width, image.channels), (21, 33, 3));
    for ((y, x), expected) in [((0, 0), [0, 1, 0]), ((20, 32), [223, 219, 208]), ((10, 16), [114, 109, 105])] {
        close(image.pixel(y, x), expected, 4);
    }
    let grey = decode(PROGRESSIVE, Channels::Grey);
    assert_eq!(grey.channels, 1);
    assert!(grey.pixel(10, 16)[0].abs_diff(110) <= 3);
    assert_eq!(decode(PROGRESSIVE, Channels::Rgba).pixel(10, 16)[3], 255);
}

#[test]
fn cmyk_jpeg_is_converted() {
    for channels in [Channels::Rgb, Channels::Rgba] {
        let image = decode(CMYK, channels);
        close(&image.pixel(2, 2)[..3], [200, 40, 30], 4);
        close(&image.pixel(13, 13)[..3], [20, 60, 190], 4);
    }
    assert!(decode(CMYK, Channels::Grey).pixel(2, 2)[0].abs_diff(87) <= 4);
}

#[test]
fn exif_orientation_is_ignored() {
    let image = decode(ROTATED, Channels::Rgb);
    assert_eq!((image.height, image.width), (21, 33));
}

#[test]
fn a_palette_with_transparency_is_composited_on_white() {
    let image = decode(PALETTE, Channels::Rgb);
    assert_eq!(image.pixel(0, 0), [255, 0, 0]);
    assert_eq!(image.pixel(0, 1), [255, 255, 255]);
    assert_eq!(image.pixel(0, 2), [0, 0, 255]);
    assert_eq!(decode(PALETTE, Channels::Rgba).pixel(0, 1), [0, 255, 0, 0]);
}

#[test]
fn sixteen_bits_are_cut_to_eight() {
    assert_eq!(decode(SIXTEEN, Channels::Grey).pixels, [0x12, 0xFF]);
}

#[test]
fn the_name_does_not_matter_and_the_bytes_do() {
    assert_eq!(Format::sniff(PALETTE), Some(Format::Png));
    assert_eq!(Format::sniff(CMYK), Some(Format::Jpeg));
    assert_eq!(Format::sniff(b"P5 1 1 255\n0"), Some(Format::Pnm));
    assert_eq!(Format::sniff(b"RIFF\x10\0\0\0WEBPVP8 "), Some(Format::Webp));
    let error = Decoder::new(Channels::Rgb).decode(b"BM a text").unwrap_err();
    assert!(matches!(error, DecodeError::Unknown { len: 9, .. }));
    assert!(matches!(Decoder::new(Channels::Rgb).decode(b""), Err(DecodeError::Unknown { len: 0, .. })));
}

#[test]
fn png_and_pnm_lose_nothing() {
    for channels in [1, 3, 4] {
        let image = gradient(5, 9, channels);
        let mut bytes = Vec::new();
        encode::png(image.view(), &mut bytes).unwrap();
        assert_eq!(decode(&bytes, Channels::of_count(channels).unwrap()), image);
    }
    for channels in [1, 3] {
        let image = gradient(5, 9, channels);
        let mut bytes = Vec::new();
        encode::pnm(image.view(), &mut bytes).unwrap();
        assert_eq!(decode(&bytes, Channels::of_count(channels).unwrap()), image);
        assert_eq!(pnm::raw_view(&bytes).unwrap(), image.view());
    }
}

/// Files that Pillow 13 wrote of a gradient, and what it reads there at (2, 3) and (5, 7).
#[test]
fn the_rarer_formats_are_what_pillow_makes_of_them() {
    let file = |name: &str| std::fs::read(format!("{}/tests/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let exact = [[90, 80, 175], [210, 200, 65]];
    for (name, format, expected, by) in [
        ("lossless.webp", Format::Webp, exact, 0),
        ("two.webp", Format::Webp, exact, 0),
        ("lossy.webp", Format::Webp, [[90, 78, 178], [209, 193, 91]], 4),
        ("two.gif", Format::Gif, exact, 0),
        ("lzw.tif", Format::Tiff, exact, 0),
        ("two.tif", Format::Tiff, exact, 0),
        ("rgb.bmp", Format::Bmp, exact, 0),
        ("palette.bmp", Format::Bmp, [[105, 80, 165], [180, 200, 85]], 0),
    ] {
        let bytes = file(name);
        let info = Decoder::new(Channels::Rgb).info(&bytes).unwrap();
        assert_eq!((info.format, info.height, info.width), (format, 6, 8), "{name}");
        let image = decode(&bytes, Channels::Rgb);
        close(image.pixel(2, 3), expected[0], by);
        close(image.pixel(5, 7), expected[1], by);
        let trailed = [&bytes[..], b"and more"].concat();
        assert_eq!(decode(&trailed, Channels::Rgb), image, "{name}");
        // Of several pictures the first is whole where the last is cut.
        let cuts =
            if name.starts_with("two") { vec![20] } else { vec![bytes.len() / 2, bytes.len() - bytes.len() / 8 - 8] };
        for keep in cuts {
            let cut = Decoder::new(Channels::Rgb).decode(&bytes[..keep]);
            assert!(cut.is_err(), "{name}, cut after {keep} bytes");
        }
        let error = Decoder::new(Channels::Rgb).with_max_pixels(47).decode(&bytes).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge { height: 6, width: 8, max_pixels: 47 }, "{name}");
    }
    let transparent = file("transparent.webp");
    assert_eq!(decode(&transparent, Channels::Rgba).pixel(0, 0), [255, 0, 0, 0]);
    assert_eq!(decode(&transparent, Channels::Rgb).pixel(0, 0), [255, 255, 255]);
    assert_eq!(decode(&file("sixteen.tif"), Channels::Grey).pixel(2, 3), [90]);
}

/// Files that NumPy 2, tifffile and Pillow 13 wrote of `(7 y + 11 x + 40 band) % 256`, in five bands; those of 16 bits hold
/// 256 times that, and 77.
#[test]
fn bands_are_what_numpy_and_tifffile_wrote() {
    let (height, width, bands) = (6, 8, 5);
    let value = |y: usize, x: usize, band: usize| ((7 * y + 11 * x + 40 * band) % 256) as u8;
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..bands).map(move |band| value(y, x, band))));
    let expected = Image::from_pixels(height, width, bands, pixels.collect()).unwrap();
    let five = Channels::of_count(bands).unwrap();
    for name in [
        "bands.npy",
        "bands-first.npy",
        "bands-sixteen.npy",
        "bands-pixel.tif",
        "bands-planar.tif",
        "bands-sixteen.tif",
        "pages.tif",
    ] {
        let bytes = std::fs::read(format!("{}/tests/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(decode(&bytes, five), expected, "{name}");
        for keep in [bytes.len() / 2, 9] {
            assert!(Decoder::new(five).decode(&bytes[..keep]).is_err(), "{name}, cut after {keep} bytes");
        }
        let few = Decoder::new(Channels::Bands(7)).decode(&bytes).unwrap_err();
        assert_eq!(few, DecodeError::Bands { found: 5, wanted: 7 }, "{name}");
        let many = Decoder::new(Channels::Bands(2)).decode(&bytes).unwrap_err();
        assert!(matches!(many, DecodeError::Bands { wanted: 2, .. }), "{name}: {many}");
        let large = Decoder::new(five).with_max_pixels(47).decode(&bytes).unwrap_err();
        assert_eq!(large, DecodeError::TooLarge { height: 6, width: 8, max_pixels: 47 }, "{name}");
        if name.ends_with(".npy") {
            let info = Decoder::new(Channels::Rgb).info(&bytes).unwrap();
            assert_eq!((info.format, info.height, info.width, info.channels), (Format::Npy, 6, 8, five), "{name}");
            let colours = Decoder::new(Channels::Rgb).decode(&bytes).unwrap_err();
            assert_eq!(colours, DecodeError::Bands { found: 5, wanted: 3 }, "{name}");
        }
    }
    let mut again = Vec::new();
    encode::npy(expected.view(), &mut again).unwrap();
    assert_eq!(decode(&again, five), expected);
    let refused = Decoder::new(five).decode(&png_of(&gradient(5, 9, 3))).unwrap_err();
    assert_eq!(refused, DecodeError::NoBands { format: Format::Png, wanted: 5 });
}

fn png_of(image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::png(image.view(), &mut bytes).unwrap();
    bytes
}

#[test]
fn arrays_that_are_no_images_say_why() {
    let array = |header: &str, values: usize| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + values, 9);
        bytes
    };
    let header = |kind: &str, order: &str, shape: &str| {
        format!("{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}\n")
    };
    for (bytes, why) in [
        (array(&header("<f4", "False", "(2, 2, 12)"), 192), "uint8 or uint16"),
        (array(&header("|u1", "True", "(2, 2, 12)"), 48), "ascontiguousarray"),
        (array(&header("|u1", "False", "(48,)"), 48), "[H, W, C]"),
        (array(&header("|u1", "False", "(2, 0, 12)"), 0), "no pixels"),
        (array(&header("|u1", "False", "(4000000000, 4000000000, 12)"), 48), "more than the limit"),
        (array(&header("|u1", "False", "(2, 2, 12)"), 47), "cut"),
        (array(&"(".repeat(60_000), 48), "512 are allowed"),
        (array(&"(".repeat(500), 48), "cannot be decoded"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "512 are allowed"),
    ] {
        let error = Decoder::new(Channels::Bands(12)).decode(&bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// A frame inside of a WebP that is larger than the picture is held to the limit too.
#[test]
fn a_frame_that_is_larger_than_its_webp_is_refused() {
    let mut chunk = b"VP8 \x0A\0\0\0\0\0\0\x9D\x01\x2A\xFF\x3F\xFF\x3F".to_vec();
    let mut bytes = b"RIFF\x28\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x07\0\0\x07\0\0".to_vec();
    bytes.append(&mut chunk);
    let error = Decoder::new(Channels::Rgb).decode(&bytes).unwrap_err();
    assert_eq!(error, DecodeError::TooLarge { height: 0x3FFF, width: 0x3FFF, max_pixels: Decoder::MAX_PIXELS });
}

#[test]
fn buffers_are_reused() {
    let (large, small) = (jpeg(), png());
    let mut decoder = Decoder::new(Channels::Rgb);
    let mut image = Image::new(100, 100, 3);
    let before = image.pixels.as_ptr();
    for bytes in [&large, &small, &large] {
        decoder.decode_into(bytes, &mut image).unwrap();
        assert_eq!((image.height, image.width), (40, 50));
        assert_eq!(image.pixels.as_ptr(), before);
    }
}

#[test]
fn info_agrees_with_decoding() {
    let decoder = Decoder::new(Channels::Rgb);
    for (bytes, channels) in [(PROGRESSIVE, Channels::Rgb), (SIXTEEN, Channels::Grey), (PALETTE, Channels::Rgba)] {
        let info = decoder.info(bytes).unwrap();
        let image = decode(bytes, info.channels);
        assert_eq!((info.height, info.width, info.channels), (image.height, image.width, channels));
    }
}

#[test]
fn what_is_cut_is_an_error() {
    let mut raw = Vec::new();
    encode::pnm(gradient(40, 50, 3).view(), &mut raw).unwrap();
    for bytes in [&jpeg()[..], &png(), &raw, PROGRESSIVE, CMYK] {
        for keep in [bytes.len() / 2, bytes.len() * 9 / 10, bytes.len() - 20] {
            let error = Decoder::new(Channels::Rgb).decode(&bytes[..keep]).map(drop).unwrap_err();
            assert!(matches!(error, DecodeError::Truncated { len, .. } if len == keep), "{error:?}");
        }
    }
}

#[test]
fn a_bomb_is_refused_before_anything_is_allocated() {
    let mut decoder = Decoder::new(Channels::Rgb).with_max_pixels(100);
    let expected = DecodeError::TooLarge { height: 40, width: 50, max_pixels: 100 };
    for bytes in [jpeg(), png()] {
        assert_eq!(decoder.decode(&bytes).unwrap_err(), expected);
        assert_eq!(decoder.info(&bytes).unwrap_err(), expected);
    }
    let claims = b"P6 4294967295 4294967295 255\nabc";
    assert!(matches!(decoder.decode(claims), Err(DecodeError::TooLarge { .. })));
    // A PNG header that claims 2^31 - 1 squared, with a right checksum.
    let mut huge = png();
    huge[16..24].copy_from_slice(&[0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF]);
    let crc = crc32fast::hash(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(matches!(Decoder::new(Channels::Rgb).decode(&huge), Err(DecodeError::TooLarge { .. })));
}

#[test]
fn each_wrong_pnm_header_is_an_error() {
    for bytes in [
        &b"P6"[..],
        b"P6 ",
        b"P6 3",
        b"P6 3 3",
        b"P6 3 3 255",
        b"P6 x 3 255\n",
        b"P6 -1 3 255\n",
        b"P6 99999999999999999999 3 255\n",
        b"P6 1 1 65535\nabcdef",
        b"P6 1 1 255abc",
        b"P6 # no end",
    ] {
        let error = Decoder::new(Channels::Rgb).decode(bytes).unwrap_err();
        assert!(matches!(error, DecodeError::Pnm { .. }), "{error:?}");
    }
    let none = Decoder::new(Channels::Rgb).decode(b"P6 0 3 255\n").unwrap_err();
    assert!(matches!(none, DecodeError::NoPixels { .. }));
    let commented = decode(b"P5 # grey\n2 # wide\n1\n255\n\x01\x02", Channels::Grey);
    assert_eq!(commented.pixels, [1, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the bytes, decoding ends with an image of the size it says, or with an error that is not a panic.
    #[test]
    fn damage_never_panics(
        which in 0usize..13,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        keep in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let mut raw = Vec::new();
        encode::pnm(gradient(4, 5, 3).view(), &mut raw).unwrap();
        let mut bytes = [jpeg(), png(), raw, CMYK.to_vec(), PROGRESSIVE.to_vec(), PALETTE.to_vec()].get(which).cloned().unwrap_or_else(|| {
            let name = ["lossy.webp", "two.webp", "transparent.webp", "two.gif", "lzw.tif", "palette.bmp", "uneven.jpg"][which - 6];
            std::fs::read(format!("{}/tests/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
        });
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        for channels in [Channels::Grey, Channels::Rgb, Channels::Rgba] {
            let mut decoder = Decoder::new(channels).with_max_pixels(1 << 20);
            match decoder.decode(&bytes) {
                Ok(image) => prop_assert_eq!(image.pixels.len(), image.height * image.width * channels.count()),
                Err(DecodeError::Panicked { decoder }) => prop_assert!(false, "{} panicked", decoder),
                Err(_) => {}
            }
            let _ = decoder.info(&bytes);
        }
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0usize..7) {
        let magic: &[u8] = [&b"\xFF\xD8\xFF"[..], b"\x89PNG\r\n\x1a\n", b"P6", b"RIFF\xFF\0\0\0WEBP", b"GIF89a", b"II\x2A\0", b""][magic];
        let bytes = [magic, &bytes].concat();
        let result = Decoder::new(Channels::Rgb).with_max_pixels(1 << 20).decode(&bytes);
        let panicked = matches!(result, Err(DecodeError::Panicked { .. }));
        prop_assert!(!panicked);
    }
}
