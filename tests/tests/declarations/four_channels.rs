//! Colour and depth.

use convnext_core::convnext;
use convnext_core::dfdx::prelude::*;

convnext! {
    pub model Depth { input: 8 x 8 x 4, stem: 4, head: 2, stages: [4 x 1], fcmae: { patch: 4 } }
}

#[test]
fn four_channels_are_taken() {
    let device = Cpu::default();
    let model = device.build_module::<Depth, f32>();
    let _: Tensor<Rank2<1, 2>, f32, Cpu> = model.forward(device.zeros::<Rank4<1, 8, 8, 4>>());
    let _ = device.build_module::<DepthFcmae, f32>();
}
