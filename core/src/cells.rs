//! Where the rows of an activation lie on the grid.

use crate::{geometry::Geometry, visibility::Visibility};

/// The geometry of an activation `[N, R, C]`: which cell of the grid each of a sample's `R` rows is.
#[derive(Debug, Clone, Copy)]
pub enum Cells<'a> {
    /// Every cell of the grid, row-major: `[N, H, W, C]`.
    Dense {
        /// Cells from top to bottom.
        height: usize,
        /// Cells from left to right.
        width: usize,
    },
    /// The cells of visible patches only, row-major inside a patch: `[N, K, P, P, C]`.
    Sparse {
        /// Cells a side of a patch, `P`.
        side: usize,
        /// Which patches are visible.
        visible: &'a Visibility,
    },
}

impl Cells<'_> {
    /// Cells of the whole grid from top to bottom, removed ones included.
    pub fn height(&self) -> usize {
        match *self {
            Cells::Dense { height, .. } => height,
            Cells::Sparse { side, visible } => side * visible.patches_high(),
        }
    }

    /// Cells of the whole grid from left to right, removed ones included.
    pub fn width(&self) -> usize {
        match *self {
            Cells::Dense { width, .. } => width,
            Cells::Sparse { side, visible } => side * visible.patches_wide(),
        }
    }

    /// Rows `R` of each sample.
    pub fn rows(&self) -> usize {
        match *self {
            Cells::Dense { height, width } => height * width,
            Cells::Sparse { side, visible } => visible.visible() * side * side,
        }
    }

    /// The row that holds a cell of a sample; `None` if its patch was removed.
    pub fn row(&self, sample: usize, y: usize, x: usize) -> Option<usize> {
        match *self {
            Cells::Dense { width, .. } => Some(y * width + x),
            Cells::Sparse { side, visible } => {
                let slot = visible.slot(sample, y / side, x / side)?;
                Some((slot * side + y % side) * side + x % side)
            }
        }
    }

    /// The cell `(y, x)` that a row of a sample holds.
    pub fn cell(&self, sample: usize, row: usize) -> (usize, usize) {
        match *self {
            Cells::Dense { width, .. } => (row / width, row % width),
            Cells::Sparse { side, visible } => {
                let patch = visible.patch(sample, row / (side * side));
                let (patch_y, patch_x) = (patch / visible.patches_wide(), patch % visible.patches_wide());
                (patch_y * side + row / side % side, patch_x * side + row % side)
            }
        }
    }

    /// The same samples on a grid of half the height and width.
    ///
    /// Panics if the grid, or the side of a patch, is odd: a 2x2 cell must not leave its patch.
    pub fn halved(&self) -> Self {
        let half = |length: usize| {
            assert!(length.is_multiple_of(2), "{length} cells cannot be halved");
            length / 2
        };
        match *self {
            Cells::Dense { height, width } => Cells::Dense { height: half(height), width: half(width) },
            Cells::Sparse { side, visible } => Cells::Sparse { side: half(side), visible },
        }
    }

    /// Rows that lie side by side on the grid and in memory: a grid row, or a patch's row.
    pub(crate) fn run(&self) -> usize {
        match *self {
            Cells::Dense { width, .. } => width,
            Cells::Sparse { side, .. } => side,
        }
    }

    /// Panics unless this is the geometry of `samples` samples.
    pub(crate) fn check(&self, samples: usize) {
        if let Cells::Sparse { visible, .. } = self {
            assert_eq!(visible.samples(), samples, "samples of the visibility");
        }
    }
}

impl From<Cells<'_>> for Geometry {
    fn from(cells: Cells) -> Self {
        match cells {
            Cells::Dense { height, width } => Self::Dense { height, width },
            Cells::Sparse { side, visible } => Self::Sparse {
                side,
                patches_high: visible.patches_high(),
                patches_wide: visible.patches_wide(),
                visible: visible.visible(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_geometry() {
        let visible = Visibility::from_mask(&[1, 0, 0, 1, 1, 0], 2, 3, 3).unwrap();
        for cells in [Cells::Dense { height: 6, width: 10 }, Cells::Sparse { side: 4, visible: &visible }] {
            let geometry = Geometry::from(cells);
            assert_eq!((geometry.height(), geometry.width()), (cells.height(), cells.width()));
            assert_eq!((geometry.rows(), geometry.line()), (cells.rows(), cells.run()));
            assert_eq!(geometry.halved(), Some(Geometry::from(cells.halved())));
        }
        assert_eq!(Geometry::Dense { height: 1, width: 1 }.halved(), None);
    }
}
