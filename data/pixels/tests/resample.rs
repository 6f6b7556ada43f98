//! Resampling, against Pillow and against what must hold.

use convnext_pixels::{Filter, Image, Resample, ResampleError, Window};
use proptest::prelude::*;

/// An image in which every pixel tells where it is: (y, x, 7).
fn coordinates(height: usize, width: usize) -> Image {
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [y as u8, x as u8, 7])).collect();
    Image::from_pixels(height, width, 3, pixels).unwrap()
}

fn run(from: &Image, window: Window, size: (usize, usize)) -> Image {
    let mut to = Image::default();
    Resample::default().run(from.view(), window, size, Filter::Bicubic, &mut to).unwrap();
    to
}

#[test]
fn the_same_size_is_the_same_image() {
    let image = coordinates(20, 30);
    assert_eq!(run(&image, Window::whole(image.view()), (20, 30)), image);
}

#[test]
fn a_window_of_the_wanted_size_is_a_crop() {
    let image = coordinates(20, 30);
    let window = Window { top: 3, left: 5, height: 4, width: 6 };
    let crop = run(&image, window, (4, 6));
    assert_eq!(crop.pixel(0, 0), [3, 5, 7]);
    assert_eq!(crop.pixel(3, 5), [6, 10, 7]);
}

#[test]
fn shrinking_is_antialiased() {
    // Stripes of one pixel: a filter that is not widened would return black or white.
    let pixels = (0..64 * 64).map(|i| if i % 2 == 0 { 0 } else { 255 }).collect();
    let stripes = Image::from_pixels(64, 64, 1, pixels).unwrap();
    let small = run(&stripes, Window::whole(stripes.view()), (8, 8));
    assert!(small.pixels.iter().all(|v| (120..136).contains(v)), "{:?}", small.pixels);
}

#[test]
fn enlarging_keeps_a_ramp() {
    let image = coordinates(64, 64);
    let large = run(&image, Window::whole(image.view()), (128, 128));
    // Pixel 64 has its centre at 64.5 / 2 - 0.5 = 31.75.
    assert_eq!(large.pixel(64, 64), [32, 32, 7]);
}

/// Also of four, of which the last is no alpha that multiplies the others: all bands but it survive where it is 0.
#[test]
fn bands_are_resampled_as_grey_images_are() {
    let value =
        |band: usize, at: usize| if band == 3 { at as u8 % 2 } else { (at * (band + 3) + at / 9 * 7 * band) as u8 };
    for bands in [2, 4, 5] {
        let pixels = (0..8 * 9).flat_map(|at| (0..bands).map(move |band| value(band, at))).collect();
        let image = Image::from_pixels(8, 9, bands, pixels).unwrap();
        let window = Window { top: 1, left: 2, height: 6, width: 7 };
        let all = run(&image, window, (4, 11));
        for band in 0..bands {
            let grey = Image::from_pixels(8, 9, 1, (0..8 * 9).map(|at| value(band, at)).collect()).unwrap();
            let alone: Vec<u8> = all.pixels.iter().skip(band).step_by(bands).copied().collect();
            assert_eq!(run(&grey, window, (4, 11)).pixels, alone, "band {band} of {bands}");
        }
    }
}

#[test]
fn a_window_outside_is_an_error() {
    let image = coordinates(8, 8);
    let window = Window { top: 4, left: 0, height: 8, width: 8 };
    let mut to = Image::default();
    let result = Resample::default().run(image.view(), window, (4, 4), Filter::Bicubic, &mut to);
    assert_eq!(result, Err(ResampleError { height: 8, width: 8, channels: 3, bytes: 192 }));
}

/// Numbers from Pillow 12, `resize(..., BICUBIC)` and `crop((2, 1, 11, 9))` of `(3 x x + 17 y + 5 x y) % 256`, 12 wide and 10 high.
#[test]
fn is_what_pillow_does() {
    let value = |y: usize, x: usize| ((x * x * 3 + y * 17 + x * y * 5) % 256) as u8;
    let pixels = (0..10).flat_map(|y| (0..12).map(move |x| value(y, x))).collect();
    let image = Image::from_pixels(10, 12, 1, pixels).unwrap();
    let check = |to: Image, expected: &[u8]| {
        assert!(to.pixels.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{:?}", to.pixels);
    };
    let whole = Window::whole(image.view());
    let smaller = [
        7, 37, 105, 188, 110, 36, 80, 174, 150, 161, 66, 134, 187, 124, 165, 96, 179, 117, 148, 132, 134, 154, 103,
        123, 106, 165, 141, 151, 149, 95, 191, 126, 121, 117, 154,
    ];
    check(run(&image, whole, (7, 5)), &smaller);
    let first_row_larger = [0, 1, 6, 15, 27, 44, 64, 89, 117, 148, 184, 253, 147, 44, 106];
    check(run(&image, whole, (13, 15)), &first_row_larger);
    let window = Window { top: 1, left: 2, height: 8, width: 9 };
    let cropped = [68, 144, 182, 122, 133, 184, 120, 165, 180, 99, 141, 110, 154, 124, 157, 115];
    check(run(&image, window, (4, 4)), &cropped);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Also the guard for reads outside buffers: sizes at which steps of the filter meet pixels exactly.
    #[test]
    fn every_window_and_size_works(
        (height, from_height, top) in side_and_part(), (width, from_width, left) in side_and_part(),
        to in (1usize..64, 1usize..64), channels in prop::sample::select(vec![1usize, 3, 4, 6]),
    ) {
        let image = Image::from_pixels(height, width, channels, vec![200; height * width * channels]).unwrap();
        let window = Window { top, left, height: from_height, width: from_width };
        let small = run(&image, window, to);
        prop_assert!(small.pixels.iter().all(|&v| v.abs_diff(200) <= 1), "a flat image stays flat");
    }
}

fn side_and_part() -> impl Strategy<Value = (usize, usize, usize)> {
    (1usize..90)
        .prop_flat_map(|side| (Just(side), 1..=side))
        .prop_flat_map(|(side, part)| (Just(side), Just(part), 0..=side - part))
}
