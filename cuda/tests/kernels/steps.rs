//! Whole training steps on the CPU: the schedule's loss, gradients and update against the CPU executor's.

use std::sync::Arc;

use convnext_core::{
    Entry, Variant, convnext,
    dfdx::{prelude::Gradients, tensor::Cpu},
    launch::{element::Element, geometry::TableValues, schedule::View},
    optim::{self, AdamW, Ema, LayerDecay, Layout, Optimizer, clip_scale, global_norm},
    plan::Plan,
    visibility::Visibility,
};
use convnext_cuda::training::{Options, TrainingStep, autoencoder, classifier};

use crate::{
    distance,
    host::Memory,
    operations::{narrow, random, visibility, widen},
};

convnext! {
    /// Two stages, patches of four and two cells, a decoder.
    pub(crate) model Small {
        input: 16 x 24 x 3,
        stem: 2,
        head: 5,
        stages: [8 x 1, 16 x 2 kernel 5],
        fcmae: { patch: 8, mask: 0.5, decoder: 12 x 1 },
    }

    /// The blocks of the first ConvNeXt.
    model SmallV1 { input: 8 x 8 x 1, stem: 2, head: 3, block: V1, stages: [8 x 1, 16 x 1] }
}

const SAMPLES: usize = 3;
const LR: f64 = 1e-2;
const MAX_NORM: f64 = 0.5;
const EMA: Ema = Ema { decay: 0.9, warmup: false };

fn options(real: Element) -> Options {
    Options { samples: SAMPLES, real, max_norm: MAX_NORM as f32, ema: true, drop_path: false, bytes: false }
}

/// A model's parameters, and what one step on the CPU makes of them.
struct Expected {
    layout: Layout,
    before: Vec<f32>,
    loss: f64,
    gradients: Vec<f32>,
    optimizer: Optimizer,
    after: Vec<f32>,
    rules: Vec<optim::Rule>,
}

impl Expected {
    fn new(layout: Layout, before: Vec<f32>, loss: f32, gradients: Vec<f32>, plan: &Plan) -> Self {
        let rules = optim::rules(&layout, plan, Some(LayerDecay::single(0.8))).unwrap();
        let mut optimizer = Optimizer::new(AdamW::default(), rules.clone(), Some(EMA), &before);
        let mut after = before.clone();
        let scale = clip_scale(global_norm(&[&gradients]), MAX_NORM);
        optimizer.step(&mut after, &gradients, LR, scale);
        Self { layout, before, loss: loss.into(), gradients, optimizer, after, rules }
    }

    /// Runs the step and compares everything that it leaves.
    fn check(&self, step: &TrainingStep, inputs: &[(View, Vec<f64>)], tolerance: f64) {
        let mut memory = Memory::new(&step.schedule);
        for (view, values) in inputs {
            memory.set(view, values);
        }
        let spread = |flat: &[f32]| widen(&step.layout.spread(&self.layout, flat));
        let zeros = vec![0.0; step.layout.length()];
        let rules = step.layout.rules(&self.layout, &self.rules);
        let coefficients: Vec<_> = rules.iter().map(|rule| AdamW::default().coefficients(rule, LR, 1)).collect();
        let state = &step.state;
        memory.set(&state.parameters, &spread(&self.before));
        if let Some(mirror) = &state.mirror {
            memory.set(mirror, &spread(&self.before));
        }
        memory.set(&state.m, &zeros);
        memory.set(&state.v, &zeros);
        memory.set(&state.average.unwrap(), &spread(&self.before));
        memory.set(&state.ends, &step.layout.ends().into_iter().map(f64::from).collect::<Vec<_>>());
        memory.set(&state.coefficients, &widen(&optim::cuda::coefficient_values(&coefficients)));
        memory.set(&state.ema_rate, &[EMA.rate(1).into()]);
        memory.run(&step.schedule, 0);

        let close = |what: &str, view: &View, expected: &[f64]| {
            let error = distance(&memory.get(view), expected, &[]);
            println!("{what:16} {:?} {error:.1e}", state.mirror.map_or("float", |mirror| mirror.element.c_type()));
            assert!(error <= tolerance, "{what} is wrong by {error:.1e} of its norm");
        };
        close("loss", &step.loss, &[self.loss]);
        close("gradients", &state.gradients, &spread(&self.gradients));
        close("norm", &state.status.part(0, 1), &[global_norm(&[&self.gradients])]);
        close("first moments", &state.m, &spread(self.optimizer.m()));
        close("parameters", &state.parameters, &spread(&self.after));
        close("average", &state.average.unwrap(), &spread(self.optimizer.ema().unwrap()));
        for (name, range) in step.layout.parameters() {
            let expected = widen(self.layout.view(&self.gradients, name).unwrap());
            let part = memory.get(&state.gradients.part(range.start, range.len()));
            let error = distance(&part, &expected, &[]);
            assert!(error <= 10.0 * tolerance, "gradient of {name} is wrong by {error:.1e} of its norm");
        }
    }
}

/// f32: what the two sum in another order. bf16: a dozen layers of what is rounded to 2e-3.
fn tolerance(real: Element) -> f64 {
    if real == Element::F32 { 2e-6 } else { 2e-2 }
}

fn parameters(length: usize) -> Vec<f32> {
    narrow(&random(11, length).into_iter().map(|value| 0.4 * value).collect::<Vec<_>>())
}

fn pretraining(entry: Entry, visible: Visibility) {
    let plan = entry.plan;
    let device = Cpu::default();
    let mut model = entry.autoencoder(&device).unwrap().unwrap();
    let layout = model.layout();
    let before = parameters(layout.len());
    model.write(&before);
    let images = random(12, SAMPLES * plan.height * plan.width * plan.channels);
    let visible = Arc::new(visible);
    let (loss, mut gradients) = model.step(&device, &narrow(&images), &visible, Gradients::leaky()).unwrap();
    let flat = model.take_gradients(&mut gradients).unwrap().concat();
    let expected = Expected::new(layout, before, loss, flat, &plan);
    for real in [Element::F32, Element::Bf16] {
        let step = autoencoder(&plan, &options(real)).unwrap();
        let tables = step.tables.unwrap();
        let TableValues { visible, slots, removed } = TableValues::from(&*visible);
        let inputs = [
            (step.images, images.clone()),
            (tables.visible, visible.into_iter().map(f64::from).collect()),
            (tables.slots, slots.into_iter().map(f64::from).collect()),
            (tables.removed, removed.into_iter().map(f64::from).collect()),
        ];
        expected.check(&step, &inputs, tolerance(real));
    }
}

fn finetuning(entry: Entry) {
    let plan = entry.plan;
    let device = Cpu::default();
    let mut model = entry.classifier(&device).unwrap();
    model.set_drop_path(0.0);
    let layout = model.layout();
    let before = parameters(layout.len());
    model.write(&before);
    let images = random(12, SAMPLES * plan.height * plan.width * plan.channels);
    let targets: Vec<f64> = random(13, SAMPLES * plan.classes).into_iter().map(f64::abs).collect();
    let step = model.step(&device, &narrow(&images), narrow(&targets), SAMPLES, Gradients::leaky());
    let (loss, mut gradients) = step.unwrap();
    let flat = model.take_gradients(&mut gradients).unwrap().concat();
    let expected = Expected::new(layout, before, loss, flat, &plan);
    for real in [Element::F32, Element::Bf16] {
        let step = classifier(&plan, &options(real)).unwrap();
        let inputs = [(step.images, images.clone()), (step.targets.unwrap(), targets.clone())];
        expected.check(&step, &inputs, tolerance(real));
    }
}

#[test]
fn a_pretraining_step_equals_the_cpu_s() {
    pretraining(Small::entry(), visibility(SAMPLES, 2, 3, 3));
}

#[test]
fn a_finetuning_step_equals_the_cpu_s() {
    finetuning(Small::entry());
    finetuning(SmallV1::entry());
}
