//! Lesson 2: shapes and cost, before anything is computed.
//!
//! `cargo run --release -p convnext-examples --bin 02-cost`

use convnext_core::{Variant, convnext, network::Network};

convnext! {
    /// For pictures of 64 pixels.
    model Own {
        input: 64 x 64 x 3,
        stem: 4,
        head: 10,
        stages: [24 x 1, 48 x 1, 96 x 2],
        fcmae: { patch: 16, mask: 0.75, decoder: 64 x 1 },
    }
}

// A plan is a constant, and so is all that follows from it: a budget is a line that does not compile when it is exceeded.
const _: () = assert!(Own::PLAN.classifier().parameters() < 250_000, "too large for the device that it is meant for");

fn main() {
    let plan = Own::PLAN;
    println!("the classifier:");
    table(plan.classifier());

    // The autoencoder is a walk over the same plan. Its encoder sees a quarter of the patches and computes no others, so
    // that a step of pre-training costs less than one of classification, although there is a decoder behind.
    let (Some(autoencoder), Some(patches)) = (plan.autoencoder(), plan.patches()) else { return };
    println!("\nthe autoencoder, with {} of {} patches visible:", patches.visible, patches.count());
    table(autoencoder);

    // The first cells, the last cells, and how many pixels are under one of them.
    let (first, last) = (plan.grid(0), plan.grid(plan.stages.len() - 1));
    println!("\ngrids: {} x {} cells of {} pixels", first.height(), first.width(), plan.stride_of(0));
    println!("    to {} x {} cells of {} pixels", last.height(), last.width(), plan.stride());
}

/// A line for each part: its name in checkpoints, the cells that it computes, parameters, multiply-adds of an image.
fn table(network: Network<'_>) {
    for part in network.parts() {
        let (name, cells) = (part.name(), part.geometry.rows());
        println!(
            "{name:28} {cells:5} cells {:8} parameters {:11} multiply-adds",
            part.parameters(),
            part.multiply_adds()
        );
    }
    println!("{:40} {:8} parameters {:11} multiply-adds", "all", network.parameters(), network.multiply_adds());
}
