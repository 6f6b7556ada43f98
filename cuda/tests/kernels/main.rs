//! Every CUDA kernel, compiled as C++ and run on the CPU, against the references: forward and backward, dense and sparse,
//! in f32 and bf16, with the threads and blocks in three orders. Whole steps and whole runs are held to the CPU executor's.
//! With `CONVNEXT_CUDA_TESTS=device` the same tests run on a GPU.

mod cases;
mod host;
#[path = "../../../core/tests/ops/cases.rs"]
#[allow(dead_code, reason = "shared with the tests of the CPU's operations")]
mod operations;
mod sessions;
mod steps;
mod traps;
mod values;

use std::collections::BTreeMap;

use cases::{Bench, Operation, blocks, downsamples, ends, heads, losses, stems};
use convnext_core::launch::element::Element;
use host::{Memory, orders};

/// Of a tensor's Euclidean norm. f32: values are sums of some thousand products rounded to 6e-8 each, through six
/// layers; errors of random sign grow with the root of the count. bf16: what is stored is rounded to 2e-3 on average,
/// some six times in a row, and a normalisation after the rounding divides by deviations smaller than the values.
fn tolerance(real: Element) -> f64 {
    if real == Element::F32 { 2e-6 } else { 1.5e-2 }
}

/// Distance of two tensors, of the norm of the second and of what was there before. One that should be zero must be.
fn distance(found: &[f64], expected: &[f64], before: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let error = norm(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    if error == 0.0 { 0.0 } else { error / norm(&mut expected.iter().chain(before).copied()) }
}

/// Runs each operation in f32 and bf16, and prints the worst error of every tensor.
fn check(operations: Vec<Box<dyn Operation>>) {
    let mut worst: BTreeMap<(String, &str), f64> = BTreeMap::new();
    for operation in operations {
        for real in [Element::F32, Element::Bf16] {
            let mut bench = Bench::new(real, operation.parameters());
            let expected = operation.reference(&mut bench);
            let found = operation.schedule(&mut bench);
            let runs: Vec<_> = orders().iter().map(|&order| bench.run(order)).collect();
            for (name, view) in bench.results(found) {
                let bits = |memory: &Memory| memory.get(&view).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                let what = operation.name();
                assert!(
                    runs[1..].iter().all(|run| bits(run) == bits(&runs[0])),
                    "{what}, {real:?}: {name} depends on the order of threads"
                );
                let error = distance(&runs[0].get(&view), &expected[&name], bench.before(&view));
                assert!(error <= tolerance(real), "{what}, {real:?}: {name} is wrong by {error:.1e} of its norm");
                let entry = worst.entry((name, real.c_type())).or_default();
                *entry = entry.max(error);
            }
        }
    }
    for ((name, real), error) in worst {
        println!("{name:40} {real:6} {error:.1e}");
    }
}

#[test]
fn stem_equals_the_reference() {
    check(stems());
}

#[test]
fn block_equals_the_reference() {
    check(blocks());
}

#[test]
fn downsample_equals_the_reference() {
    check(downsamples());
}

#[test]
fn head_equals_the_reference() {
    check(heads());
}

#[test]
fn densify_and_masked_mse_equal_the_reference() {
    check(ends());
}

#[test]
fn cross_entropy_equals_the_reference() {
    check(losses());
}
