//! A model in training: on the CPU, and on the device.

use std::path::Path;

use convnext_core::{
    Entry,
    dfdx::{prelude::Gradients, tensor::Cpu},
    launch::{
        element::Element,
        geometry::{TableValues, Tables},
        schedule::{Schedule, View},
    },
    nn::{AutoencoderModule, ClassifierModule, Flat},
    optim::{self, AdamW, Layout, Optimizer, Rule},
    simd::Precision,
};
use convnext_cuda::{
    cache::Cache,
    detect,
    executor::Executor,
    training::{Options, TrainingStep, autoencoder, classifier},
};
use convnext_data::{Purpose, Random};
use convnext_weights::{
    checkpoint::Which,
    convert::{self, Dialect},
};
use half::bf16;

use crate::{
    Dtype, Job, Outcome,
    data::{Batch, Task},
};

/// Large enough that a loss falls in 50 steps.
const LEARNING_RATE: f64 = 1e-3;

/// A model in training.
pub(crate) trait Side {
    /// The loss of a batch; then update number `update`, counted from 1.
    fn step(&mut self, batch: &Batch, update: u64) -> Outcome<f32>;

    /// Writes the gradients of the last step, in the official layout.
    fn save_gradients(&self, path: &Path) -> Outcome<()>;
}

/// Where parameters come from.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// A file, in any layout.
    File(&'a Path),
    /// Fresh ones under noise, always the same: biases and GRN start at 0, and would hide mistakes.
    Noise,
}

impl Start<'_> {
    fn parameters(self, model: &(impl Flat + ?Sized)) -> Outcome<Vec<f32>> {
        let layout = model.layout();
        if let Start::File(path) = self {
            return Ok(convert::load(path, &layout, Which::default())?.values);
        }
        let mut values = vec![0.0; layout.len()];
        model.read(&mut values);
        let mut random = Random::new(4, 0, 0, Purpose::Initialise);
        values.iter_mut().for_each(|value| *value += 0.02 * random.normal());
        Ok(values)
    }
}

enum Model {
    Autoencoder(Box<dyn AutoencoderModule>),
    Classifier(Box<dyn ClassifierModule>),
}

impl Model {
    fn new(entry: &Entry, job: Job) -> Outcome<Self> {
        let device = Cpu::seed_from_u64(1);
        Ok(match job {
            Job::Pretrain => {
                let none = || format!("{} declares no pre-training part", entry.plan.name);
                Self::Autoencoder(entry.autoencoder(&device)?.ok_or_else(none)?)
            }
            Job::Finetune | Job::Infer => {
                let mut model = entry.classifier(&device)?;
                model.set_drop_path(0.0);
                Self::Classifier(model)
            }
        })
    }

    fn layout(&self) -> Layout {
        match self {
            Self::Autoencoder(model) => model.layout(),
            Self::Classifier(model) => model.layout(),
        }
    }

    fn start(&self, start: Start) -> Outcome<Vec<f32>> {
        match self {
            Self::Autoencoder(model) => start.parameters(&**model),
            Self::Classifier(model) => start.parameters(&**model),
        }
    }

    fn write(&mut self, parameters: &[f32]) {
        match self {
            Self::Autoencoder(model) => model.write(parameters),
            Self::Classifier(model) => model.write(parameters),
        }
    }

    fn set_precision(&mut self, precision: Precision) {
        match self {
            Self::Autoencoder(model) => model.set_precision(precision),
            Self::Classifier(model) => model.set_precision(precision),
        }
    }
}

fn rules(entry: &Entry, layout: &Layout) -> Outcome<Vec<Rule>> {
    Ok(optim::rules(layout, &entry.plan, None)?)
}

/// The CPU executor.
pub(crate) struct OnCpu {
    model: Model,
    layout: Layout,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    optimizer: Optimizer,
}

impl OnCpu {
    pub(crate) fn new(entry: &Entry, job: Job, dtype: Dtype, start: Start) -> Outcome<Self> {
        let mut model = Model::new(entry, job)?;
        let (layout, parameters) = (model.layout(), model.start(start)?);
        model.write(&parameters);
        let optimizer = Optimizer::new(AdamW::default(), rules(entry, &layout)?, None, &parameters);
        model.set_precision(match dtype {
            Dtype::F32 => Precision::F32,
            Dtype::Bf16 => Precision::Bf16,
        });
        let gradients = vec![0.0; layout.len()];
        Ok(Self { model, layout, parameters, gradients, optimizer })
    }
}

impl Side for OnCpu {
    fn step(&mut self, batch: &Batch, _update: u64) -> Outcome<f32> {
        let (device, images, empty) = (Cpu::default(), &batch.images, Gradients::leaky());
        let loss = match (&mut self.model, &batch.task) {
            (Model::Autoencoder(model), Task::Pretrain(visible)) => {
                let (loss, mut gradients) = model.step(&device, images, visible, empty)?;
                self.gradients = model.take_gradients(&mut gradients)?.concat();
                loss
            }
            (Model::Classifier(model), Task::Finetune(targets)) => {
                let (loss, mut gradients) = model.step(&device, images, targets.clone(), batch.samples, empty)?;
                self.gradients = model.take_gradients(&mut gradients)?.concat();
                loss
            }
            _ => return Err("a batch of another job".into()),
        };
        self.optimizer.step(&mut self.parameters, &self.gradients, LEARNING_RATE, 1.0);
        self.model.write(&self.parameters);
        Ok(loss)
    }

    fn save_gradients(&self, path: &Path) -> Outcome<()> {
        Ok(convert::save(path, &self.layout, &self.gradients, Dialect::Official, None)?)
    }
}

/// The CUDA executor. From the third step on it replays a graph.
pub(crate) struct OnDevice {
    executor: Executor,
    step: TrainingStep,
    layout: Layout,
    rules: Vec<Rule>,
}

impl OnDevice {
    pub(crate) fn new(entry: &Entry, job: Job, dtype: Dtype, samples: usize, start: Start) -> Outcome<Self> {
        let (model, plan) = (Model::new(entry, job)?, &entry.plan);
        let (layout, parameters) = (model.layout(), model.start(start)?);
        let real = dtype.into();
        let options = Options { samples, real, max_norm: 0.0, ema: false, drop_path: false, bytes: false };
        let step = match job {
            Job::Pretrain => autoencoder(plan, &options)?,
            Job::Finetune | Job::Infer => classifier(plan, &options)?,
        };
        let mut executor = executor(&step.schedule)?;
        let rules = step.layout.rules(&layout, &rules(entry, &layout)?);
        let (spread, state) = (step.layout.spread(&layout, &parameters), step.state);
        write(&mut executor, &state.parameters, &spread)?;
        if let Some(mirror) = &state.mirror {
            write(&mut executor, mirror, &spread)?;
        }
        for moments in [&state.m, &state.v] {
            write(&mut executor, moments, &vec![0.0; moments.length])?;
        }
        let ends: Vec<u8> = step.layout.ends().into_iter().flat_map(i32::to_le_bytes).collect();
        executor.write(&state.ends, &ends)?;
        write(&mut executor, &state.ema_rate, &[0.0])?;
        Ok(Self { executor, step, layout, rules })
    }
}

impl Side for OnDevice {
    fn step(&mut self, batch: &Batch, update: u64) -> Outcome<f32> {
        let (executor, step) = (&mut self.executor, &self.step);
        write(executor, &step.images, &batch.images)?;
        match (&batch.task, &step.tables, &step.targets) {
            (Task::Pretrain(visible), Some(tables), _) => {
                write_tables(executor, tables, &TableValues::from(&**visible))?
            }
            (Task::Finetune(values), _, Some(targets)) => write(executor, targets, values)?,
            _ => return Err("a batch of another job".into()),
        }
        let coefficient = |rule| AdamW::default().coefficients(rule, LEARNING_RATE, update);
        let coefficients: Vec<_> = self.rules.iter().map(coefficient).collect();
        write(executor, &step.state.coefficients, &optim::cuda::coefficient_values(&coefficients))?;
        if update == 3 {
            executor.capture()?;
        }
        executor.run()?;
        Ok(read(executor, &step.loss)?[0])
    }

    fn save_gradients(&self, path: &Path) -> Outcome<()> {
        let gradients = read(&self.executor, &self.step.state.gradients)?;
        let gradients = self.step.layout.join(&self.layout, &gradients);
        Ok(convert::save(path, &self.layout, &gradients, Dialect::Official, None)?)
    }
}

/// An executor on the first device; f32 products keep all their digits.
pub(crate) fn executor(schedule: &Schedule) -> Outcome<Executor> {
    Ok(Executor::new(&detect::usable()?, schedule, Cache::of_user().as_ref(), false)?)
}

/// Values as the type has them: f32 or bf16.
fn encode(element: Element, values: &[f32]) -> Vec<u8> {
    match element {
        Element::Bf16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

pub(crate) fn write(executor: &mut Executor, view: &View, values: &[f32]) -> Outcome<()> {
    Ok(executor.write(view, &encode(view.element, values))?)
}

/// Values around 0, of this deviation; the same quarter of a million over and over.
pub(crate) fn write_noise(executor: &mut Executor, view: &View, deviation: f32) -> Outcome<()> {
    let mut random = Random::new(5, 0, 0, Purpose::Initialise);
    let drawn: Vec<f32> = (0..view.length.min(1 << 18)).map(|_| deviation * random.normal()).collect();
    let (drawn, length) = (encode(view.element, &drawn), view.length * view.element.bytes());
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        bytes.extend_from_slice(&drawn[..drawn.len().min(length - bytes.len())]);
    }
    Ok(executor.write(view, &bytes)?)
}

pub(crate) fn write_tables(
    executor: &mut Executor,
    tables: &Tables,
    TableValues { visible, slots, removed }: &TableValues,
) -> Outcome<()> {
    for (view, values) in [(&tables.visible, visible), (&tables.removed, removed)] {
        executor.write(view, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    Ok(executor.write(&tables.slots, &slots.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?)
}

fn read(executor: &Executor, view: &View) -> Outcome<Vec<f32>> {
    let bytes = executor.read(view)?;
    Ok(bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect())
}
