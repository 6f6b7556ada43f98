//! Lesson 3: a training loop of your own, with dfdx's tape and optimiser.
//!
//! `cargo run --release -p convnext-examples --bin 03-train`
//!
//! The program `convnext` trains in another way: without dfdx's tensors, on flat buffers (lesson 7), which is faster. This
//! loop is for experiments that need the tape: other losses, other layers before and behind a model.

use std::error::Error;

use convnext_core::{
    convnext,
    dfdx::{
        optim::{Adam, AdamConfig},
        prelude::*,
    },
    nn::{scale_to_fan_in, soft_cross_entropy},
};
use convnext_examples::batch;

convnext! {
    /// Tells lying stripes from standing ones.
    model Stripes { input: 16 x 16 x 1, stem: 2, head: 2, stages: [8 x 1 kernel 3, 16 x 1 kernel 3] }
}

const BATCH: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Cpu::seed_from_u64(1);
    let mut model = device.build_module::<Stripes, f32>();
    // The paper's first weights are for layers of some hundred channels. These are narrower.
    scale_to_fan_in(&mut model);

    let mut optimiser = Adam::new(&model, AdamConfig { lr: 3e-3, ..AdamConfig::default() });
    for step in 0..40 {
        let (pictures, classes) = batch(step * BATCH as u64..(step + 1) * BATCH as u64);
        let pictures = device.tensor_from_vec(pictures, (Const::<BATCH>, Const, Const, Const));

        // `trace` starts a tape; `forward_mut` is the forward pass of training, in which drop paths drop.
        let logits = model.forward_mut(pictures.trace(model.alloc_grads()));
        let loss = soft_cross_entropy(logits, one_hot(&classes))?;
        if step % 10 == 0 {
            println!("step {step:2}: loss {:.4}", loss.array());
        }
        optimiser.update(&mut model, &loss.backward())?;
    }

    // Pictures that it has not seen. Without a tape nothing is kept for a backward pass.
    let (pictures, classes) = batch(10_000..10_100);
    let logits = model.forward(device.tensor_from_vec(pictures, (Const::<100>, Const, Const, Const))).array();
    let right = logits.iter().zip(&classes).filter(|(row, class)| usize::from(row[1] > row[0]) == **class);
    println!("held out: {} of 100 right", right.count());
    Ok(())
}

/// Targets are distributions, `[N, CLASSES]`: here all on one class. Mixup and label smoothing would spread them.
fn one_hot(classes: &[usize]) -> Vec<f32> {
    classes.iter().flat_map(|&class| [0, 1].map(|other| f32::from(other == class))).collect()
}
