//! The traps of the mathematics and of the device, by name.

use convnext_core::{
    launch::{
        element::Element,
        geometry::{Geometry, TableValues, Tables},
        kernels::{
            bias::add_bias,
            images::{self, Bytes},
            layer_norm::{LayerNorm, Statistics},
            reduce,
        },
        schedule::{Lifetime, Parameter, Schedule, View},
    },
    ops::{
        block::{self, Flavour},
        stem,
    },
    optim::{self, AdamW, Ema, Optimizer, Rule, clip_scale, global_norm},
    visibility::Visibility,
};
use half::bf16;

use crate::{
    distance,
    host::Memory,
    operations::{narrow, random, visibility, widen},
};

/// A schedule, and what its inputs hold.
#[derive(Default)]
struct Inputs {
    schedule: Schedule,
    values: Vec<(View, Vec<f64>)>,
}

impl Inputs {
    fn add(&mut self, name: &str, element: Element, values: Vec<f64>) -> View {
        let view = self.schedule.buffer(name, element, values.len(), Lifetime::Persistent);
        self.values.push((view, values));
        view
    }

    fn parameter(&mut self, name: &str, values: Vec<f64>) -> Parameter {
        let gradient = self.add("gradient", Element::F32, vec![0.0; values.len()]);
        let value = self.add(name, Element::F32, values);
        Parameter { value, mirror: value, gradient }
    }

    fn tables(&mut self, visible: &Visibility) -> Tables {
        let (samples, patches) = (visible.samples(), visible.patches_per_sample());
        let tables = Tables::new(&mut self.schedule, samples, patches, visible.visible());
        let TableValues { visible, slots, removed } = TableValues::from(visible);
        self.values.push((tables.visible, visible.into_iter().map(f64::from).collect()));
        self.values.push((tables.slots, slots.into_iter().map(f64::from).collect()));
        self.values.push((tables.removed, removed.into_iter().map(f64::from).collect()));
        tables
    }

    fn run(&self) -> Memory {
        let mut memory = Memory::new(&self.schedule);
        for (view, values) in &self.values {
            memory.set(view, values);
        }
        memory.run(&self.schedule, 0);
        memory
    }
}

fn block_shape(samples: usize) -> block::cuda::Shape {
    block::cuda::Shape {
        samples,
        geometry: Geometry::Dense { height: 3, width: 4 },
        channels: 4,
        hidden: 8,
        kernel: 3,
        flavour: Flavour::V2,
        real: Element::F32,
    }
}

/// The output of a block, and the gradients of its input and parameters.
fn run_block(x: &[f64], change: impl Fn(&str, &mut Vec<f64>)) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut inputs = Inputs::default();
    let shape = block_shape(x.len() / 48);
    let mut gradients = Vec::new();
    let parameters = block::cuda::Parameters::named(&shape.layer(), |name, length| {
        let mut values = random(name.len() as u64, length);
        change(name, &mut values);
        let parameter = inputs.parameter(name, values);
        gradients.push(parameter.gradient);
        parameter
    });
    let x = inputs.add("x", Element::F32, x.to_vec());
    let grad = inputs.add("grad", Element::F32, random(9, x.length));
    gradients.push(grad);
    let (out, saved) = block::cuda::forward(&mut inputs.schedule, &shape, &parameters, None, None, x).unwrap();
    inputs.schedule.keep(out);
    block::cuda::backward(&mut inputs.schedule, &shape, &parameters, None, None, &saved, grad).unwrap();
    let memory = inputs.run();
    (memory.get(&out), gradients.iter().map(|view| memory.get(view)).collect())
}

#[test]
fn a_sample_does_not_depend_on_its_batch_mates() {
    let x = random(1, 3 * 48);
    let (together, _) = run_block(&x, |_, _| {});
    for sample in 0..3 {
        let range = sample * 48..(sample + 1) * 48;
        let (alone, _) = run_block(&x[range.clone()], |_, _| {});
        assert!(distance(&together[range], &alone, &[]) < 1e-6);
    }
}

#[test]
fn a_feature_that_is_zero_everywhere_has_gradients() {
    // Column 5 of W1 and its bias are 0: the feature is gelu(0) = 0 in every cell, and so is its norm.
    let (out, gradients) = run_block(&random(1, 48), |name, values| match name {
        "pwconv1.weight" => (0..4).for_each(|row| values[row * 8 + 5] = 0.0),
        "pwconv1.bias" => values[5] = 0.0,
        _ => {}
    });
    assert!(out.iter().chain(gradients.iter().flatten()).all(|value| value.is_finite()));
}

#[test]
fn pixels_under_the_mask_are_not_read() {
    let visible = visibility(2, 2, 3, 2);
    let geometry = Geometry::Sparse { side: 2, patches_high: 2, patches_wide: 3, visible: 2 };
    let shape = stem::cuda::Shape { samples: 2, geometry, stride: 2, channels: 1, dim: 4, real: Element::F32 };
    let run = |under: f64| {
        let mut inputs = Inputs::default();
        let mut images = random(3, 2 * 8 * 12);
        for (at, pixel) in images.iter_mut().enumerate() {
            let (sample, y, x) = (at / 96, at % 96 / 12, at % 12);
            if visible.slot(sample, y / 4, x / 4).is_none() {
                *pixel = under;
            }
        }
        let images = inputs.add("images", Element::F32, images);
        let tables = inputs.tables(&visible);
        let parameters = stem::cuda::Parameters::named(&shape.layer(), |name, length| {
            inputs.parameter(name, random(name.len() as u64, length))
        });
        let grad = inputs.add("grad", Element::F32, random(9, 2 * 8 * 4));
        let s = &mut inputs.schedule;
        let (out, saved) = stem::cuda::forward(s, &shape, &parameters, Some(&tables), images).unwrap();
        s.keep(out);
        stem::cuda::backward(s, &shape, &parameters, Some(&tables), images, &saved, grad, None).unwrap();
        let memory = inputs.run();
        [out, parameters.conv.gradient].map(|view| memory.get(&view))
    };
    let bits = |values: [Vec<f64>; 2]| values.map(|values| values.into_iter().map(f64::to_bits).collect::<Vec<_>>());
    assert_eq!(bits(run(0.0)), bits(run(f64::NAN)));
}

/// Rules that start and end inside chunks, one of them empty, one across several chunks.
fn rules() -> Vec<Rule> {
    let rule = |range, decays, lr_scale| Rule { range, decays, lr_scale };
    vec![rule(0..7, true, 1.0), rule(7..7, true, 1.0), rule(7..3000, false, 0.5), rule(3000..5001, true, 0.1)]
}

/// Parameters, moments and average after some updates on both sides; `spoil` changes a step's gradients and loss.
fn updates(
    steps: u64,
    real: Element,
    max_norm: f64,
    spoil: impl Fn(u64, &mut [f64], &mut f64),
) -> ([Vec<f64>; 4], [Vec<f64>; 4]) {
    let (length, ema) = (5001, Ema { decay: 0.9, warmup: true });
    let mut plain = narrow(&random(1, length));
    let mut optimizer = Optimizer::new(AdamW::default(), rules(), Some(ema), &plain);
    let start = widen(&plain);
    let mut found = [start.clone(), vec![0.0; length], vec![0.0; length], start];
    for step in 1..=steps {
        let mut gradients = random(step + 50, length);
        let mut losses = 8.0;
        spoil(step, &mut gradients, &mut losses);
        let (lr, update) = (1e-3 * step as f64, optimizer.updates() + 1);
        let scaled: Vec<f32> = gradients.iter().map(|&g| 0.25 * g as f32).collect();
        let norm = global_norm(&[&scaled]);
        let scale = clip_scale(norm, max_norm);
        let finite =
            norm.is_finite() && losses.is_finite() && optimizer.overflow(&plain, &scaled, norm, lr, scale).is_none();
        if finite {
            optimizer.step(&mut plain, &narrow(&gradients), lr, 0.25 * clip_scale(norm, max_norm));
        }
        let shape = optim::cuda::Shape { length, rules: 4, ema: true, real };
        let mut inputs = Inputs::default();
        let parameters = inputs.add("parameters", Element::F32, found[0].clone());
        let mirror = (real != Element::F32).then(|| inputs.add("mirror", real, found[0].clone()));
        let gradients = inputs.add("gradients", Element::F32, gradients);
        let state = optim::cuda::State::new(&mut inputs.schedule, &shape, parameters, mirror, gradients);
        let coefficients: Vec<_> = rules().iter().map(|rule| AdamW::default().coefficients(rule, lr, update)).collect();
        let average = state.average.unwrap();
        inputs.values.extend([
            (state.m, found[1].clone()),
            (state.v, found[2].clone()),
            (average, found[3].clone()),
            (state.ends, rules().iter().map(|rule| rule.range.end as f64).collect()),
            (state.coefficients, widen(&optim::cuda::coefficient_values(&coefficients))),
            (state.ema_rate, vec![ema.rate(update).into()]),
            (state.losses, vec![losses]),
        ]);
        optim::cuda::clip(&mut inputs.schedule, &shape, &state, 0.25, max_norm as f32).unwrap();
        optim::cuda::update(&mut inputs.schedule, &shape, &state).unwrap();
        let memory = inputs.run();
        found = [parameters, state.m, state.v, average].map(|view| memory.get(&view));
        if let Some(mirror) = mirror {
            assert!(distance(&memory.get(&mirror), &found[0], &[]) < 3e-3);
        }
        let status = memory.get(&state.status);
        assert_eq!(status[2] == 1.0, finite);
        assert!(!losses.is_finite() || status[3] == 2.0, "the mean of four losses whose sum is 8");
        assert!(!norm.is_finite() || (status[0] - norm).abs() <= 1e-6 * norm);
    }
    let expected = [&plain[..], optimizer.m(), optimizer.v(), optimizer.ema().unwrap()].map(widen);
    (found, expected)
}

#[test]
fn updates_are_the_cpu_s() {
    for (real, max_norm) in [(Element::F32, 1e9), (Element::F32, 0.5), (Element::Bf16, 0.5)] {
        let (found, expected) = updates(4, real, max_norm, |_, _, _| {});
        for (found, expected) in found.iter().zip(&expected) {
            assert!(distance(found, expected, &[]) < 1e-6);
        }
    }
}

#[test]
fn a_gradient_or_a_loss_that_is_not_finite_moves_nothing() {
    for bad in [f64::NAN, f64::INFINITY] {
        let by_gradient = updates(3, Element::F32, 0.5, |step, gradients, _| {
            if step == 2 {
                gradients[4999] = bad;
            }
        });
        let by_loss = updates(3, Element::F32, 0.5, |step, _, losses| {
            if step == 2 {
                *losses = bad;
            }
        });
        for (found, expected) in [by_gradient, by_loss] {
            for (found, expected) in found.iter().zip(&expected) {
                assert!(distance(found, expected, &[]) < 1e-6);
            }
        }
    }
}

#[test]
fn an_update_that_overflows_moves_nothing() {
    // Unclipped, the second moment of 0.25e25 is 6e45: no f32.
    let (found, expected) = updates(3, Element::F32, 1e30, |step, gradients, _| {
        if step == 2 {
            gradients[4999] = 1e25;
        }
    });
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.iter().all(|value| value.is_finite()) && distance(found, expected, &[]) < 1e-6);
    }
}

#[test]
fn squares_of_large_gradients_do_not_overflow() {
    let (found, expected) = updates(1, Element::F32, 0.5, |_, gradients, _| gradients[3] = 1e30);
    assert!(distance(&found[0], &expected[0], &[]) < 1e-6);
}

/// Sums of other lengths in one launch, and more of them than one launch takes.
#[test]
fn many_partial_sums_are_joined() {
    let sizes = [
        (700, 41, 37),
        (3, 64, 64),
        (1, 1, 1),
        (40, 33, 33),
        (0, 5, 5),
        (9, 8, 2),
        (1024, 2, 1),
        (2, 9, 9),
        (33, 70, 65),
    ];
    let mut inputs = Inputs::default();
    let mut cases = Vec::new();
    for (seed, (rows, stride, columns)) in sizes.into_iter().enumerate() {
        let (values, first) = (random(seed as u64, rows * stride), stride - columns);
        let mut expected = vec![0.5; columns];
        for row in values.chunks_exact(stride) {
            expected.iter_mut().zip(&row[first..]).for_each(|(sum, value)| *sum += value);
        }
        // A view of no values has no columns to begin after.
        let first = if rows == 0 { 0 } else { first };
        let partial = inputs.add("partial", Element::F32, values);
        let out = inputs.add("out", Element::F32, vec![0.5; columns]);
        cases.push((reduce::Sum { partial, rows, stride, first, out }, expected));
    }
    let sums: Vec<_> = cases.iter().map(|(sum, _)| *sum).collect();
    reduce::sum_rows(&mut inputs.schedule, &sums, true).unwrap();
    let memory = inputs.run();
    for (sum, expected) in cases {
        assert!(distance(&memory.get(&sum.out), &expected, &[]) < 1e-6, "{sum:?}");
    }
}

/// More rows than the most blocks take in one round.
#[test]
fn blocks_walk_on_by_the_whole_grid() {
    let rows = 1_100_000;
    let mut inputs = Inputs::default();
    let values = random(1, rows);
    let expected = values.iter().sum::<f64>();
    let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let x = inputs.add("x", Element::F32, values);
    let out = inputs.add("out", Element::F32, vec![0.0]);
    let sum = reduce::column_sums(&mut inputs.schedule, x, rows, out).unwrap();
    reduce::sum_rows(&mut inputs.schedule, &[sum], true).unwrap();
    assert!((inputs.run().get(&out)[0] - expected).abs() < 1e-6 * norm);
}

/// The same for the backward pass of layer normalisation, whose blocks walk over tiles of rows.
#[test]
fn layer_norm_walks_on_by_the_whole_grid() {
    let (rows, channels) = (140_000, 3);
    let norm = LayerNorm { rows, channels, line: 0, real: Element::F32 };
    let mut inputs = Inputs::default();
    let (x, grad) = (random(1, rows * channels), random(2, rows * channels));
    let mut expected = vec![0.0; channels];
    for (x, grad) in x.chunks_exact(channels).zip(grad.chunks_exact(channels)) {
        let mean = x.iter().sum::<f64>() / channels as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / channels as f64;
        for c in 0..channels {
            expected[c] += grad[c] * (x[c] - mean) / (variance + 1e-6).sqrt();
        }
    }
    let [x, grad] = [x, grad].map(|values| inputs.add("x", Element::F32, values));
    let weight = inputs.parameter("weight", vec![1.0; channels]);
    let bias = inputs.parameter("bias", vec![0.0; channels]);
    let s = &mut inputs.schedule;
    let statistics = Statistics::new(s, rows);
    let z = s.temporary("z", Element::F32, rows * channels);
    norm.forward(s, x, (weight.value, bias.value), z, statistics).unwrap();
    let sums = &mut Vec::new();
    norm.backward(s, (grad, grad), x, statistics, (&weight, &bias), None, sums).unwrap();
    reduce::sum_rows(s, sums, true).unwrap();
    assert!(distance(&inputs.run().get(&weight.gradient), &expected, &[]) < 1e-5);
}

/// Bytes, flipped and mixed, as the plain loops of mixup and CutMix do it: to the bit for CutMix, which only moves pixels.
#[test]
fn images_are_normalised_flipped_and_mixed() {
    let shape = images::Shape { samples: 5, height: 4, width: 6, channels: 3 };
    let bytes: Vec<f64> = random(1, 5 * 72).into_iter().map(|value| (value.abs() * 255.0).floor()).collect();
    let table = random(2, 3 * 256);
    let flips = [1.0, 0.0, 0.0, 1.0, 0.0];
    let normal = |n: usize, y: usize, x: usize, c: usize| {
        let x = if flips[n] == 1.0 { 5 - x } else { x };
        table[c * 256 + bytes[((n * 4 + y) * 6 + x) * 3 + c] as usize]
    };
    for (share, [top, bottom, left, right]) in [(1.0, [0; 4]), (0.75, [0; 4]), (1.0, [1, 3, 2, 6])] {
        let mut inputs = Inputs::default();
        let view = inputs.schedule.buffer("images", Element::F32, 5 * 72, Lifetime::Persistent);
        let Bytes { bytes: from, table: to, flips: mirrored, mix } =
            images::prepare(&mut inputs.schedule, &shape, view).unwrap();
        let how = images::mix(share as f32, [top, bottom, left, right]);
        inputs.values.extend([
            (from, bytes.clone()),
            (to, table.clone()),
            (mirrored, flips.to_vec()),
            (mix, widen(&how)),
        ]);
        let found = inputs.run().get(&view);
        for (at, found) in found.into_iter().enumerate() {
            let (n, y, x, c) = (at / 72, at % 72 / 18, at % 18 / 3, at % 3);
            let boxed = (top..bottom).contains(&y) && (left..right).contains(&x);
            let (own, other) = (normal(n, y, x, c), normal(4 - n, y, x, c));
            let expected = if boxed { other } else { share * own + (1.0 - share) * other };
            assert!((found - expected).abs() <= if share == 1.0 { 0.0 } else { 1e-7 }, "{n} {y} {x} {c}");
        }
    }
}

/// Where the library of products adds no bias, a kernel does.
#[test]
fn a_bias_is_added_to_every_row() {
    // A sum is rounded by 2^-24 or 2^-9 of itself at most; what is summed is exact in either type.
    let exact = |seed, length| random(seed, length).into_iter().map(|value| bf16::from_f64(value).to_f64()).collect();
    for (real, tolerance) in [(Element::F32, 6e-8), (Element::Bf16, 2e-3)] {
        for (rows, columns) in [(1, 10), (7, 1), (300, 33)] {
            let mut inputs = Inputs::default();
            let (values, more): (Vec<f64>, Vec<f64>) = (exact(1, rows * columns), exact(2, columns));
            let (x, bias) = (inputs.add("x", real, values.clone()), inputs.add("bias", real, more.clone()));
            add_bias(&mut inputs.schedule, x, bias).unwrap();
            let expected: Vec<f64> = values.iter().enumerate().map(|(at, value)| value + more[at % columns]).collect();
            assert!(distance(&inputs.run().get(&x), &expected, &[]) < tolerance, "{real:?} {rows} {columns}");
        }
    }
}
