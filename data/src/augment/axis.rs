//! How a target follows the pixels of its picture.
//!
//! Crops, resizes and pads move rows and columns independently of each other. Each says what it does to either axis, and a
//! segmentation or boxes are moved by that here.

use super::Scratch;
use crate::image::Image;
use crate::target::{BoundingBox, IGNORED, Target};

/// What happens to one axis of a picture: `part` pixels from `start` on become `length` pixels, the first of which lies at
/// `offset` on a canvas of `canvas` pixels. What is outside of the canvas is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) start: usize,
    pub(super) part: usize,
    pub(super) length: usize,
    pub(super) offset: isize,
    pub(super) canvas: usize,
}

impl Axis {
    /// A part, resized to the whole canvas.
    pub(super) fn resized(start: usize, part: usize, canvas: usize) -> Self {
        Self { start, part, length: canvas, offset: 0, canvas }
    }

    /// The source of pixel `at` of the canvas: the nearest one at or before it, as OpenCV and torchvision choose it for
    /// segmentations.
    fn source(&self, at: usize) -> Option<usize> {
        let at = at.checked_add_signed(self.offset.checked_neg()?)?;
        (at < self.length).then(|| self.start + at * self.part / self.length)
    }

    /// Where on the canvas a point of the source comes to lie; its border for a point outside.
    fn place(&self, at: f32) -> f32 {
        let scale = self.length as f64 / self.part as f64;
        let placed = (f64::from(at) - self.start as f64) * scale + self.offset as f64;
        placed.clamp(0.0, self.canvas as f64) as f32
    }
}

/// Moves `target` as the picture's rows and columns were moved. Boxes are cut at the border, and lost if nothing of them
/// is left; pixels from outside of the picture are [`IGNORED`].
pub(super) fn move_target(target: &mut Target, rows: Axis, columns: Axis, scratch: &mut Scratch) {
    match target {
        Target::None | Target::Class(_) | Target::Classes(_) => {}
        Target::Segmentation(map) => {
            take_nearest(map, rows, columns, scratch);
            std::mem::swap(map, &mut scratch.image);
        }
        Target::Boxes(boxes) => boxes.retain_mut(|object| {
            let BoundingBox { left, top, right, bottom, class } = *object;
            let (left, right) = (columns.place(left), columns.place(right));
            let (top, bottom) = (rows.place(top), rows.place(bottom));
            *object = BoundingBox { left, top, right, bottom, class };
            left < right && top < bottom
        }),
    }
}

/// Writes `map`, moved, into the scratch image.
fn take_nearest(map: &Image, rows: Axis, columns: Axis, scratch: &mut Scratch) {
    let Scratch { image: moved, columns: sources, .. } = scratch;
    sources.clear();
    sources.extend((0..columns.canvas).map(|x| columns.source(x)));
    moved.reset(rows.canvas, columns.canvas, 1);
    for (y, out) in moved.pixels.chunks_exact_mut(columns.canvas.max(1)).enumerate() {
        match rows.source(y) {
            None => out.fill(IGNORED),
            Some(y) => {
                let row = &map.pixels[y * map.width..][..map.width];
                out.iter_mut().zip(&*sources).for_each(|(out, x)| *out = x.map_or(IGNORED, |x| row[x]));
            }
        }
    }
}

/// Expected values from torchvision 0.29's `transforms.v2.functional`, for `tv_tensors.Mask` and `BoundingBoxes`.
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::augment::testing::draw;
    use crate::augment::{Augment, CentreCrop, Flip, Pad, RandomResizedCrop};
    use crate::target::Example;

    const HEIGHT: usize = 9;
    const WIDTH: usize = 11;

    fn boxes(edges: &[[f32; 4]]) -> Target {
        let of = |(class, &[left, top, right, bottom]): (usize, &[f32; 4])| BoundingBox {
            left,
            top,
            right,
            bottom,
            class: class as u32,
        };
        Target::Boxes(edges.iter().enumerate().map(of).collect())
    }

    fn four() -> Target {
        boxes(&[[0.0, 0.0, 11.0, 9.0], [1.5, 2.0, 4.0, 5.5], [7.0, 3.0, 10.25, 8.0], [0.0, 7.0, 2.0, 9.0]])
    }

    fn numbered() -> Target {
        let pixels = (0..(HEIGHT * WIDTH) as u8).collect();
        Target::Segmentation(Image::from_pixels(HEIGHT, WIDTH, 1, pixels).unwrap())
    }

    /// The segmentation of these rows and columns of [`numbered`].
    fn picked(rows: &[u8], columns: &[u8]) -> Target {
        let pixels = rows.iter().flat_map(|y| columns.iter().map(move |x| y * WIDTH as u8 + x)).collect();
        Target::Segmentation(Image::from_pixels(rows.len(), columns.len(), 1, pixels).unwrap())
    }

    fn moved(mut target: Target, rows: Axis, columns: Axis) -> Target {
        move_target(&mut target, rows, columns, &mut Scratch::default());
        target
    }

    fn augmented(augmentation: &dyn Augment, target: Target) -> Target {
        let mut example = Example::new(Image::new(HEIGHT, WIDTH, 3), target);
        augmentation.apply(&mut example, &draw(0), &mut Scratch::default()).unwrap();
        example.target
    }

    /// Boxes equal to 1e-5 of a pixel, and of the same classes.
    fn assert_boxes(found: Target, expected: &[(u32, [f32; 4])]) {
        let Target::Boxes(found) = found else { panic!("{found:?}") };
        assert_eq!(
            found.iter().map(|object| object.class).collect::<Vec<_>>(),
            expected.iter().map(|e| e.0).collect::<Vec<_>>()
        );
        for (found, (_, expected)) in found.iter().zip(expected) {
            let edges = [found.left, found.top, found.right, found.bottom];
            assert!(edges.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{edges:?}, expected {expected:?}");
        }
    }

    #[test]
    fn a_part_is_resized_as_torchvision_does() {
        let (rows, columns) = (Axis::resized(1, 6, 4), Axis::resized(2, 7, 5));
        assert_eq!(moved(numbered(), rows, columns), picked(&[1, 2, 4, 5], &[2, 3, 4, 6, 7]));
        let expected = [
            (0, [0.0, 0.0, 5.0, 4.0]),
            (1, [0.0, 0.666_666_7, 1.428_571_5, 3.0]),
            (2, [3.571_428_8, 1.333_333_4, 5.0, 4.0]),
        ];
        // The fourth, without area there, is lost here.
        assert_boxes(moved(four(), rows, columns), &expected);

        let (rows, columns) = (Axis::resized(3, 5, 13), Axis::resized(1, 9, 7));
        let chosen = picked(&[3, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6, 7, 7], &[1, 2, 3, 4, 6, 7, 8]);
        assert_eq!(moved(numbered(), rows, columns), chosen);
        let expected = [
            (0, [0.0, 0.0, 7.0, 13.0]),
            (1, [0.388_888_9, 0.0, 2.333_333_5, 6.5]),
            (2, [4.666_667, 0.0, 7.0, 13.0]),
            (3, [0.0, 10.4, 0.777_777_8, 13.0]),
        ];
        assert_boxes(moved(four(), rows, columns), &expected);
    }

    /// `resize` to 5 x 6, then `center_crop` to 4 x 4.
    #[test]
    fn a_centre_crop_moves_what_it_cuts() {
        let crop = CentreCrop::new(4, 4).with_fraction(Some(0.8));
        assert_eq!(augmented(&crop, numbered()), picked(&[0, 1, 3, 5], &[1, 3, 5, 7]));
        let expected = [
            (0, [0.0, 0.0, 4.0, 4.0]),
            (1, [0.0, 1.111_111_2, 1.181_818_2, 3.055_555_6]),
            (2, [2.818_182, 1.666_666_7, 4.0, 4.0]),
            (3, [0.0, 3.888_889, 0.090_909_1, 4.0]),
        ];
        assert_boxes(augmented(&crop, four()), &expected);
    }

    /// `pad` by 1 and 2 pixels before and 1 behind.
    #[test]
    fn a_pad_surrounds_a_segmentation_with_nothing() {
        let pad = Pad { height: 12, width: 13, shift: 0, fill: 0 };
        let Target::Segmentation(found) = augmented(&pad, numbered()) else { panic!() };
        for (y, row) in found.pixels.chunks_exact(13).enumerate() {
            for (x, &class) in row.iter().enumerate() {
                let inside = (1..10).contains(&y) && (1..12).contains(&x);
                let expected = if inside { ((y - 1) * WIDTH + x - 1) as u8 } else { IGNORED };
                assert_eq!(class, expected, "({y}, {x})");
            }
        }
        let expected = [
            (0, [1.0, 1.0, 12.0, 10.0]),
            (1, [2.5, 3.0, 5.0, 6.5]),
            (2, [8.0, 4.0, 11.25, 9.0]),
            (3, [1.0, 8.0, 3.0, 10.0]),
        ];
        assert_boxes(augmented(&pad, four()), &expected);
    }

    #[test]
    fn a_flip_mirrors_a_target() {
        let flip = Flip { probability: 1.0 };
        let columns: Vec<u8> = (0..WIDTH as u8).rev().collect();
        assert_eq!(augmented(&flip, numbered()), picked(&[0, 1, 2, 3, 4, 5, 6, 7, 8], &columns));
        let expected = [
            (0, [0.0, 0.0, 11.0, 9.0]),
            (1, [7.0, 2.0, 9.5, 5.5]),
            (2, [0.75, 3.0, 4.0, 8.0]),
            (3, [9.0, 7.0, 11.0, 9.0]),
        ];
        assert_boxes(augmented(&flip, four()), &expected);
        // The same where the image is left to others.
        let mut example = Example::new(Image::new(HEIGHT, WIDTH, 3), numbered());
        assert!(flip.leave_image(&mut example, &draw(0)));
        assert_eq!(example.target, augmented(&flip, numbered()));
    }

    #[test]
    fn classes_of_a_whole_picture_stay() {
        for target in [Target::None, Target::Class(7), Target::Classes(vec![1, 2])] {
            assert_eq!(augmented(&RandomResizedCrop::new(4, 4), target.clone()), target);
        }
    }

    proptest! {
        #[test]
        fn a_segmentation_is_as_large_as_its_picture_and_boxes_lie_on_it(
            height in 1usize..60, width in 1usize..60, to_height in 1usize..40, to_width in 1usize..40,
            fraction in 0.0625f64..=1.0, shift in 0usize..20, sample: u64,
        ) {
            let steps: [Box<dyn Augment>; 4] = [
                Box::new(RandomResizedCrop::new(to_height, to_width)),
                Box::new(CentreCrop::new(to_height, to_width).with_fraction(Some(fraction))),
                Box::new(Pad { height: to_height, width: to_width, shift, fill: 0 }),
                Box::new(Flip::default()),
            ];
            for step in steps {
                let image = Image::new(height, width, 1);
                let map = Target::Segmentation(Image::new(height, width, 1));
                let whole = boxes(&[[0.0, 0.0, width as f32, height as f32]]);
                for target in [map, whole] {
                    let mut example = Example::new(image.clone(), target);
                    step.apply(&mut example, &draw(sample), &mut Scratch::default()).unwrap();
                    let (h, w) = (example.image.height, example.image.width);
                    match example.target {
                        Target::Segmentation(map) => prop_assert_eq!((map.height, map.width, map.pixels.len()), (h, w, h * w)),
                        Target::Boxes(boxes) => {
                            let inside = |low: f32, high: f32, side: usize| 0.0 <= low && low < high && high <= side as f32;
                            let sound = boxes.iter().all(|b| inside(b.left, b.right, w) && inside(b.top, b.bottom, h));
                            prop_assert!(sound, "outside of the picture");
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
            }
        }
    }

    #[test]
    fn what_moves_pixels_alone_refuses_what_would_have_to_follow() {
        use crate::TargetKind::{Boxes, Class, Segmentation};
        use crate::augment::{AugmentError, Geometry, RandAugment};
        let of = |kind| RandAugment::default().output(Geometry::decoded(3).with_target(kind));
        assert!(of(Class).is_ok());
        for kind in [Boxes, Segmentation] {
            assert!(matches!(of(kind), Err(AugmentError::Target { target, .. }) if target == kind));
        }
    }
}
