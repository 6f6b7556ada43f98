//! Lesson 1: a variant is a declaration.
//!
//! `cargo run --release -p convnext-examples --bin 01-declare`

use convnext_core::{Variant, convnext, dfdx::prelude::*};

convnext! {
    /// What the models below have in common. A family is no model, it only saves repetition.
    family Grey {
        input: 16 x 16 x 1, // height x width x channels, in pixels
        stem: 2,            // the first layer cuts squares of 2 x 2 pixels: a grid of 8 x 8 cells
        head: 2,            // classes
    }

    /// Two stages. A stage is `channels x blocks`; between two of them the grid is halved.
    model Small: Grey { stages: [16 x 1, 32 x 1] }

    /// Three stages, the first with a smaller depthwise kernel, and a part for masked pre-training.
    model Deeper: Grey {
        stages: [16 x 1 kernel 5, 32 x 2, 64 x 1],
        fcmae: { patch: 8, mask: 0.5, decoder: 32 x 1 },
    }
}

// Three stages halve the grid twice: 8 -> 4 -> 2. A fifth stage would have to halve a single cell. Declare one, and the
// compiler says on which token the mistake is and which input would work:
//
//     model Wrong: Grey { stages: [16 x 1, 32 x 1, 64 x 1, 64 x 1, 64 x 1] }

fn main() {
    // A model is a type of dfdx: it is built on a device and applied to tensors whose shapes are types too. `Rank4<3, ...>`
    // is a batch of three pictures. With another height here this program would not compile.
    let device = Cpu::seed_from_u64(1);
    let pictures: Tensor<Rank4<3, 16, 16, 1>, f32, Cpu> = device.sample_normal();
    let small = device.build_module::<Small, f32>();
    let logits: Tensor<Rank2<3, 2>, f32, Cpu> = small.forward(pictures.clone());
    println!("Small: {:?} -> {:?}", pictures.shape().concrete(), logits.shape().concrete());

    // What was declared is a constant, the plan.
    for plan in [Small::PLAN, Deeper::PLAN] {
        let parameters = plan.classifier().parameters();
        println!("{}: {} - {parameters} parameters", plan.name, plan.about);
    }

    // The parts of a model are its fields, each a module of its own with a shape of its own.
    let deeper = device.build_module::<Deeper, f32>();
    let cells: Tensor<Rank4<3, 8, 8, 16>, f32, Cpu> = deeper.encoder.stem.forward(pictures);
    println!("the stem of Deeper makes {:?} of them", cells.shape().concrete());

    // A model with `fcmae` has a second type, its masked autoencoder.
    let autoencoder = device.build_module::<DeeperFcmae, f32>();
    let blocks = autoencoder.decoder.modules.len();
    if let Some(patches) = Deeper::PLAN.patches() {
        let (removed, all) = (patches.removed(), patches.count());
        println!("its autoencoder removes {removed} of {all} patches, and decodes with {blocks} block");
    }
}
