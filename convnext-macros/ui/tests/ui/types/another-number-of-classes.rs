//! Logits of ten classes where two are expected.

use convnext_core::convnext;
use convnext_core::dfdx::prelude::*;

convnext! {
    pub model Own { input: 8 x 32 x 3, stem: 4, head: 10, stages: [8 x 1, 16 x 1] }
}

fn main() {
    let device = Cpu::default();
    let model = device.build_module::<Own, f32>();
    let images: Tensor<Rank4<2, 8, 32, 3>, f32, Cpu> = device.zeros();
    let _: Tensor<Rank2<2, 2>, f32, Cpu> = model.forward(images);
}
