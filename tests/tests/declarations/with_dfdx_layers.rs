//! Emitted modules are dfdx modules: they go into its tuples, with its layers.

use convnext_core::convnext;
use convnext_core::dfdx::optim::{Sgd, SgdConfig};
use convnext_core::dfdx::prelude::*;

convnext! {
    pub model Own { input: 8 x 8 x 3, stem: 2, head: 12, stages: [4 x 1, 8 x 1] }
}

type Model = (Own, ReLU, Linear<12, 2>);

#[test]
fn modules_go_into_tuples() {
    let device = Cpu::default();
    let mut model = device.build_module::<Model, f32>();
    let images: Tensor<Rank4<3, 8, 8, 3>, f32, Cpu> = device.sample_normal();
    let gradients = model.forward_mut(images.traced(model.alloc_grads())).square().mean().backward();
    let mut optimiser = Sgd::new(&model, SgdConfig::default());
    optimiser.update(&mut model, &gradients).unwrap();
}
