//! Activations of visible patches only.

use std::sync::Arc;

use dfdx::prelude::*;

use crate::visibility::Visibility;

/// A sparse activation: a tensor `[N, K, P, P, C]` and which patches its `K` are.
#[derive(Debug, Clone)]
pub struct Sparse<S: Shape, T = NoneTape> {
    /// The values, `[N, K, P, P, C]`: the visible patches in ascending order, row-major inside a patch.
    pub tensor: Tensor<S, f32, Cpu, T>,
    /// Which patches they are.
    pub visible: Arc<Visibility>,
}

/// A sparse activation `[N, K, P, P, C]` with its sizes as constants.
pub type Patches<B, const K: usize, const P: usize, const C: usize, T = NoneTape> =
    Sparse<(B, Const<K>, Const<P>, Const<P>, Const<C>), T>;
