//! An input that is not square, and what becomes of it.

use convnext_core::dfdx::prelude::*;
use convnext_core::{Variant, convnext};

convnext! {
    /// Takes wide pictures.
    pub model Wide { input: 16 x 32 x 3, stem: 4, head: 5, stages: [8 x 1, 16 x 2] }
}

#[test]
fn wide_pictures_are_taken() {
    let device = Cpu::default();
    let model = device.build_module::<Wide, f32>();
    let images: Tensor<(Const<2>, Const<16>, Const<32>, Const<3>), f32, Cpu> = device.sample_normal();
    let features: Tensor<(Const<2>, Const<2>, Const<4>, Const<16>), f32, Cpu> = model.encoder.forward(images.clone());
    let logits: Tensor<Rank2<2, 5>, f32, Cpu> = model.head.forward(features);
    assert_eq!(logits.array(), model.forward(images).array());
    assert_eq!(Wide::PLAN.about, "Takes wide pictures.");
}
