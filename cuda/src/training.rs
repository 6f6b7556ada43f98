//! Whole steps: forward, loss, backward, clipping, update, from images to new parameters, as one schedule.
//!
//! Everything that changes from step to step is a buffer that somebody fills before: images, targets, masks, drop-path
//! scales, the coefficients of the update. So a schedule can be captured once and replayed.
//!
//! Gradients of several batches make one step by running a part of the schedule more than once: see [`Phase`].

use std::{collections::HashMap, ops::Range};

use convnext_core::{
    launch::{
        element::Element,
        geometry::Tables,
        kernels::{
            images::{self, Bytes},
            reduce,
        },
        operation::{BatchShape, Inputs},
        schedule::{
            Lifetime::{self, Persistent, Temporary},
            PARAMETER_ALIGNMENT, Parameter, Schedule, ScheduleError, Step, View,
        },
    },
    network::{self, Network},
    ops::cross_entropy,
    optim::{self, Layout, Rule},
    plan::Plan,
};

use crate::network as on_device;

/// What a step is built for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Samples of a batch.
    pub samples: usize,
    /// Type of the activations: f32 or bf16.
    pub real: Element,
    /// Largest norm of the gradient; 0 does not clip.
    pub max_norm: f32,
    /// Whether a moving average of the parameters is kept.
    pub ema: bool,
    /// Whether blocks get scales of their drop path: all but the first, whose rate is always 0.
    pub drop_path: bool,
    /// Whether images arrive as bytes, and are normalised, flipped and mixed by the step.
    pub bytes: bool,
}

impl Options {
    fn batch(&self) -> BatchShape {
        BatchShape { samples: self.samples, real: self.real }
    }
}

/// Where a model's parameters lie in the device's flat buffers: in the order of the network, each aligned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParameterLayout {
    names: Vec<String>,
    ranges: Vec<Range<usize>>,
}

impl ParameterLayout {
    fn push(&mut self, name: String, length: usize) {
        let start = self.length();
        self.names.push(name);
        self.ranges.push(start..start + length);
    }

    /// Values of a flat buffer, padding included.
    pub fn length(&self) -> usize {
        self.ranges.last().map_or(0, |range| range.end.next_multiple_of(PARAMETER_ALIGNMENT))
    }

    /// Names and places, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.names.iter().map(String::as_str).zip(self.ranges.iter().cloned())
    }

    /// Every parameter's places here and in `layout`.
    ///
    /// # Panics
    /// If the two do not hold the same parameters: they are laid out from one plan.
    fn pairs<'a>(&'a self, layout: &'a Layout) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + 'a {
        assert_eq!(self.names.len(), layout.segments().len(), "layouts of two models");
        self.parameters().map(|(name, here)| {
            let there = layout.get(name).unwrap_or_else(|| panic!("`{name}` is not in the model's layout"));
            assert_eq!(here.len(), there.range.len(), "`{name}` has two lengths");
            (here, there.range.clone())
        })
    }

    /// A flat buffer of the model as the device has it; padding is 0.
    pub fn spread(&self, layout: &Layout, flat: &[f32]) -> Vec<f32> {
        let mut spread = vec![0.0; self.length()];
        for (here, there) in self.pairs(layout) {
            spread[here].copy_from_slice(&flat[there]);
        }
        spread
    }

    /// A flat buffer of the device as the model has it.
    pub fn join(&self, layout: &Layout, spread: &[f32]) -> Vec<f32> {
        let mut flat = vec![0.0; layout.len()];
        for (here, there) in self.pairs(layout) {
            flat[there].copy_from_slice(&spread[here]);
        }
        flat
    }

    /// The optimiser's rules for the device's buffers; each covers the padding behind its parameter.
    pub fn rules(&self, layout: &Layout, rules: &[Rule]) -> Vec<Rule> {
        let by_start: HashMap<usize, &Rule> =
            rules.iter().filter(|rule| !rule.range.is_empty()).map(|rule| (rule.range.start, rule)).collect();
        let rule = |(here, there): (Range<usize>, Range<usize>)| {
            let rule = by_start[&there.start];
            Rule { range: here.start..here.end.next_multiple_of(PARAMETER_ALIGNMENT), ..rule.clone() }
        };
        self.pairs(layout).map(rule).collect()
    }

    /// Where each parameter's rule ends, as the device reads it.
    pub fn ends(&self) -> Vec<i32> {
        self.ranges.iter().map(|range| range.end.next_multiple_of(PARAMETER_ALIGNMENT) as i32).collect()
    }
}

/// Flat buffers of parameters, and which parameter lies where.
struct Flat {
    layout: ParameterLayout,
    values: View,
    mirror: Option<View>,
    gradients: View,
}

impl Flat {
    /// Buffers for the parameters of `network`, in its order.
    ///
    /// Gradients that no step touches take no memory if they are temporary.
    fn new(schedule: &mut Schedule, real: Element, gradients: Lifetime, network: Network<'_>) -> Self {
        let mut layout = ParameterLayout::default();
        for network::Parameter { name, shape, .. } in network.declared() {
            layout.push(name, shape.iter().product());
        }
        let length = layout.length();
        let values = schedule.buffer("parameters", Element::F32, length, Persistent);
        let mirror = (real != Element::F32).then(|| schedule.buffer("parameters.mirror", real, length, Persistent));
        let gradients = schedule.buffer("gradients", Element::F32, length, gradients);
        Self { layout, values, mirror, gradients }
    }

    /// The places of the parameters, asked for in the network's order.
    fn get(&self) -> impl FnMut(&str, usize) -> Parameter + '_ {
        let mut places = self.layout.parameters();
        move |name, length| {
            let place = places.next().filter(|(known, range)| *known == name && range.len() == length);
            let start = place.unwrap_or_else(|| panic!("`{name}` was not laid out")).1.start;
            let value = self.values.part(start, length);
            let mirror = self.mirror.map_or(value, |mirror| mirror.part(start, length));
            Parameter { value, mirror, gradient: self.gradients.part(start, length) }
        }
    }
}

/// What of a training step a batch takes, by its place among those whose gradients make one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Everything: gradients set to zero, forward, backward, update.
    Only,
    /// All but the update.
    First,
    /// Forward and backward.
    Middle,
    /// Forward, backward, update.
    Last,
}

impl Phase {
    /// Of batch `number`, from 0, of the `batches` that make one step.
    pub fn of(number: usize, batches: usize) -> Self {
        match (number == 0, number + 1 == batches) {
            (true, true) => Self::Only,
            (true, false) => Self::First,
            (false, false) => Self::Middle,
            (false, true) => Self::Last,
        }
    }

    /// Whether it ends with an update.
    pub fn updates(self) -> bool {
        matches!(self, Self::Only | Self::Last)
    }
}

/// A training step, and the buffers that are filled before it or read after it.
#[derive(Debug, Clone)]
pub struct TrainingStep {
    /// What is done.
    pub schedule: Schedule,
    /// The schedule's steps that a batch takes; before them gradients are set to zero, after them comes the update.
    pub batch: Range<usize>,
    /// f32 `[N, H, W, C]`, filled before unless they arrive as bytes.
    pub images: View,
    /// Where images arrive as bytes; filled before.
    pub bytes: Option<Bytes>,
    /// Of a classifier: f32 `[N, CLASSES]`, filled before.
    pub targets: Option<View>,
    /// Of an autoencoder: the masks, filled before.
    pub tables: Option<Tables>,
    /// The scales of every block's drop path, f32 `[N]`, filled before; `None` for a block without one.
    pub drop_paths: Vec<Option<View>>,
    /// f32 `[1]`: of the last batch, read after.
    pub loss: View,
    /// Which parameter lies where.
    pub layout: ParameterLayout,
    /// Parameters, gradients, and the optimiser's state; the coefficients are filled before.
    pub state: optim::cuda::State,
}

impl TrainingStep {
    /// The schedule's steps that a phase takes.
    pub fn steps(&self, phase: Phase) -> Range<usize> {
        let start = if matches!(phase, Phase::Only | Phase::First) { 0 } else { self.batch.start };
        let end = if phase.updates() { self.schedule.steps().len() } else { self.batch.end };
        start..end
    }
}

fn check_real(real: Element) -> Result<(), ScheduleError> {
    if matches!(real, Element::F32 | Element::Bf16) { Ok(()) } else { Err(ScheduleError::Real(real)) }
}

/// A buffer for the drop paths of all blocks but the first: each one's part of it.
fn drop_paths(schedule: &mut Schedule, plan: &Plan, options: &Options) -> Vec<Option<View>> {
    let (blocks, samples) = (plan.blocks(), options.samples);
    if !options.drop_path || blocks < 2 {
        return vec![None; blocks];
    }
    let scales = schedule.input("drop_path", Element::F32, (blocks - 1) * samples);
    let part = |block: usize| block.checked_sub(1).map(|before| scales.part(before * samples, samples));
    (0..blocks).map(part).collect()
}

/// How many values a batch of images has.
fn pixels(plan: &Plan, samples: usize) -> usize {
    samples * plan.height * plan.width * plan.channels
}

/// The images of a training step, and the bytes that they are made of.
fn training_images(
    schedule: &mut Schedule,
    plan: &Plan,
    options: &Options,
) -> Result<(View, Option<Bytes>), ScheduleError> {
    let pixels = pixels(plan, options.samples);
    if !options.bytes {
        return Ok((schedule.input("images", Element::F32, pixels), None));
    }
    let images = schedule.buffer("images", Element::F32, pixels, Persistent);
    let Plan { height, width, channels, .. } = *plan;
    let shape = images::Shape { samples: options.samples, height, width, channels };
    Ok((images, Some(images::prepare(schedule, &shape, images)?)))
}

/// The optimiser of a step, and its beginning: gradients and losses set to zero.
fn begin(schedule: &mut Schedule, flat: &Flat, options: &Options) -> (optim::cuda::Shape, optim::cuda::State) {
    let shape = optim::cuda::Shape {
        length: flat.layout.length(),
        rules: flat.layout.names.len(),
        ema: options.ema,
        real: options.real,
    };
    let state = optim::cuda::State::new(schedule, &shape, flat.values, flat.mirror, flat.gradients);
    schedule.push(Step::Zero(state.gradients));
    schedule.push(Step::Zero(state.losses));
    (shape, state)
}

/// The end of a batch: its loss is added to those before it.
fn end_batch(schedule: &mut Schedule, state: &optim::cuda::State, loss: View) -> Result<usize, ScheduleError> {
    let sum = reduce::Sum { partial: loss, rows: 1, stride: 1, first: 0, out: state.losses };
    reduce::sum_rows(schedule, &[sum], true)?;
    Ok(schedule.steps().len())
}

/// Clipping and update, with the mean of the gradients of `batches` batches.
fn update(
    schedule: &mut Schedule,
    (shape, state): (&optim::cuda::Shape, &optim::cuda::State),
    options: &Options,
    batches: usize,
) -> Result<(), ScheduleError> {
    optim::cuda::clip(schedule, shape, state, 1.0 / batches as f32, options.max_norm)?;
    optim::cuda::update(schedule, shape, state)
}

/// A step of supervised training on one batch.
///
/// # Errors
/// [`ScheduleError`] if the batch is too large, or the activations' type is none.
pub fn classifier(plan: &Plan, options: &Options) -> Result<TrainingStep, ScheduleError> {
    accumulating_classifier(plan, options, 1)
}

/// A step of supervised training with the mean of the gradients of `batches` batches.
///
/// # Errors
/// [`ScheduleError`] if a batch is too large, or the activations' type is none.
pub fn accumulating_classifier(plan: &Plan, options: &Options, batches: usize) -> Result<TrainingStep, ScheduleError> {
    check_real(options.real)?;
    let mut schedule = Schedule::new();
    let drop_paths = drop_paths(&mut schedule, plan, options);
    let flat = Flat::new(&mut schedule, options.real, Persistent, plan.classifier());
    let network = on_device::Network::new(plan.classifier(), options.batch(), &drop_paths, &mut flat.get());
    let targets = schedule.input("targets", Element::F32, options.samples * plan.classes);
    let loss = schedule.buffer("loss", Element::F32, 1, Persistent);

    let (optimizer, state) = begin(&mut schedule, &flat, options);
    let start = schedule.steps().len();
    let (images, bytes) = training_images(&mut schedule, plan, options)?;
    let inputs = Inputs { images, tables: None, loss: None, drop: None };
    let (logits, tape) = network.forward(&mut schedule, &inputs)?;
    let shape = cross_entropy::cuda::Shape { samples: options.samples, classes: plan.classes, real: options.real };
    cross_entropy::cuda::forward_backward(&mut schedule, &shape, logits, targets, 1.0, loss)?;
    tape.backward(&mut schedule, logits)?;
    let batch = start..end_batch(&mut schedule, &state, loss)?;
    update(&mut schedule, (&optimizer, &state), options, batches)?;

    let (targets, layout) = (Some(targets), flat.layout);
    Ok(TrainingStep { schedule, batch, images, bytes, targets, tables: None, drop_paths, loss, layout, state })
}

/// A step of pre-training on one batch.
///
/// # Errors
/// [`ScheduleError`] if the plan has no pre-training part, the batch is too large, or the activations' type is none.
pub fn autoencoder(plan: &Plan, options: &Options) -> Result<TrainingStep, ScheduleError> {
    accumulating_autoencoder(plan, options, 1)
}

/// A step of pre-training with the mean of the gradients of `batches` batches.
///
/// # Errors
/// [`ScheduleError`] if the plan has no pre-training part, a batch is too large, or the activations' type is none.
pub fn accumulating_autoencoder(plan: &Plan, options: &Options, batches: usize) -> Result<TrainingStep, ScheduleError> {
    check_real(options.real)?;
    let parts = plan.autoencoder().zip(plan.patches());
    let (network, patches) = parts.ok_or(ScheduleError::Missing("pre-training part"))?;
    let mut schedule = Schedule::new();
    let flat = Flat::new(&mut schedule, options.real, Persistent, network);
    let network = on_device::Network::new(network, options.batch(), &[], &mut flat.get());
    let tables = Tables::new(&mut schedule, options.samples, patches.count(), patches.visible);
    let loss = schedule.buffer("loss", Element::F32, 1, Persistent);

    let (optimizer, state) = begin(&mut schedule, &flat, options);
    let start = schedule.steps().len();
    let (images, bytes) = training_images(&mut schedule, plan, options)?;
    let inputs = Inputs { images, tables: Some(tables), loss: Some(loss), drop: None };
    let (loss, tape) = network.forward(&mut schedule, &inputs)?;
    tape.backward(&mut schedule, loss)?;
    let batch = start..end_batch(&mut schedule, &state, loss)?;
    update(&mut schedule, (&optimizer, &state), options, batches)?;

    let (tables, layout) = (Some(tables), flat.layout);
    let drop_paths = Vec::new();
    Ok(TrainingStep { schedule, batch, images, bytes, targets: None, tables, drop_paths, loss, layout, state })
}

/// A classifier's forward pass, and the buffers that are filled before it or read after it.
#[derive(Debug, Clone)]
pub struct Inference {
    /// What is done.
    pub schedule: Schedule,
    /// f32 `[N, H, W, C]`, filled before.
    pub images: View,
    /// `[N, CLASSES]` in the activations' type, read after.
    pub logits: View,
    /// f32, filled before.
    pub parameters: View,
    /// Their copy in the activations' type, if that is not f32; filled before.
    pub mirror: Option<View>,
    /// Which parameter lies where.
    pub layout: ParameterLayout,
}

/// Logits of a batch of images.
///
/// # Errors
/// [`ScheduleError`] if the batch is too large, or the activations' type is none.
pub fn inference(plan: &Plan, batch: BatchShape) -> Result<Inference, ScheduleError> {
    check_real(batch.real)?;
    let mut schedule = Schedule::new();
    let flat = Flat::new(&mut schedule, batch.real, Temporary, plan.classifier());
    let network = on_device::Network::new(plan.classifier(), batch, &[], &mut flat.get());
    let images = schedule.input("images", Element::F32, pixels(plan, batch.samples));
    let logits = network.infer(&mut schedule, &Inputs { images, tables: None, loss: None, drop: None })?;
    schedule.keep(logits);
    let Flat { layout, values, mirror, .. } = flat;
    Ok(Inference { schedule, images, logits, parameters: values, mirror, layout })
}
