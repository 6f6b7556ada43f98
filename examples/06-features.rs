//! Lesson 6: features.
//!
//! `cargo run --release -p convnext-examples --bin 06-features`
//!
//! An encoder is worth more than its head. Its features serve nearest neighbours, a linear probe, or another model.

use std::error::Error;

use convnext_core::{
    Variant, convnext,
    dfdx::{
        optim::{Adam, AdamConfig},
        prelude::*,
    },
    nn::{Flat, scale_to_fan_in, soft_cross_entropy},
    plan::Plan,
};
use convnext_examples::{CLASSES, batch};

convnext! {
    /// Stripes, to four cells of 16 features each.
    model Stripes { input: 16 x 16 x 1, stem: 4, head: 2, stages: [8 x 1 kernel 3, 16 x 1 kernel 3] }
}

const PICTURES: usize = 12;
const BATCH: usize = 16;
const PLAN: Plan = Stripes::PLAN;
const DIM: usize = PLAN.last().dim;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Cpu::seed_from_u64(3);
    let mut model = device.build_module::<Stripes, f32>();
    scale_to_fan_in(&mut model);
    // Some steps, as in lesson 3. For the weights of a run: lesson 4, `model.write(&loaded.values)`.
    let mut optimiser = Adam::new(&model, AdamConfig { lr: 3e-3, ..AdamConfig::default() });
    for step in 0..40 {
        let (pictures, classes) = batch(step * BATCH as u64..(step + 1) * BATCH as u64);
        let pictures = device.tensor_from_vec(pictures, (Const::<BATCH>, Const, Const, Const));
        let logits = model.forward_mut(pictures.trace(model.alloc_grads()));
        let targets = classes.iter().flat_map(|&class| [0, 1].map(|other| f32::from(other == class))).collect();
        let loss = soft_cross_entropy(logits, targets)?;
        optimiser.update(&mut model, &loss.backward())?;
    }
    println!("a model of {} parameters", model.layout().len());

    // The encoder is a field, and a model by itself: from pictures to `[N, height, width, DIM]`.
    let (pictures, classes) = batch(10_000..10_000 + PICTURES as u64);
    let pictures = device.tensor_from_vec(pictures, (Const::<PICTURES>, Const, Const, Const));
    let cells: Tensor<Rank4<PICTURES, 2, 2, DIM>, f32, Cpu> = model.encoder.forward(pictures);

    // One vector a picture: the mean over its cells. Axes 1 and 2 are height and width.
    let features: Tensor<Rank2<PICTURES, DIM>, f32, Cpu> = cells.mean::<_, Axes2<1, 2>>();
    let features = features.array();

    let mut agree = 0;
    for (picture, class) in classes.iter().enumerate() {
        let others = (0..PICTURES).filter(|&other| other != picture);
        let likeness = |other: &usize| cosine(&features[picture], &features[*other]);
        let Some(nearest) = others.max_by(|a, b| likeness(a).total_cmp(&likeness(b))) else { continue };
        let (name, of) = (CLASSES[*class], CLASSES[classes[nearest]]);
        println!("{picture:2} ({name}) is nearest to {nearest:2} ({of}): {:.3}", likeness(&nearest));
        agree += usize::from(name == of);
    }
    println!("{agree} of {PICTURES} are of one class with their neighbour");
    Ok(())
}

fn cosine(a: &[f32; DIM], b: &[f32; DIM]) -> f32 {
    let dot = |a: &[f32; DIM], b: &[f32; DIM]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
