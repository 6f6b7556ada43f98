//! Parts of JPEGs held to the whole pictures, and restart markers to the pictures without.

use std::path::Path;

use convnext_data::augment::{Flip, RandomResizedCrop};
use convnext_data::decode::{Chroma, Format};
use convnext_data::encode::{self, with_restarts};
use convnext_data::image::{Jpeg, Window};
use convnext_data::{Augment, Chain, Channels, Decoder, Draw, Example, Geometry, Image, Scratch};
use proptest::prelude::*;

/// Waves and noise, so that no block is like another.
fn picture(height: usize, width: usize, channels: usize, seed: u64) -> Image {
    let value = |y: usize, x: usize, channel: usize| {
        let wave = ((x * (3 + channel)) as f64 / 17.0).sin() + ((y * (channel + 2)) as f64 / 23.0).cos();
        let noise =
            ((y * width + x) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.wrapping_mul(channel as u64 + 1);
        (128.0 + 50.0 * wave) as u8 ^ (noise >> 59) as u8
    };
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..channels).map(move |c| value(y, x, c))));
    Image::from_pixels(height, width, channels, pixels.collect()).unwrap()
}

fn encoded(image: &Image, quality: u8, chroma: Chroma) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::jpeg(image.view(), quality, chroma, &mut bytes).unwrap();
    bytes
}

/// With markers at `interval`, or none.
fn plain(image: &Image, quality: u8, chroma: (u8, u8), restart_interval: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    Jpeg { quality, chroma, restart_interval }.encode(image.view(), &mut bytes).unwrap();
    bytes
}

/// The excerpt of the whole picture must be what was decoded, around the window. Says which share of the pixels that was.
fn hold_to_whole(bytes: &[u8], window: Window, channels: Channels) -> f64 {
    let whole = Decoder::new(channels).decode(bytes).unwrap();
    let mut part = Image::default();
    let excerpt = Decoder::new(channels).decode_part_into(bytes, &|_, _| Some(window), &mut part).unwrap();
    let Some(excerpt) = excerpt else {
        assert!(part == whole);
        return 1.0;
    };
    assert_eq!((excerpt.height, excerpt.width), (whole.height, whole.width));
    assert!(excerpt.top <= window.top && window.top + window.height <= excerpt.top + part.height);
    assert!(excerpt.left <= window.left && window.left + window.width <= excerpt.left + part.width);
    for y in window.top..window.top + window.height {
        for x in window.left..window.left + window.width {
            let (found, wanted) = (part.pixel(y - excerpt.top, x - excerpt.left), whole.pixel(y, x));
            assert_eq!(found, wanted, "row {y}, column {x} of {window:?} in {excerpt:?}");
        }
    }
    (part.height * part.width) as f64 / (whole.height * whole.width) as f64
}

/// Those of which the encoder makes one scan.
const FACTORS: [(u8, u8); 4] = [(1, 1), (2, 1), (2, 2), (1, 2)];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_part_is_what_the_whole_picture_has_there(
        height in 1usize..300, width in 1usize..300, seed: u64, factors in 0usize..4, grey: bool, marked: bool,
        place in prop::array::uniform4(0.0f64..1.0), quality in 30u8..=100,
    ) {
        let image = picture(height, width, if grey { 1 } else { 3 }, seed);
        let plain = plain(&image, quality, FACTORS[factors], 0);
        let mut bytes = Vec::new();
        if !marked || !with_restarts(&plain, &mut bytes) {
            bytes = plain;
        }
        let [a, b, c, d] = place;
        let (top, left) = ((a * height as f64) as usize, (b * width as f64) as usize);
        let window = Window {
            top,
            left,
            height: 1 + (c * (height - top) as f64) as usize,
            width: 1 + (d * (width - left) as f64) as usize,
        };
        let window = Window { height: window.height.min(height - top), width: window.width.min(width - left), ..window };
        hold_to_whole(&bytes, window, Channels::Rgb);
        hold_to_whole(&bytes, window, Channels::Grey);
    }

    #[test]
    fn markers_change_no_pixel(
        height in 64usize..300, width in 64usize..300, seed: u64, factors in 0usize..4, grey: bool, quality in 5u8..=100,
        own in prop::option::of(1u16..100),
    ) {
        let image = picture(height, width, if grey { 1 } else { 3 }, seed);
        let (horizontal, vertical) = FACTORS[factors];
        let plain = plain(&image, quality, FACTORS[factors], own.unwrap_or(0));
        let mut marked = Vec::new();
        let done = with_restarts(&plain, &mut marked);
        let units = if grey { (8, 8) } else { (8 * usize::from(vertical), 8 * usize::from(horizontal)) };
        let (rows, columns) = (height.div_ceil(units.0), width.div_ceil(units.1));
        let fits = own.is_some_and(|own| columns.is_multiple_of(own.into()));
        prop_assert_eq!(done, rows * columns >= 64 && !fits, "{} x {} units", rows, columns);
        if done {
            let decode = |bytes: &[u8]| Decoder::new(Channels::Rgb).decode(bytes).unwrap();
            prop_assert!(decode(&plain) == decode(&marked));
            let mut again = Vec::new();
            prop_assert!(!with_restarts(&marked, &mut again), "marked twice");
        }
    }

    #[test]
    fn damage_is_left_as_it_is_or_decodes_alike(at in 0.0f64..1.0, value: u8, cut in prop::option::of(0.0f64..1.0)) {
        let mut bytes = plain(&picture(120, 130, 3, 1), 90, (2, 2), 0);
        let length = bytes.len();
        bytes[(at * length as f64) as usize] = value;
        if let Some(cut) = cut {
            bytes.truncate((cut * length as f64) as usize);
        }
        let mut marked = Vec::new();
        if with_restarts(&bytes, &mut marked) {
            let decode = |bytes: &[u8]| Decoder::new(Channels::Rgb).decode(bytes);
            let (was, is) = (decode(&bytes), decode(&marked));
            let said = format!("{:?} {:?}", was.as_ref().err(), is.as_ref().err());
            // A table that is damaged where nothing uses it is an error, and made anew.
            prop_assert!(was.is_err() || was == is, "{}, byte {} of {}", said, (at * length as f64) as usize, length);
        }
        // Whatever is cut out of it: an error or a picture, and no panic.
        let window = Window { top: 40, left: 50, height: 30, width: 20 };
        let _ = Decoder::new(Channels::Rgb).decode_part_into(&bytes, &|_, _| Some(window), &mut Image::default());
    }
}

#[test]
fn of_a_raw_picture_the_window_is_copied() {
    let mut bytes = Vec::new();
    encode::pnm(picture(40, 50, 3, 2).view(), &mut bytes).unwrap();
    let window = Window { top: 7, left: 11, height: 20, width: 30 };
    assert_eq!(hold_to_whole(&bytes, window, Channels::Rgb), 600.0 / 2000.0);
    assert_eq!(hold_to_whole(&bytes, window, Channels::Grey), 1.0);
    hold_to_whole(&bytes, Window { top: 39, left: 49, height: 1, width: 1 }, Channels::Rgb);
}

#[test]
fn a_small_window_decodes_little() {
    let bytes = encoded(&picture(375, 500, 3, 5), 90, Chroma::Quarter);
    let window = Window { top: 100, left: 130, height: 90, width: 110 };
    let share = hold_to_whole(&bytes, window, Channels::Rgb);
    assert!(share < 0.25, "{share:.2} of the picture was decoded for {:.2} of it", 90.0 * 110.0 / (375.0 * 500.0));
    // Without markers, nothing below it.
    let bytes = plain(&picture(375, 500, 3, 5), 90, (2, 2), 0);
    let share = hold_to_whole(&bytes, window, Channels::Rgb);
    assert!((0.5..0.6).contains(&share), "{share:.2}");
}

/// Files that libjpeg-turbo made, of every kind: those of one scan are cut, the others decoded whole.
#[test]
fn files_of_another_program_are_cut_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    let mut decoded = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let decoder = Decoder::new(Channels::Rgb);
        let Ok(info) = decoder.info(&bytes) else { continue };
        if info.format != Format::Jpeg || decoder.clone().decode(&bytes).is_err() {
            continue;
        }
        let window =
            Window { top: info.height / 4, left: info.width / 3, height: info.height / 2, width: info.width / 3 };
        hold_to_whole(&bytes, window, Channels::Rgb);
        decoded += 1;
    }
    assert!(decoded >= 10, "{decoded}");
}

#[test]
fn a_crop_of_an_excerpt_is_that_of_the_picture() {
    let bytes = encoded(&picture(375, 500, 3, 9), 90, Chroma::Quarter);
    let steps: Vec<Box<dyn Augment>> = vec![Box::new(RandomResizedCrop::new(64, 64)), Box::new(Flip::default())];
    let chain = Chain::new(steps, Geometry::decoded(3)).unwrap();
    let mut smaller = 0;
    for sample in 0..40 {
        let draw = Draw { seed: 3, epoch: 1, sample };
        let run = |wanted: bool| {
            let mut example = Example::default();
            let wanted = |height, width| chain.looks_at(height, width, &draw).filter(|_| wanted);
            let mut decoder = Decoder::new(Channels::Rgb);
            example.excerpt = decoder.decode_part_into(&bytes, &wanted, &mut example.image).unwrap();
            let pixels = example.image.pixels.len();
            chain.apply(&mut example, &draw, &mut Scratch::default()).unwrap();
            (example, pixels)
        };
        let ((part, fewer), (whole, all)) = (run(true), run(false));
        assert!(part == whole, "{draw:?}");
        smaller += usize::from(fewer < all);
    }
    assert!(smaller > 30, "{smaller} of 40 were cut");
}
