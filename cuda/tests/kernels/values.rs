//! GELU and rounding to bf16, value by value, through the kernels that use them.

use std::f64::consts::{PI, SQRT_2};

use convnext_core::{
    launch::{
        element::Element,
        kernel::{Module, Source},
        schedule::{
            Argument::{self, Int, Null, Read, Write},
            Lifetime, Schedule, View,
        },
    },
    ops::block::cuda::{HIDDEN_V1, HIDDEN_V2, RESIDUAL_V2},
};
use half::bf16;

use crate::{
    host::{Memory, encode},
    operations::random,
};

/// A launch on its own: buffers with what they hold.
#[derive(Default)]
struct Launch {
    schedule: Schedule,
    contents: Vec<(View, Vec<u8>)>,
}

impl Launch {
    fn buffer(&mut self, element: Element, length: usize) -> View {
        self.schedule.buffer("values", element, length, Lifetime::Persistent)
    }

    fn bytes(&mut self, element: Element, bytes: Vec<u8>) -> View {
        let view = self.buffer(element, bytes.len() / element.bytes());
        self.contents.push((view, bytes));
        view
    }

    fn values(&mut self, element: Element, values: &[f64]) -> View {
        self.bytes(element, encode(element, values))
    }

    fn run(mut self, module: &Module, kernel: &'static str, grid: [usize; 3], arguments: Vec<Argument>) -> Memory {
        self.schedule.launch(module, kernel, grid, 256, arguments).unwrap();
        let mut memory = Memory::new(&self.schedule);
        for (view, bytes) in &self.contents {
            memory.set_bytes(view, bytes);
        }
        memory.run(&self.schedule, 0);
        memory
    }
}

/// `SIDE` samples of one row of `SIDE` features: every bf16 once.
const SIDE: usize = 256;

fn hidden(source: &'static Source, real: Element) -> Module {
    let vector = 16 / real.bytes();
    let lanes = SIDE / vector;
    let module = Module::new(source, real).with("FEATURES", SIDE).with("ROWS", 1).with("SEGMENT", 1);
    let module = module.with("SEGMENTS", 1).with_flag("GRN", *source == HIDDEN_V2).with("FINISH", 64);
    module.with("VECTOR", vector).with("LANES", lanes).with("GROUPS", 256 / lanes).with("THREADS", 256)
}

/// Every bf16, as memory of a type.
fn every_bf16(real: Element) -> Vec<u8> {
    let all = (0..=u16::MAX).map(bf16::from_bits);
    match real {
        Element::Bf16 => all.flat_map(bf16::to_le_bytes).collect(),
        _ => all.flat_map(|value| value.to_f32().to_le_bytes()).collect(),
    }
}

/// For every bf16 and a few shifts by a bias: `(x, |gelu(x)|, slope)`, before anything is rounded to bf16.
fn measured(real: Element) -> Vec<(f64, f64, f64)> {
    let mut list = Vec::new();
    for bias in [vec![0.0; SIDE], random(1, SIDE), random(2, SIDE).iter().map(|x| 3.0 * x).collect()] {
        let mut launch = Launch::default();
        let h = launch.bytes(real, every_bf16(real));
        let add = launch.values(Element::F32, &bias);
        let squares = launch.buffer(Element::F32, SIDE * SIDE);
        let arguments = vec![Read(h), Read(add), Write(squares)];
        let memory = launch.run(&hidden(&HIDDEN_V2, real), "grn_statistics", [SIDE, 1, 1], arguments);
        let values = memory.get(&squares).into_iter().map(f64::sqrt);

        let mut launch = Launch::default();
        let h = launch.bytes(real, every_bf16(real));
        let add = launch.values(Element::F32, &bias);
        let grad_u = launch.values(real, &vec![1.0; SIDE * SIDE]);
        let [grad_h, u] = [(); 2].map(|()| launch.buffer(real, SIDE * SIDE));
        let slopes = launch.buffer(Element::F32, SIDE * SIDE);
        let arguments =
            vec![Read(h), Read(add), Null, Null, Null, Read(grad_u), Write(grad_h), Write(u), Write(slopes)];
        let memory = launch.run(&hidden(&HIDDEN_V1, real), "hidden_backward", [SIDE, 1, 1], arguments);

        let all = (0..=u16::MAX).map(|bits| bf16::from_bits(bits).to_f32());
        let x = all.zip(bias.iter().cycle()).map(|(value, &bias)| f64::from(value + bias as f32));
        list.extend(x.zip(values).zip(memory.get(&slopes)).map(|((x, value), slope)| (x, value, slope)));
    }
    list
}

fn gelu(x: f64) -> f64 {
    0.5 * x * libm::erfc(-x / SQRT_2)
}

fn slope(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// For bf16, which rounds to 4e-3 of a value, GELU is a polynomial in an exponent: what its comment says of its error is
/// so. f32 has erff: its error is that of the sum `1 + erf`, 6e-8 of one, times `x`.
#[test]
fn gelu_is_as_exact_as_its_type() {
    for real in [Element::Bf16, Element::F32] {
        let (mut worst, mut worst_slope) = (0.0f64, 0.0f64);
        for (x, value, steepness) in measured(real) {
            if x.is_nan() {
                assert!(value.is_nan() && steepness.is_nan(), "{real:?}: NaN is lost");
                continue;
            }
            if x.is_infinite() {
                if real == Element::Bf16 {
                    let (limit, flat) = if x > 0.0 { (f64::INFINITY, 1.0) } else { (0.0, 0.0) };
                    assert!(value == limit || value < 1e-13, "gelu({x}) is {value}");
                    assert!((steepness - flat).abs() < 1e-12, "the slope at {x} is {steepness}");
                }
                continue;
            }
            let (error, exact) = ((value - gelu(x).abs()).abs(), gelu(x).abs());
            let error_of_slope = (steepness - slope(x)).abs();
            // Squares that f32 can hold.
            if (1e-18..1e18).contains(&exact) {
                let allowed = match real {
                    Element::F32 => 2e-7 * x.abs(),
                    _ if x < -3.0 => 2e-6,
                    _ => 1.7e-5f64.min(5e-4 * exact) + 1e-7 * exact,
                };
                assert!(error <= allowed, "{real:?}: gelu({x}) is {value}, and should be {exact}");
                worst = worst.max(error / exact.max(1.0));
            }
            let allowed = if real == Element::F32 { 5e-7 } else { 2.2e-4 };
            assert!(error_of_slope <= allowed, "{real:?}: the slope at {x} is {steepness}, and should be {}", slope(x));
            worst_slope = worst_slope.max(error_of_slope);
        }
        println!("{real:?}: {worst:.1e} of gelu or of one, {worst_slope:.1e} of its slope");
    }
}

/// What is stored is rounded to the nearest bf16, ties to even, and every NaN is the same one: in vectors of every width.
#[test]
fn bf16_is_rounded_to_nearest() {
    const COUNT: usize = 4096;
    let awkward =
        [0x7f80_0001, 0xffc1_2345, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff, 0x3f80_8000, 0x3f81_8000, 1, 0x8000];
    let mut state = 1u64;
    let mut bits = awkward.to_vec();
    bits.resize_with(COUNT, || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 32) as u32
    });
    let expected = bits.iter().map(|&bits| match f32::from_bits(bits) {
        nan if nan.is_nan() => 0x7fff,
        value => bf16::from_f32(value + 0.0).to_bits(),
    });
    let expected: Vec<u16> = expected.collect();
    for vector in [8, 4, 2, 1] {
        let mut launch = Launch::default();
        // 0 + (0 + bias)
        let x = launch.values(Element::Bf16, &[0.0; COUNT]);
        let branch = launch.values(Element::Bf16, &[0.0; COUNT]);
        let bias = launch.bytes(Element::F32, bits.iter().flat_map(|bits| bits.to_le_bytes()).collect());
        let out = launch.buffer(Element::Bf16, COUNT);
        let module = Module::new(&RESIDUAL_V2, Element::Bf16).with("CHANNELS", COUNT).with("SCALE", 0);
        let module = module.with("DROP", 0).with("VECTOR", vector).with("LANES", 256).with("GROUPS", 1);
        let arguments = vec![Read(x), Read(branch), Read(bias), Null, Null, Write(out), Int(1)];
        let chunks = COUNT / vector / 256;
        let memory = launch.run(&module.with("THREADS", 256), "residual_forward", [1, chunks, 1], arguments);
        let found = memory.get_bytes(&out).chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        for ((found, expected), bits) in found.zip(&expected).zip(&bits) {
            assert_eq!(found, *expected, "{bits:#x} in vectors of {vector}");
        }
    }
}
