//! The jobs on the processor. Each becomes a closure that does one step and returns how long it took.

use std::{sync::Arc, time::Instant};

use convnext_core::{
    dfdx::tensor::{Cpu, Gradients},
    nn::Visibility,
    optim::{AdamW, Ema, LayerDecay},
    plan::{Patches, Plan},
};
use convnext_data::{
    Chain, Channels, Decoder, Geometry, Normalise as Table, Order, TargetKind,
    augment::{Flip, RandomResizedCrop},
    random::{Purpose, Random},
    random_mask,
};
use convnext_pipeline::{
    learner::{Learner, Outcome as Update},
    stream::{Augmented, Decode, Mask, Normalise, Policy, Replaced, Settings, Stage, Stream},
};

use super::{Bench, Job};
use crate::{Failure, Outcome};

/// Does one step; returns its time in milliseconds.
pub(super) type Step<'a> = Box<dyn FnMut() -> Outcome<f64> + 'a>;

pub(super) const SEED: u64 = 1;
/// Small enough that nothing diverges on noise.
pub(super) const LEARNING_RATE: f64 = 1e-5;

pub(super) fn prepare<'a>(bench: &'a Bench<'_>) -> Outcome<Step<'a>> {
    match bench.job {
        Job::Pretrain => pretrain(bench),
        Job::Finetune => finetune(bench),
        Job::Infer => infer(bench),
        Job::Load => load(bench),
    }
}

pub(super) fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Random numbers of mean 0 and variance 1, `[N, H, W, C]`.
pub(super) fn images(plan: &Plan, samples: usize) -> Vec<f32> {
    let mut random = Random::new(SEED, 0, 0, Purpose::Augment);
    (0..samples * plan.height * plan.width * plan.channels).map(|_| random.normal()).collect()
}

/// Whether an update went through.
fn check(update: Update) -> Outcome {
    match update {
        Update::Updated { .. } => Ok(()),
        Update::NonFinite(_) => Err(Failure::failed("a gradient is not finite; nothing was measured")),
        Update::Overflow(_) => Err(Failure::failed("an update overflows; nothing was measured")),
    }
}

pub(super) fn masks(patches: Patches, samples: usize, step: u64) -> Outcome<Arc<Visibility>> {
    let Patches { high, wide, visible } = patches;
    let mut masks = vec![0; samples * patches.count()];
    for (sample, mask) in masks.chunks_exact_mut(patches.count()).enumerate() {
        random_mask(&mut Random::new(SEED, step, sample as u64, Purpose::Mask), visible, mask);
    }
    Ok(Arc::new(Visibility::from_mask(&masks, high, wide, visible)?))
}

fn pretrain<'a>(bench: &'a Bench<'_>) -> Outcome<Step<'a>> {
    let plan = &bench.entry.plan;
    let device = Cpu::seed_from_u64(SEED);
    let none = || Failure::failed(format!("`{}` declares no pre-training part (fcmae)", plan.name));
    let mut model = bench.entry.autoencoder(&device)?.ok_or_else(none)?;
    let patches = plan.patches().ok_or_else(none)?;
    let adamw = AdamW { beta2: 0.95, ..AdamW::default() };
    let mut learner = Learner::with(&*model, plan, adamw, None, None, None)?;
    let mut gradients = Some(Gradients::leaky());
    let images = images(plan, bench.batch);
    let mut number = 0;
    Ok(Box::new(move || {
        let visible = masks(patches, bench.batch, number)?;
        number += 1;
        let start = Instant::now();
        let taken = gradients.take().unwrap_or_else(Gradients::leaky);
        let (_, mut filled) = model.step(&device, &images, &visible, taken)?;
        check(learner.update(&mut *model, &mut filled, 1, LEARNING_RATE)?)?;
        gradients = Some(filled);
        Ok(milliseconds(start))
    }))
}

fn finetune<'a>(bench: &'a Bench<'_>) -> Outcome<Step<'a>> {
    let plan = &bench.entry.plan;
    let device = Cpu::seed_from_u64(SEED);
    let mut model = bench.entry.classifier(&device)?;
    let ema = Ema { decay: 0.9999, warmup: false };
    let decay = Some(LayerDecay::single(0.9));
    let mut learner = Learner::with(&*model, plan, AdamW::default(), decay, Some(ema), None)?;
    let mut gradients = Some(Gradients::leaky());
    let images = images(plan, bench.batch);
    let targets = targets(plan.classes, bench.batch);
    let mut number = 0;
    Ok(Box::new(move || {
        let targets = targets.clone();
        number += 1;
        let mut random = Random::new(SEED, number, 0, Purpose::DropPath);
        let keys: Arc<[u64]> = (0..bench.batch).map(|_| random.next_u64()).collect();
        let start = Instant::now();
        model.set_drop_path_keys(&keys);
        let taken = gradients.take().unwrap_or_else(Gradients::leaky);
        let (_, mut filled) = model.step(&device, &images, targets, bench.batch, taken)?;
        check(learner.update(&mut *model, &mut filled, 1, LEARNING_RATE)?)?;
        gradients = Some(filled);
        Ok(milliseconds(start))
    }))
}

/// Smoothed labels, `[N, CLASSES]`.
pub(super) fn targets(classes: usize, samples: usize) -> Vec<f32> {
    let rest = 0.1 / classes as f32;
    let target =
        |sample: usize| (0..classes).map(move |class| if class == sample % classes { 0.9 + rest } else { rest });
    (0..samples).flat_map(target).collect()
}

fn infer<'a>(bench: &'a Bench<'_>) -> Outcome<Step<'a>> {
    let device = Cpu::seed_from_u64(SEED);
    let model = bench.entry.classifier(&device)?;
    let images = images(&bench.entry.plan, bench.batch);
    Ok(Box::new(move || {
        let images = images.clone();
        let start = Instant::now();
        model.logits(&device, images, bench.batch)?;
        Ok(milliseconds(start))
    }))
}

fn load<'a>(bench: &'a Bench<'_>) -> Outcome<Step<'a>> {
    let shards = bench.data.clone().ok_or_else(|| Failure::usage("no data; give --data GLOB"))?;
    let order = Order::new(shards.len(), SEED, Order::BLOCK, Order::WINDOW);
    let settings = Settings {
        batch: bench.batch,
        epoch: shards.len(),
        start: 0,
        end: ((bench.warmup + bench.steps) * bench.batch) as u64,
        seed: SEED,
        workers: rayon::current_num_threads(),
        policy: Policy::Fail,
        replaced: Replaced::default(),
    };
    let mut stream = Stream::start(shards, order, stages(&bench.entry.plan)?.into(), settings)?;
    let ended = || Failure::failed("the stream ended before the last step");
    Ok(Box::new(move || {
        let start = Instant::now();
        let batch = stream.next().ok_or_else(ended)??;
        stream.recycle(batch);
        Ok(milliseconds(start))
    }))
}

/// What pre-training does to an image.
fn stages(plan: &Plan) -> Outcome<Vec<Box<dyn Stage>>> {
    let Plan { height, width, channels, .. } = *plan;
    let unknown = || Failure::failed(format!("`{}`: images decode to 1, 3 or 4 channels, not {channels}", plan.name));
    let decoded = Channels::of_count(channels).ok_or_else(unknown)?;
    let crop = RandomResizedCrop::new(height, width);
    let chain = Chain::new(vec![Box::new(crop), Box::new(Flip::default())], Geometry::decoded(channels))?;
    let table = Table::new(&vec![0.5; channels], &vec![0.25; channels])?;
    let mut stages: Vec<Box<dyn Stage>> = vec![
        Box::new(Decode { decoder: Decoder::new(decoded), target: TargetKind::None }),
        Box::new(Augmented { chain: Arc::new(chain), channels, flip: None }),
        Box::new(Normalise { table: Arc::new(table), size: (height, width, channels) }),
    ];
    if let Some((fcmae, patches)) = plan.fcmae.zip(plan.patches()) {
        stages.push(Box::new(Mask { patch: fcmae.patch, visible: patches.visible }));
    }
    Ok(stages)
}
