//! Operations on plain slices, without their types: what a typed module computes, and what chains are made of.

use std::{fmt, sync::Arc};

use super::drop_path::DropPath;
use crate::{cells::Cells, simd::Precision, visibility::Visibility};

/// A pass over a batch: what is the same for all of its operations.
#[derive(Debug, Clone)]
pub struct Pass {
    /// Samples `N`.
    pub samples: usize,
    /// Which patches are computed; `None` for all cells of the grid.
    pub visible: Option<Arc<Visibility>>,
    /// Whether a backward pass follows, for which the forward pass has to keep what it computed.
    pub keeps: bool,
    /// Whether drop paths drop.
    pub drops: bool,
}

impl Pass {
    /// An inference pass over whole grids.
    pub fn inference(samples: usize) -> Self {
        Self { samples, visible: None, keeps: false, drops: false }
    }

    /// A grid's cells that are computed.
    pub(crate) fn cells(&self, (height, width): (usize, usize)) -> Cells<'_> {
        match &self.visible {
            None => Cells::Dense { height, width },
            Some(visible) => Cells::Sparse { side: height / visible.patches_high(), visible },
        }
    }
}

/// One operation with its sizes and settings; parameters and activations are given to it.
pub trait Operation: fmt::Debug + Send + Sync {
    /// Number of parameters.
    fn parameters(&self) -> usize;

    /// Values of the output.
    fn output(&self, pass: &Pass) -> usize;

    /// Computes `out` from `x`, all of it. Returns the backward pass if the pass keeps what that needs.
    ///
    /// `weights` are its parameters in the order of the model's layout.
    fn forward(&self, pass: &Pass, weights: &[f32], x: &[f32], out: &mut [f32]) -> Option<Backward>;

    /// Whether its output has all cells of the grid though its input has those of visible patches.
    fn fills_the_grid(&self) -> bool {
        false
    }
}

/// The operation of a module.
pub trait ModuleOperation: Operation {
    /// Sets the precision of products.
    fn set_precision(&mut self, precision: Precision);

    /// Its drop path, if it has one.
    fn drop_path(&mut self) -> Option<&mut DropPath> {
        None
    }

    /// What its linear layer looks at, `[N, D]`, if it is a head.
    fn features(&self, pass: &Pass, weights: &[f32], x: &[f32]) -> Option<Vec<f32>> {
        let _ = (pass, weights, x);
        None
    }

    /// The same operation for parameters that stay the same from pass to pass: what products read of them is laid out once.
    fn frozen(&self) -> Box<dyn ModuleOperation>;
}

/// The backward pass of an operation, with what its forward pass kept.
pub type Backward = Box<dyn FnOnce(Gradient<'_>) + Send>;

/// What a backward pass reads and adds to.
#[derive(Debug)]
pub struct Gradient<'a> {
    /// The parameters of the forward pass.
    pub weights: &'a [f32],
    /// Its input.
    pub x: &'a [f32],
    /// Gradient of its output.
    pub grad_out: &'a [f32],
    /// Gradient of the input, to be added to; empty if nobody wants it.
    pub grad_x: &'a mut [f32],
    /// Gradients of the parameters, to be added to.
    pub gradients: &'a mut [f32],
}
