//! A head that expects more channels than the encoder has.

use convnext_core::convnext;
use convnext_core::dfdx::prelude::*;

convnext! {
    family Small { input: 8 x 8 x 3, stem: 2, head: 10 }
    pub model One: Small { stages: [8 x 1, 16 x 1] }
    pub model Two: Small { stages: [8 x 1, 24 x 1] }
}

fn main() {
    let device = Cpu::default();
    let (one, two) = (device.build_module::<One, f32>(), device.build_module::<Two, f32>());
    let images: Tensor<Rank4<2, 8, 8, 3>, f32, Cpu> = device.zeros();
    two.head.forward(one.encoder.forward(images));
}
