//! Images and their buffers.

use convnext_pixels::Image;

#[test]
fn from_pixels_checks_the_number() {
    assert!(Image::from_pixels(2, 3, 3, vec![0; 18]).is_some());
    assert!(Image::from_pixels(2, 3, 3, vec![0; 17]).is_none());
    assert!(Image::from_pixels(usize::MAX, 3, 3, vec![]).is_none());
}

#[test]
fn reset_keeps_the_allocation() {
    let mut image = Image::new(8, 8, 3);
    let before = image.pixels.as_ptr();
    image.reset(4, 4, 1);
    image.reset(8, 8, 3);
    assert_eq!(before, image.pixels.as_ptr());
}
