//! The operations at Atto's sizes, 224 x 224, one after the other; each is held to the reference before it is timed.
//!
//! ```text
//! cargo bench -p convnext-core --bench operations -- block
//! CONVNEXT_LEVEL=v3 CONVNEXT_PRECISION=bf16 RAYON_NUM_THREADS=1 cargo bench -p convnext-core --bench operations
//! ```

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/ops/cases.rs"]
mod cases;

use std::{env, fmt};

use cases::{Block, Case, Densify, Downsample, Grid, Head, Stem, case, narrow, visibility};
use convnext_core::{
    ops::block::Flavour,
    simd::{Level, Precision},
};
use divan::{Bencher, counter::ItemsCount};

/// Images of a call.
const SAMPLES: usize = 16;

/// That of `CONVNEXT_PRECISION`, or f32.
fn precision() -> Precision {
    env::var("CONVNEXT_PRECISION").map_or(Precision::F32, |name| name.parse().unwrap())
}

/// Relative error of the whole output or gradient; those of the tests.
fn tolerance() -> f64 {
    if precision() == Precision::Bf16 { 2e-2 } else { 1e-5 }
}

fn main() {
    println!("{SAMPLES} images, {} at level {}", precision(), Level::current());
    divan::main();
}

/// An operation's place in the list.
#[derive(Clone, Copy)]
struct At(usize);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&atto()[self.0].name)
    }
}

fn all() -> impl Iterator<Item = At> {
    (0..atto().len()).map(At)
}

/// Stages of Atto: cells a side, channels.
const STAGES: [(usize, usize); 4] = [(56, 40), (28, 80), (14, 160), (7, 320)];

/// Stem, blocks, downsamplings, head and densification, dense and with 19 of 49 patches visible.
fn atto() -> Vec<Case> {
    let visible = visibility(SAMPLES, 7, 7, 19);
    let grids = |side: usize| [("dense", Grid::Dense(side, side)), ("sparse", Grid::Sparse(side / 7, visible.clone()))];
    let mut list = Vec::new();
    for (kind, grid) in grids(56) {
        list.push(case(format!("stem {kind}"), Stem { samples: SAMPLES, grid, sizes: [4, 3, 40] }));
    }
    for (stage, (side, channels)) in STAGES.into_iter().enumerate() {
        for (kind, grid) in grids(side) {
            let sizes = [channels, 4 * channels, 7];
            let op = Block { samples: SAMPLES, grid: grid.clone(), sizes, flavour: Flavour::V2, drop: None };
            list.push(case(format!("block {} {kind}", stage + 1), op));
            if side > 7 {
                let op = Downsample { samples: SAMPLES, grid, sizes: [channels, 2 * channels] };
                list.push(case(format!("downsample {} {kind}", stage + 1), op));
            }
        }
    }
    list.push(case("head".into(), Head([SAMPLES, 49, 320, 1000])));
    list.push(case("densify".into(), Densify { visible, sizes: [1, 320, 512] }));
    list
}

#[divan::bench(args = all(), sample_count = 20)]
fn forward(bencher: Bencher, at: At) {
    let case = &atto()[at.0];
    let (weights, x, _) = case.values(1);
    let (narrow_weights, narrow_x) = (narrow(&weights), narrow(&x));
    let out = case.op.fast(precision(), &narrow_weights, &narrow_x, None);
    check(&case.name, &out, &case.op.reference(&weights, &x));
    bencher
        .counter(ItemsCount::new(SAMPLES))
        .bench_local(|| case.op.fast(precision(), &narrow_weights, &narrow_x, None));
}

#[divan::bench(args = all(), sample_count = 20)]
fn forward_and_backward(bencher: Bencher, at: At) {
    let case = &atto()[at.0];
    let (weights, x, grad) = case.values(1);
    let (mut grad_x, mut grad_weights) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
    case.op.reference_backward(&weights, &x, &grad, &mut grad_x, &mut grad_weights);
    let (weights, x, grad) = (narrow(&weights), narrow(&x), narrow(&grad));
    let (mut fast_x, mut fast_weights) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
    case.op.fast(precision(), &weights, &x, Some((grad.clone(), &mut fast_x, &mut fast_weights)));
    check(&case.name, &fast_x, &grad_x);
    check(&case.name, &fast_weights, &grad_weights);
    bencher
        .counter(ItemsCount::new(SAMPLES))
        .bench_local(|| case.op.fast(precision(), &weights, &x, Some((grad.clone(), &mut fast_x, &mut fast_weights))));
}

fn check(name: &str, fast: &[f32], exact: &[f64]) {
    let difference: f64 = fast.iter().zip(exact).map(|(&fast, exact)| (f64::from(fast) - exact).powi(2)).sum();
    let length: f64 = exact.iter().map(|exact| exact * exact).sum();
    let error = (difference / length).sqrt();
    assert!(error <= tolerance(), "{name} is off by {error:.1e}: nothing is timed");
}
