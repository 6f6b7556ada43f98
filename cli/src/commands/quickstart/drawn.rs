//! Pictures that `quickstart` draws itself where no data set is installed: ten kinds of shapes, of any place and size.

use std::path::PathBuf;

use convnext_data::{PackError, Purpose, Random, pack::Source};

/// Rows and columns of a picture, as Fashion-MNIST has them.
const SIDE: usize = 28;

const NAMES: [&str; 10] =
    ["disc", "ring", "square", "frame", "cross", "plus", "stripes", "columns", "triangle", "checks"];

/// Drawn pictures with their labels; a picture is a pure function of seed and number.
#[derive(Debug)]
pub(super) struct Drawn {
    pub(super) seed: u64,
    pub(super) count: usize,
    names: Vec<String>,
}

impl Drawn {
    pub(super) fn new(seed: u64, count: usize) -> Self {
        Self { seed, count, names: NAMES.map(str::to_owned).to_vec() }
    }

    fn pixels(&self, index: usize) -> [u8; SIDE * SIDE] {
        let mut random = Random::new(self.seed, 0, index as u64, Purpose::Augment);
        let kind = index % NAMES.len();
        let radius = random.between(5.0, 11.0);
        let mut place = || random.between(radius, SIDE as f64 - radius);
        let (centre_y, centre_x) = (place(), place());
        let (paint, ground, noise) =
            (random.between(110.0, 255.0), random.between(0.0, 60.0), random.between(0.0, 25.0));
        std::array::from_fn(|at| {
            let y = ((at / SIDE) as f64 + 0.5 - centre_y) / radius;
            let x = ((at % SIDE) as f64 + 0.5 - centre_x) / radius;
            let value = if inside(kind, y, x) { paint } else { ground };
            (value + noise * f64::from(random.normal())).clamp(0.0, 255.0) as u8
        })
    }
}

/// Whether a point belongs to a shape of radius 1 around the origin.
fn inside(kind: usize, y: f64, x: f64) -> bool {
    let (square, round) = (y.abs().max(x.abs()), y.hypot(x));
    let stripe = |value: f64| (value * 2.5).rem_euclid(2.0) < 1.0;
    match kind {
        0 => round < 1.0,
        1 => (0.6..1.0).contains(&round),
        2 => square < 0.85,
        3 => (0.5..0.85).contains(&square),
        4 => square < 0.9 && (y.abs() - x.abs()).abs() < 0.3,
        5 => square < 0.9 && y.abs().min(x.abs()) < 0.25,
        6 => square < 0.9 && stripe(y),
        7 => square < 0.9 && stripe(x),
        8 => y < 0.8 && y > 2.0 * x.abs() - 0.9,
        _ => square < 0.9 && stripe(y) != stripe(x),
    }
}

impl Source for Drawn {
    fn len(&self) -> usize {
        self.count
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some((index % NAMES.len()) as u32)
    }

    fn load(&self, index: usize, _: u64, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        bytes.clear();
        bytes.extend_from_slice(format!("P5\n{SIDE} {SIDE}\n255\n").as_bytes());
        bytes.extend_from_slice(&self.pixels(index));
        Ok(())
    }

    fn origin(&self, index: usize) -> PathBuf {
        PathBuf::from(format!("drawn/{index}"))
    }

    fn class_names(&self) -> Option<&[String]> {
        Some(&self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_follows_from_seed_and_number() {
        assert_eq!(Drawn::new(1, 20).pixels(7), Drawn::new(1, 20).pixels(7));
        assert_ne!(Drawn::new(1, 20).pixels(7), Drawn::new(2, 20).pixels(7));
    }

    #[test]
    fn every_kind_paints_something_and_leaves_something() {
        for (kind, name) in NAMES.iter().enumerate() {
            let painted = (0..400)
                .filter(|at| inside(kind, (at / 20) as f64 / 10.0 - 0.95, (at % 20) as f64 / 10.0 - 0.95))
                .count();
            assert!((40..360).contains(&painted), "{name}: {painted}");
        }
    }
}
