//! The blocks of the first ConvNeXt, in encoder and decoder.

use convnext_core::dfdx::prelude::*;
use convnext_core::plan::Flavour;
use convnext_core::{Variant, convnext};

convnext! {
    pub model First { input: 8 x 8 x 3, stem: 2, head: 2, block: V1, stages: [4 x 1, 8 x 2], fcmae: { patch: 4 } }
}

#[test]
fn v1_has_layer_scale() {
    let device = Cpu::default();
    let model = device.build_module::<First, f32>();
    let _: &Tensor<Rank1<4>, f32, Cpu> = &model.encoder.stage0.modules[0].layer_scale_gamma;
    let _: Tensor<Rank2<1, 2>, f32, Cpu> = model.forward(device.zeros::<Rank4<1, 8, 8, 3>>());
    assert_eq!(First::PLAN.flavour, Flavour::V1);
    assert_eq!(model.num_trainable_params() as u64, First::PLAN.classifier().parameters());
    let autoencoder = device.build_module::<FirstFcmae, f32>();
    assert_eq!(autoencoder.num_trainable_params() as u64, First::PLAN.autoencoder().unwrap().parameters());
}
