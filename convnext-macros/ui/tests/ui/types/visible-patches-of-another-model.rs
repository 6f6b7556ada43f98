//! A decoder that expects more visible patches than the encoder is given.

use convnext_core::convnext;
use convnext_core::dfdx::prelude::*;
use convnext_core::nn::Visibility;
use std::sync::Arc;

convnext! {
    family Small { input: 8 x 8 x 3, stem: 2, head: 10, stages: [8 x 1, 16 x 1] }
    pub model Few: Small { fcmae: { patch: 4, mask: 0.75 } }
    pub model Many: Small { fcmae: { patch: 4, mask: 0.5 } }
}

fn main() {
    let device = Cpu::default();
    let few = device.build_module::<FewFcmae, f32>();
    let many = device.build_module::<ManyFcmae, f32>();
    let visible = Arc::new(Visibility::from_mask(&[0, 1, 1, 1], 2, 2, 1).unwrap());
    let images: Tensor<Rank4<1, 8, 8, 3>, f32, Cpu> = device.zeros();
    let features = few.encoder.try_forward_visible(images, &visible).unwrap();
    many.densify.forward(features);
}
