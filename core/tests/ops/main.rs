//! Every operation by the same runner: the reference against finite differences, the fast version against the
//! reference, one thread against eight; then the traps, by name.
//!
//! `cargo test` covers the level of this machine; `every_level_equals_the_reference` runs the runner again, in
//! processes of their own, on the others.

mod cases;
mod traps;

use std::{env, process::Command};

use cases::{Block, Case, Grid, cases, differentiable, narrow, random};
use convnext_core::{
    ops::block::Flavour,
    simd::{Level, Precision},
};
use rayon::ThreadPoolBuilder;

/// Relative to the largest value of a tensor. A value is a sum of at most some 10^4 products rounded to 6e-8 each,
/// through at most six layers; errors of random sign grow with the root of the count.
const TOLERANCE: f64 = 3e-5;

fn assert_close(name: &str, what: &str, fast: &[f32], exact: &[f64], tolerance: f64) {
    assert_eq!(fast.len(), exact.len(), "{name}: length of the {what}");
    let largest = exact.iter().fold(1e-3f64, |largest, value| largest.max(value.abs()));
    for (index, (&fast, &exact)) in fast.iter().zip(exact).enumerate() {
        let error = (f64::from(fast) - exact).abs() / largest;
        assert!(error <= tolerance, "{name}: {what}[{index}] is {fast}, not {exact} (of {largest})");
    }
}

#[test]
fn reference_gradients_equal_finite_differences() {
    for case in differentiable() {
        let (weights, x, grad_out) = case.values(1);
        let (mut grad_x, mut grad_weights) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
        case.op.reference_backward(&weights, &x, &grad_out, &mut grad_x, &mut grad_weights);
        let objective = |weights: &[f64], x: &[f64]| -> f64 {
            case.op.reference(weights, x).iter().zip(&grad_out).map(|(out, grad)| out * grad).sum()
        };
        check_slopes(&case, "input", &x, &grad_x, |x| objective(&weights, x));
        check_slopes(&case, "weights", &weights, &grad_weights, |weights| objective(weights, &x));
    }
}

fn check_slopes(case: &Case, what: &str, at: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    let largest = gradient.iter().fold(1e-3f64, |largest, value| largest.max(value.abs()));
    let mut at = at.to_vec();
    for index in 0..at.len() {
        let middle = at[index];
        at[index] = middle + STEP;
        let above = f(&at);
        at[index] = middle - STEP;
        let slope = (above - f(&at)) / (2.0 * STEP);
        at[index] = middle;
        let error = (slope - gradient[index]).abs() / largest;
        assert!(error < 1e-6, "{}: {what}[{index}]: slope {slope}, gradient {}", case.name, gradient[index]);
    }
}

/// Both passes of the fast version, with and without saving, against those of the reference, whose gradient of the input is
/// returned. Both add to gradients that are there already.
fn assert_equals_reference(case: &Case, weights: &[f64], x: &[f64], grad_out: &[f64]) -> Vec<f64> {
    let before_x = random(3, x.len());
    let before_weights = random(4, weights.len());
    let (mut grad_x, mut grad_weights) = (before_x.clone(), before_weights.clone());
    let out = case.op.reference(weights, x);
    case.op.reference_backward(weights, x, grad_out, &mut grad_x, &mut grad_weights);

    let (mut fast_x, mut fast_weights) = (narrow(&before_x), narrow(&before_weights));
    let alone = case.op.fast(Precision::F32, &narrow(weights), &narrow(x), None);
    let gradients = Some((narrow(grad_out), &mut fast_x[..], &mut fast_weights[..]));
    let fast = case.op.fast(Precision::F32, &narrow(weights), &narrow(x), gradients);
    assert_close(&case.name, "output", &fast, &out, TOLERANCE);
    assert_close(&case.name, "output without saving", &alone, &out, TOLERANCE);
    assert_close(&case.name, "gradient of the input", &fast_x, &grad_x, TOLERANCE);
    assert_close(&case.name, "gradient of the weights", &fast_weights, &grad_weights, TOLERANCE);
    grad_x.iter().zip(before_x).map(|(grad, before)| grad - before).collect()
}

#[test]
fn fast_equals_reference() {
    for case in cases() {
        let (weights, x, grad_out) = case.values(2);
        assert_equals_reference(&case, &weights, &x, &grad_out);
    }
}

/// A loss on removed patches says nothing of the visible rows: what such zeros are multiplied with is skipped, but through
/// the response normalisation these rows have gradients all the same.
#[test]
fn rows_without_a_gradient_are_as_in_the_reference() {
    let grid = Grid::Dense(3, 5);
    let op = Block { samples: 3, grid, sizes: [184, 720, 7], flavour: Flavour::V2, drop: None };
    let case = Case { name: "block of which some rows matter".into(), op: Box::new(op) };
    for kept in [[1, 4, 7], [0, 2, 11], [15, 15, 15]] {
        let (weights, x, mut grad_out) = case.values(6);
        for (row, grad) in grad_out.chunks_exact_mut(184).enumerate() {
            if !kept.contains(&(row % 15)) {
                grad.fill(0.0);
            }
        }
        let grad_x = assert_equals_reference(&case, &weights, &x, &grad_out);
        let visible = grad_x.chunks_exact(184).enumerate().find(|(row, _)| !kept.contains(&(row % 15)));
        assert_eq!(visible.unwrap().1.iter().any(|&x| x != 0.0), kept[0] < 15, "through the normalisation");
    }
}

/// Samples of 132 rows that would be worked on alone under smaller matrices, too many of V2's for panels. As large a case
/// runs here only, not at every level.
#[test]
fn large_samples_under_large_matrices_are_as_in_the_reference() {
    for (samples, flavour) in [(3, Flavour::V1), (8, Flavour::V2)] {
        let drop = Some([1.25, 0.0, 0.5].into_iter().cycle().take(samples).collect());
        let op = Block { samples, grid: Grid::Dense(11, 12), sizes: [128, 2048, 1], flavour, drop };
        let case = Case { name: format!("block of large matrices {flavour:?}"), op: Box::new(op) };
        let (weights, x, grad_out) = case.values(7);
        assert_equals_reference(&case, &weights, &x, &grad_out);
    }
}

/// An operand rounded to bf16 is off by 2^-9 of itself at most, 1e-3 in the root of the mean square; so is a sum of their
/// products. Through the six products between an output and a gradient that is 3e-3, and a gradient in which much
/// cancels, as that of a normalisation's input, keeps the error and loses the length.
const BF16_TOLERANCE: f64 = 2e-2;

#[test]
fn bf16_is_near_the_reference() {
    for case in cases() {
        let (weights, x, grad_out) = case.values(2);
        let (mut grad_x, mut grad_weights) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
        let out = case.op.reference(&weights, &x);
        case.op.reference_backward(&weights, &x, &grad_out, &mut grad_x, &mut grad_weights);

        let (mut fast_x, mut fast_weights) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
        let gradients = Some((narrow(&grad_out), &mut fast_x[..], &mut fast_weights[..]));
        let fast = case.op.fast(Precision::Bf16, &narrow(&weights), &narrow(&x), gradients);
        for (what, fast, exact) in [
            ("output", &fast, &out),
            ("gradient of the input", &fast_x, &grad_x),
            ("of the weights", &fast_weights, &grad_weights),
        ] {
            let error = relative(fast, exact);
            println!("{} {what} {error:.1e}", case.name);
            assert!(error <= BF16_TOLERANCE, "{}: {what}: {error:.1e}", case.name);
        }
    }
}

/// Length of the difference over the length of what is expected.
fn relative(found: &[f32], exact: &[f64]) -> f64 {
    let difference: f64 = found.iter().zip(exact).map(|(&found, exact)| (f64::from(found) - exact).powi(2)).sum();
    let length: f64 = exact.iter().map(|exact| exact * exact).sum();
    if difference == 0.0 { 0.0 } else { (difference / length).sqrt() }
}

#[test]
fn every_level_equals_the_reference() {
    for level in Level::available() {
        for test in ["fast_equals_reference", "bf16_is_near_the_reference"] {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", test]).env(Level::VARIABLE, level.name());
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && text.contains("1 passed"), "{level}: {text}");
        }
    }
}

#[test]
fn threads_change_no_bit() {
    threads_change_nothing(Precision::F32);
}

#[test]
fn threads_change_no_bit_in_bf16() {
    threads_change_nothing(Precision::Bf16);
}

fn threads_change_nothing(precision: Precision) {
    for case in cases() {
        let (weights, x, grad_out) = case.values(5);
        let run = || {
            let (mut grad_x, mut grad_weights) = (vec![0.0; x.len()], vec![0.0; weights.len()]);
            let gradients = Some((narrow(&grad_out), &mut grad_x[..], &mut grad_weights[..]));
            let out = case.op.fast(precision, &narrow(&weights), &narrow(&x), gradients);
            [out, grad_x, grad_weights].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let with = |threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run);
        let one = with(1);
        for threads in [2, 8] {
            assert!(with(threads) == one, "{}: {threads} threads", case.name);
        }
    }
}
