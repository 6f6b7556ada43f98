//! Lesson 7: a command line of your own, and a task of your own.
//!
//! `cargo run --release -p convnext-examples --bin 07-own-task -- models` and every other command: this program is
//! `convnext` with other variants. Without arguments it trains for something that `convnext` does not know.

use std::{env, error::Error, process::ExitCode};

use convnext_core::{
    Variant, convnext,
    dfdx::prelude::Cpu,
    nn::{Backward, Operation, Pass, scale_to_fan_in},
    optim::{AdamW, Optimizer, rules},
};
use convnext_examples::batch;

convnext! {
    /// Pictures of stripes, to one number.
    model Lightness { input: 16 x 16 x 1, stem: 2, head: 1, stages: [8 x 1 kernel 3, 16 x 1 kernel 3] }
}

fn main() -> ExitCode {
    if env::args_os().len() > 1 {
        return convnext::run!(&[Lightness::entry()]);
    }
    match train() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A loss is an operation from the model's outputs to one value: with its gradient, it is all that a task adds.
#[derive(Debug)]
struct SquaredError(Vec<f32>);

impl Operation for SquaredError {
    fn parameters(&self) -> usize {
        0
    }

    fn output(&self, _: &Pass) -> usize {
        1
    }

    fn forward(&self, _: &Pass, _: &[f32], x: &[f32], out: &mut [f32]) -> Option<Backward> {
        let difference: Vec<f32> = x.iter().zip(&self.0).map(|(x, wanted)| x - wanted).collect();
        let count = x.len() as f32;
        out[0] = difference.iter().map(|d| d * d).sum::<f32>() / count;
        Some(Box::new(move |gradient| {
            let slopes = difference.iter().map(|d| 2.0 * d / count * gradient.grad_out[0]);
            gradient.grad_x.iter_mut().zip(slopes).for_each(|(grad, slope)| *grad += slope);
        }))
    }
}

/// Learns how light a picture is, on the buffers and operations that `convnext` trains with: no tape, no tensors.
fn train() -> Result<(), Box<dyn Error>> {
    let entry = Lightness::entry();
    let mut module = entry.classifier(&Cpu::seed_from_u64(1))?;
    scale_to_fan_in(&mut *module);
    // The operations of a model, apart from its parameters: one flat buffer, in the order of checkpoints.
    let (model, layout, mut weights) = (module.plain(), module.layout(), module.values());
    // Weight decay acts on matrices only: a rule for each tensor says so.
    let rules = rules(&layout, &entry.plan, None)?;
    let mut optimiser = Optimizer::new(AdamW::default(), rules, None, &weights);
    for step in 0..60 {
        let (pictures, _) = batch(step * 16..(step + 1) * 16);
        let lightness = pictures.chunks(16 * 16).map(|picture| picture.iter().sum::<f32>() / 256.0).collect();
        let mut gradients = vec![0.0; weights.len()];
        let loss = model.step_towards(&SquaredError(lightness), &weights, &pictures, 16, &mut gradients);
        optimiser.step(&mut weights, &gradients, 3e-3, 1.0);
        if step % 20 == 0 || step == 59 {
            println!("step {step:2}: squared error {loss:.5}");
        }
    }
    Ok(())
}
