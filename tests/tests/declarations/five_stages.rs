//! Five stages: more fields than dfdx's tuples hold.

use convnext_core::dfdx::prelude::*;
use convnext_core::{Variant, convnext};

convnext! {
    pub model Five { input: 32 x 32 x 3, stem: 2, head: 2, stages: [4 x 1, 4 x 1, 8 x 1, 8 x 1, 8 x 1] }
}

#[test]
fn five_stages_are_built() {
    let device = Cpu::default();
    let model = device.build_module::<Five, f32>();
    let _: Tensor<Rank4<1, 1, 1, 8>, f32, Cpu> = model.encoder.forward(device.zeros::<Rank4<1, 32, 32, 3>>());
    assert_eq!(model.num_trainable_params() as u64, Five::PLAN.classifier().parameters());
}
