//! Two modules in a row, the second for a grid that the first does not make.

use convnext_core::dfdx::prelude::*;
use convnext_core::nn::{Downsample, Stem};

fn main() {
    let device = Cpu::default();
    let stem = device.build_module::<Stem<8, 8, 3, 2, 16, 4, 4>, f32>();
    let downsample = device.build_module::<Downsample<8, 8, 16, 4, 4, 32>, f32>();
    let images: Tensor<Rank4<2, 8, 8, 3>, f32, Cpu> = device.zeros();
    downsample.forward(stem.forward(images));
}
