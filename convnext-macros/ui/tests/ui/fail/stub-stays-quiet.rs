//! A mistaken model can still be named, built and run: one error, not twenty.

use convnext_core::convnext;

convnext! {
    pub model Own {
        input: 32 x 32 x 3,
        stem: 4,
        head: 10,
        stages: [8 x 1, 16 x 1],
        kernel: 6,
        fcmae: { patch: 8 },
    }
}

fn uses() {
    use convnext_core::Variant;
    use convnext_core::dfdx::prelude::*;
    use convnext_core::nn::{AutoencoderModule, ClassifierModule};

    let device = Cpu::default();
    let mut model = device.build_module::<Own, f32>();
    let images: Tensor<(usize, Const<32>, Const<32>, Const<3>), f32, Cpu> =
        device.zeros_like(&(2, Const, Const, Const));
    let logits: Tensor<(usize, Const<10>), f32, Cpu> = model.forward(images.clone());
    let traced = images.leaky_trace();
    let gradients = model.forward_mut(traced).sum().backward();
    model.step(&device, &[], Vec::new(), 0, gradients).unwrap();
    let autoencoder = device.build_module::<OwnFcmae, f32>();
    let _: &dyn AutoencoderModule = &autoencoder;
    println!("{} {:?} {:?}", Own::PLAN.name, Own::entry(), logits.as_vec());
}

fn main() {
    uses();
}
