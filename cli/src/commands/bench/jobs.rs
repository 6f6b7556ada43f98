//! The jobs. Each becomes a closure that does one step and returns how long it took. On a GPU that is the time between the
//! ends of two steps: the next one is submitted before.

use std::{sync::Arc, time::Instant};

use convnext_core::{Entry, dfdx::tensor::Cpu, launch::operation::BatchShape, plan::Plan};
use convnext_cuda::{detect, predictor::Predictor};
use convnext_data::{
    Chain, Channels, Decoder, Geometry, Normalise as Table, Order, TargetKind,
    augment::{Flip, RandomResizedCrop},
    random::{Purpose, Random},
};
use convnext_pipeline::{
    device::Device,
    recipe::{Precision, Recipe, Resolved, Training},
    stream::{Augmented, Batch, Decode, Delivery, Mask, Normalise, Policy, Read, Replaced, Stage, Stream},
    tasks::{Setup, Task},
    trainer::{self, Outcome as Made},
};

use super::{Bench, Job};
use crate::{Failure, Outcome};

/// Does one step; returns its time in milliseconds.
pub(super) type Step<'a> = Box<dyn FnMut() -> Outcome<f64> + 'a>;

const SEED: u64 = 1;
/// Small enough that nothing diverges on noise.
const LEARNING_RATE: f64 = 1e-5;

/// Steps of a GPU before any is measured: one that loads kernels, one that is captured, and those in flight.
const PRIMING: usize = 4;

pub(super) fn prepare<'a>(bench: &'a Bench<'_>) -> Outcome<Step<'a>> {
    match (bench.job, &bench.device) {
        (Job::Train(task), _) => train(bench, task),
        (Job::Infer, Device::Cpu) => infer(bench),
        (Job::Infer, Device::Cuda(device)) => infer_on_gpu(bench, device),
        (Job::Load, _) => load(bench),
    }
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Random numbers of mean 0 and variance 1, `[N, H, W, C]`.
fn images(plan: &Plan, samples: usize) -> Vec<f32> {
    let mut random = Random::new(SEED, 0, 0, Purpose::Augment);
    (0..samples * plan.height * plan.width * plan.channels).map(|_| random.normal()).collect()
}

/// Images that come from nowhere, as the device takes them: random numbers, or random bytes.
fn batch(bench: &Bench<'_>) -> Batch {
    let (plan, samples) = (&bench.entry.plan, bench.batch);
    if !bench.device.takes_bytes() {
        return Batch { samples, images: images(plan, samples), ..Batch::default() };
    }
    let mut random = Random::new(SEED, 0, 0, Purpose::Augment);
    let pixels = samples * plan.height * plan.width * plan.channels;
    let bytes = (0..pixels).map(|_| random.next_u32() as u8).collect();
    Batch { samples, bytes, flips: vec![0; samples], ..Batch::default() }
}

/// The recipe of a training that is measured: steps of one batch.
pub(super) fn recipe(entry: &Entry, task: &dyn Task, batch: usize, precision: Precision) -> Outcome<Resolved> {
    let (section, settings, name) = (task.name(), task.benchmark_settings(), entry.plan.name);
    let text = format!(
        "[{section}]\nepochs = 1\nbatch = {batch}\nbase_lr = {LEARNING_RATE}\n{settings}\
         [model]\nname = \"{name}\"\nprecision = \"{precision}\"\n[data]\nmean = [0.5]\nstd = [0.25]\n"
    );
    Ok(Recipe::parse::<&str>("the benchmark's recipe", &text, &[])?.resolve()?)
}

/// Steps of the trainer that a run of the task has.
fn train<'a>(bench: &'a Bench<'_>, task: &'static dyn Task) -> Outcome<Step<'a>> {
    let (entry, device) = (bench.entry, &bench.device);
    let recipe = recipe(entry, task, bench.batch, bench.precision)?;
    let run = recipe.run(bench.batch as u64, 1)?;
    let Some(Training { section, .. }) = &recipe.training else {
        return Err(Failure::failed("the benchmark's recipe trains nothing"));
    };
    let (model, data) = (&recipe.model, &recipe.data);
    let setup = Setup { entry, model, data, seed: SEED, run: &run, device, goes_on: false, measured: None };
    let mut trainer = section.trainer(&setup)?;
    let (mut batch, in_flight) = (batch(bench), trainer.lag().min(1));
    let mut number = 0;
    let mut step = move || {
        task.fill(&entry.plan, &mut batch, number)?;
        number += 1;
        let start = Instant::now();
        trainer.submit(&mut batch, LEARNING_RATE)?;
        while let Some(made) = trainer.collect(in_flight)? {
            if let Made::NonFinite { what, .. } = made {
                return Err(Failure::failed(format!("{what}; nothing was measured")));
            }
        }
        Ok(milliseconds(start))
    };
    if device.takes_bytes() {
        for _ in 0..PRIMING {
            step()?;
        }
    }
    Ok(Box::new(step))
}

fn infer<'a>(bench: &'a Bench<'_>) -> Outcome<Step<'a>> {
    let mut model = bench.entry.classifier(&Cpu::seed_from_u64(SEED))?;
    model.set_precision(trainer::products(bench.precision));
    let classifier = model.plain().freeze(model.values());
    let images = images(&bench.entry.plan, bench.batch);
    Ok(Box::new(move || {
        let start = Instant::now();
        classifier.logits(&images, bench.batch);
        Ok(milliseconds(start))
    }))
}

/// Logits of images that are on the device.
fn infer_on_gpu<'a>(bench: &'a Bench<'_>, device: &detect::Device) -> Outcome<Step<'a>> {
    let (plan, cpu) = (&bench.entry.plan, Cpu::seed_from_u64(SEED));
    let model = bench.entry.classifier(&cpu)?;
    let batch = BatchShape { samples: bench.batch, real: trainer::element(bench.precision) };
    let tf32 = bench.precision == Precision::Tf32;
    let mut predictor = Predictor::new(device, plan, model.layout(), batch, tf32)?;
    predictor.write(&model.values())?;
    let images = images(plan, bench.batch);
    for _ in 0..PRIMING {
        predictor.logits(&images)?;
    }
    Ok(Box::new(move || {
        let start = Instant::now();
        predictor.start()?;
        predictor.finish()?;
        Ok(milliseconds(start))
    }))
}

fn load<'a>(bench: &'a Bench<'_>) -> Outcome<Step<'a>> {
    let shards = bench.data.clone().ok_or_else(|| Failure::usage("no data; give --data GLOB"))?;
    let mixing = shards.mixing()?;
    let order = Order::new(shards.len(), SEED, mixing.block, mixing.window);
    let delivery = Delivery {
        batch: bench.batch,
        epoch: shards.len(),
        start: 0,
        end: ((bench.warmup + bench.steps) * bench.batch) as u64,
        seed: SEED,
        workers: rayon::current_num_threads(),
        policy: Policy::Fail,
        replaced: Replaced::default(),
    };
    let mut stream = Stream::start(shards, order, stages(&bench.entry.plan)?.into(), delivery)?;
    let ended = || Failure::failed("the stream ended before the last step");
    Ok(Box::new(move || {
        let start = Instant::now();
        let batch = stream.next().ok_or_else(ended)??;
        stream.recycle(batch);
        let took = milliseconds(start);
        *bench.loading.borrow_mut() = stream.busy();
        Ok(took)
    }))
}

/// What pre-training does to an image.
fn stages(plan: &Plan) -> Outcome<Vec<Box<dyn Stage>>> {
    let Plan { height, width, channels, .. } = *plan;
    let unknown = || Failure::failed(format!("`{}`: no image decodes to {channels} channels", plan.name));
    let decoded = Channels::of_count(channels).ok_or_else(unknown)?;
    let crop = RandomResizedCrop::new(height, width);
    let mut chain = Chain::new(vec![Box::new(crop), Box::new(Flip::default())], Geometry::decoded(channels))?;
    let flip = chain.split_flip();
    let chain = Arc::new(chain);
    let table = Table::new(&vec![0.5; channels], &vec![0.25; channels])?;
    let mut stages: Vec<Box<dyn Stage>> = vec![
        Box::new(Read { decoder: Decoder::new(decoded), target: TargetKind::None }),
        Box::new(Decode { decoder: Decoder::new(decoded), chain: Some(chain.clone()) }),
        Box::new(Augmented { chain, channels, flip }),
        Box::new(Normalise { table: Arc::new(table), size: (height, width, channels) }),
    ];
    if let Some((fcmae, patches)) = plan.fcmae.zip(plan.patches()) {
        stages.push(Box::new(Mask { patch: fcmae.patch, visible: patches.visible }));
    }
    Ok(stages)
}
