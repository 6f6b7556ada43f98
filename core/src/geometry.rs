//! Which cells of a grid an activation has: all of them, or those of visible patches.

/// The geometry of an activation without its masks: what is constant from step to step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Geometry {
    /// Every cell of the grid.
    Dense {
        /// Cells from top to bottom.
        height: usize,
        /// Cells from left to right.
        width: usize,
    },
    /// The cells of visible patches.
    Sparse {
        /// Cells a side of a patch.
        side: usize,
        /// Patches from top to bottom.
        patches_high: usize,
        /// Patches from left to right.
        patches_wide: usize,
        /// Visible patches of a sample.
        visible: usize,
    },
}

impl Geometry {
    /// Rows of a sample.
    pub const fn rows(self) -> usize {
        match self {
            Self::Dense { height, width } => height * width,
            Self::Sparse { side, visible, .. } => visible * side * side,
        }
    }

    /// Cells of the whole grid from top to bottom.
    pub const fn height(self) -> usize {
        match self {
            Self::Dense { height, .. } => height,
            Self::Sparse { side, patches_high, .. } => side * patches_high,
        }
    }

    /// Cells of the whole grid from left to right.
    pub const fn width(self) -> usize {
        match self {
            Self::Dense { width, .. } => width,
            Self::Sparse { side, patches_wide, .. } => side * patches_wide,
        }
    }

    /// Every cell of the same grid.
    #[must_use]
    pub const fn dense(self) -> Self {
        Self::Dense { height: self.height(), width: self.width() }
    }

    /// Rows that lie side by side on the grid and in memory.
    pub const fn line(self) -> usize {
        match self {
            Self::Dense { width, .. } => width,
            Self::Sparse { side, .. } => side,
        }
    }

    /// Such lines that lie one below the other on the grid and in memory.
    pub const fn lines(self) -> usize {
        match self {
            Self::Dense { height, .. } => height,
            Self::Sparse { side, .. } => side,
        }
    }

    /// The same samples on a grid of half the height and width; `None` if the grid, or a patch, has an odd side.
    pub const fn halved(self) -> Option<Self> {
        if !self.line().is_multiple_of(2) || !self.lines().is_multiple_of(2) {
            return None;
        }
        Some(match self {
            Self::Dense { height, width } => Self::Dense { height: height / 2, width: width / 2 },
            Self::Sparse { side, patches_high, patches_wide, visible } => {
                Self::Sparse { side: side / 2, patches_high, patches_wide, visible }
            }
        })
    }
}
