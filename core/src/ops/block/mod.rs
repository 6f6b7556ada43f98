//! The residual block, in both flavours.
//!
//! For one sample with `R` rows of `C` channels, and `F` hidden features (4 C in the paper):
//!
//! ```text
//! y   = depthwise(x) + b_d              K x K, zero padding; removed cells count as zeros
//! z   = LN(y)                           over C
//! h   = z W1 + b1                       [R, F]
//! a   = gelu(h)                         exact: h * (1 + erf(h / sqrt 2)) / 2
//! s_c = sqrt(sum_r a_rc^2)              V2: per sample, over its R rows
//! n_c = s_c / (mean_c s_c + 1e-6)
//! u   = a * (1 + gamma * n) + beta      (V1: u = a)
//! out = x + drop * (u W2 + b2)          (V1: out = x + drop * scale * (u W2 + b2))
//! ```
//!
//! The statistics of global response normalisation (GRN) are those of one sample, and of its rows only: a sample's
//! result depends neither on its batch mates nor on pixels under the mask.
//!
//! # Backward
//!
//! With `g` the gradient of `u W2 + b2` and `du = g W2^T`:
//!
//! ```text
//! dbeta = sum_r du           t_c = sum_r du_rc a_rc       dgamma_c = n_c t_c        q_c = gamma_c t_c
//! ds_c  = q_c / (m + eps) - sum_k q_k s_k / (F (m + eps)^2)        m = mean_c s_c
//! da    = du (1 + gamma n) + ds_c a / s_c        a channel with s_c = 0 has no second term
//! ```
//!
//! # How the fast version saves work
//!
//! `beta W2` is added to `b2` once a call, and `dbeta = W2 (sum g)`, so that no pass over the hidden features knows
//! `beta`. Only `y` and the norms `s` are saved, and `z W1` of wide blocks in f32; everything else is recomputed while it is
//! in the cache.

mod cpu;
pub mod cuda;
mod depthwise;
pub mod reference;

pub(crate) use self::cpu::Frozen;
use super::parameters::multiply_adds;
pub use crate::plan::Flavour;
use crate::{
    cells::Cells,
    geometry::Geometry,
    profile::timed,
    scratch::Buffer,
    simd::{Compute, Precision},
};

/// Sizes of a block.
#[derive(Debug, Clone, Copy)]
pub struct Shape<'a> {
    /// Samples `N`.
    pub samples: usize,
    /// Geometry of input and output.
    pub cells: Cells<'a>,
    /// Channels `C`.
    pub channels: usize,
    /// Hidden features `F`.
    pub hidden: usize,
    /// Side of the depthwise kernel, `K`; odd.
    pub kernel: usize,
    /// GRN (V2) or LayerScale (V1).
    pub flavour: Flavour,
}

/// A block, without its samples and geometry: what its parameters follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Channels `C`.
    pub channels: usize,
    /// Hidden features `F`.
    pub hidden: usize,
    /// Side of the depthwise kernel, `K`; odd.
    pub kernel: usize,
    /// GRN (V2) or LayerScale (V1).
    pub flavour: Flavour,
}

parameters! {
    for Shape<'_>;
    /// Depthwise kernel, `[K, K, C]`.
    dwconv: Weight "dwconv.weight", |s| [s.kernel, s.kernel, s.channels];
    /// Bias of the depthwise convolution, `[C]`.
    dwconv_bias: Bias "dwconv.bias", |s| [s.channels];
    /// Scale of the normalisation, `[C]`.
    norm: NormScale "norm.weight", |s| [s.channels];
    /// Shift of the normalisation, `[C]`.
    norm_bias: NormShift "norm.bias", |s| [s.channels];
    /// First pointwise layer `W1`, `[C, F]`.
    pwconv1: Weight "pwconv1.weight", |s| [s.channels, s.hidden];
    /// Its bias, `[F]`.
    pwconv1_bias: Bias "pwconv1.bias", |s| [s.hidden];
    /// GRN's scale, `[F]`; empty in V1.
    grn_gamma: Response "grn.gamma", |s| [s.responses()];
    /// GRN's shift, `[F]`; empty in V1.
    grn_beta: Response "grn.beta", |s| [s.responses()];
    /// Second pointwise layer `W2`, `[F, C]`.
    pwconv2: Weight "pwconv2.weight", |s| [s.hidden, s.channels];
    /// Its bias, `[C]`.
    pwconv2_bias: Bias "pwconv2.bias", |s| [s.channels];
    /// LayerScale, `[C]`; empty in V2.
    layer_scale: LayerScale "layer_scale.gamma", |s| [s.scales()];
}

impl Layer {
    /// Multiply-adds for one image; every tap of the depthwise kernel is counted, those over removed cells too.
    pub const fn multiply_adds(&self, geometry: Geometry) -> u64 {
        multiply_adds(geometry.rows(), self.kernel * self.kernel * self.channels + 2 * self.channels * self.hidden)
    }

    /// Hidden features that GRN acts on.
    const fn responses(&self) -> usize {
        match self.flavour {
            Flavour::V1 => 0,
            Flavour::V2 => self.hidden,
        }
    }

    /// Channels that LayerScale acts on.
    const fn scales(&self) -> usize {
        match self.flavour {
            Flavour::V1 => self.channels,
            Flavour::V2 => 0,
        }
    }
}

impl Shape<'_> {
    /// What the parameters follow from.
    pub fn layer(&self) -> Layer {
        let Self { channels, hidden, kernel, flavour, .. } = *self;
        Layer { channels, hidden, kernel, flavour }
    }

    /// Values of input and output, `N * R * C`.
    pub fn activation(&self) -> usize {
        self.samples * self.cells.rows() * self.channels
    }

    fn check(&self, weights: &Weights, drop: Option<&[f32]>, x: usize, out: usize) {
        assert!(self.kernel % 2 == 1, "a depthwise kernel has an odd side, not {}", self.kernel);
        self.cells.check(self.samples);
        weights.check(&self.layer());
        assert!(drop.is_none_or(|drop| drop.len() == self.samples), "length of the drop path's scales");
        assert_eq!(x, self.activation(), "length of the input");
        assert_eq!(out, self.activation(), "length of the output");
    }
}

/// What the backward pass needs: `y [N, R, C]`, the norms `s [N, F]`, and `z W1`, `[N, R, F]` or panel by panel, or nothing,
/// where it takes less time to compute it again.
#[derive(Debug, Default)]
pub struct Saved {
    y: Buffer,
    s: Buffer,
    hidden: Buffer,
}

/// `x [N, R, C]` to `out [N, R, C]`.
///
/// `drop` is the drop path's scale of each sample's residual branch, `[N]`: 0 for a dropped one, `1 / keep` for the
/// others; `None` is 1 for all.
pub fn forward(
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    drop: Option<&[f32]>,
    x: &[f32],
    out: &mut [f32],
    saved: Option<&mut Saved>,
) {
    forward_frozen(None, precision, shape, weights, drop, x, out, saved);
}

/// The same; where `frozen` is there and that of an earlier call, weights and precision are, too.
#[expect(clippy::too_many_arguments, reason = "the operation's arguments, and what is made of its weights once")]
pub(crate) fn forward_frozen(
    frozen: Option<&Frozen>,
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    drop: Option<&[f32]>,
    x: &[f32],
    out: &mut [f32],
    saved: Option<&mut Saved>,
) {
    shape.check(weights, drop, x.len(), out.len());
    timed!(Operation, "block forward");
    cpu::forward(frozen, Compute::new(precision), shape, weights, drop, x, out, saved);
}

/// Adds the gradients of the input and the weights. `drop` and `x` are those of the forward pass.
#[expect(clippy::too_many_arguments, reason = "the forward pass's arguments and one gradient for each")]
pub fn backward(
    precision: Precision,
    shape: &Shape,
    weights: &Weights,
    drop: Option<&[f32]>,
    x: &[f32],
    saved: &Saved,
    grad_out: &[f32],
    grad_x: &mut [f32],
    gradients: Gradients,
) {
    shape.check(weights, drop, x.len(), grad_out.len());
    gradients.check(&shape.layer());
    assert_eq!(grad_x.len(), x.len(), "length of the input's gradient");
    assert_eq!(saved.y.len(), x.len(), "the forward pass saved another shape, or nothing");
    timed!(Operation, "block backward");
    cpu::backward(Compute::new(precision), shape, weights, drop, x, saved, grad_out, grad_x, gradients);
}
