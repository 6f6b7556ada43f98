//! Kernels that differ by stage, one of them the declaration's.

use convnext_core::dfdx::prelude::*;
use convnext_core::{Variant, convnext};

convnext! {
    pub model Kernels {
        input: 16 x 16 x 3,
        stem: 2,
        head: 2,
        kernel: 9,
        stages: [4 x 1 kernel 3, 4 x 1 kernel 1, 8 x 1],
    }
}

#[test]
fn stages_have_their_own_kernels() {
    let model = Cpu::default().build_module::<Kernels, f32>();
    let _: &Tensor<Rank3<3, 3, 4>, f32, Cpu> = &model.encoder.stage0.modules[0].dwconv_weight;
    let _: &Tensor<Rank3<9, 9, 8>, f32, Cpu> = &model.encoder.stage2.modules[0].dwconv_weight;
    assert_eq!(model.num_trainable_params() as u64, Kernels::PLAN.classifier().parameters());
}
