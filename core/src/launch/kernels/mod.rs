//! Kernels that several operations share, and their launchers.

pub mod bias;
pub mod images;
pub mod layer_norm;
pub mod reduce;
