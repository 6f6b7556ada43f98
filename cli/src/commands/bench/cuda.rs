//! The jobs on a GPU. A step's time is that between the ends of two steps: the next one is submitted before.

use std::{sync::Arc, time::Instant};

use convnext_core::{dfdx::tensor::Cpu, launch::operation::BatchShape, nn::Flat, plan::Plan};
use convnext_cuda::{detect, predictor::Predictor};
use convnext_data::{
    Normalise,
    random::{Purpose, Random},
};
use convnext_pipeline::{
    Mixing,
    recipe::{Precision, Recipe, Run},
    stream::Batch,
    trainer::{Aim, CudaTrainer, Design, Kind, Outcome as Made, Trainer},
};

use super::{
    Bench, Job,
    jobs::{self, LEARNING_RATE, SEED, Step, milliseconds},
};
use crate::{Failure, Outcome};

/// Steps before any is measured: one that loads kernels, one that is captured, and those in flight.
const PRIMING: usize = 4;

pub(super) fn prepare<'a>(bench: &'a Bench<'_>, device: &detect::Device) -> Outcome<Step<'a>> {
    match bench.job {
        Job::Pretrain | Job::Finetune => train(bench, device),
        Job::Infer => infer(bench, device),
        Job::Load => jobs::prepare(bench),
    }
}

/// A recipe with the settings that the processor's jobs have.
fn run(bench: &Bench<'_>) -> Outcome<Run> {
    let section = match bench.job {
        Job::Pretrain => "[pretrain]",
        _ => {
            "[finetune]\nstart = \"scratch\"\nema = { decay = 0.9999 }\nlayer_decay = { rate = 0.9, mode = \"single\" }"
        }
    };
    let (name, batch) = (bench.entry.plan.name, bench.batch);
    let text =
        format!("{section}\nepochs = 1\nbatch = {batch}\nbase_lr = {LEARNING_RATE}\n[model]\nname = \"{name}\"\n");
    Ok(Recipe::parse::<&str>("the benchmark's recipe", &text, &[])?.resolve()?.run(batch as u64, 1)?)
}

fn flat(model: &dyn Flat) -> Vec<f32> {
    let mut values = vec![0.0; model.layout().len()];
    model.read(&mut values);
    values
}

fn train<'a>(bench: &'a Bench<'_>, device: &detect::Device) -> Outcome<Step<'a>> {
    let (plan, cpu, run) = (&bench.entry.plan, Cpu::seed_from_u64(SEED), run(bench)?);
    let (layout, parameters, kind) = match bench.job {
        Job::Pretrain => {
            let none = || Failure::failed(format!("`{}` declares no pre-training part (fcmae)", plan.name));
            let model = bench.entry.autoencoder(&cpu)?.ok_or_else(none)?;
            (model.layout(), flat(&*model), Kind::Autoencoder)
        }
        _ => {
            let model = bench.entry.classifier(&cpu)?;
            (model.layout(), flat(&*model), Kind::Classifier { drop_path: plan.drop_path, measured: None })
        }
    };
    let table = Normalise::new(&vec![0.5; plan.channels], &vec![0.25; plan.channels])?;
    let design = Design { device, plan, run: &run, precision: bench.precision, table: &table, kind };
    let mut trainer = CudaTrainer::new(&design, layout, parameters)?;
    let mut batch = batch(plan, bench.batch);
    let mut number = 0;
    let mut step = move || {
        let aim = aim(bench, number)?;
        number += 1;
        let start = Instant::now();
        trainer.submit(&mut batch, aim, LEARNING_RATE)?;
        while let Some(made) = trainer.collect(1)? {
            if let Made::NonFinite { what, .. } = made {
                return Err(Failure::failed(format!("{what}; nothing was measured")));
            }
        }
        Ok(milliseconds(start))
    };
    for _ in 0..PRIMING {
        step()?;
    }
    Ok(Box::new(step))
}

/// Random bytes, `[N, H, W, C]`.
fn batch(plan: &Plan, samples: usize) -> Batch {
    let mut random = Random::new(SEED, 0, 0, Purpose::Augment);
    let pixels = samples * plan.height * plan.width * plan.channels;
    let bytes = (0..pixels).map(|_| random.next_u32() as u8).collect();
    Batch { samples, bytes, flips: vec![0; samples], ..Batch::default() }
}

fn aim(bench: &Bench<'_>, number: u64) -> Outcome<Aim> {
    let plan = &bench.entry.plan;
    match (bench.job, plan.patches()) {
        (Job::Pretrain, Some(patches)) => Ok(Aim::Masked(jobs::masks(patches, bench.batch, number)?)),
        _ => {
            let mut random = Random::new(SEED, number, 0, Purpose::DropPath);
            let drop_path_keys: Arc<[u64]> = (0..bench.batch).map(|_| random.next_u64()).collect();
            let targets = jobs::targets(plan.classes, bench.batch);
            Ok(Aim::Labelled { targets, mixing: Mixing::None, drop_path_keys })
        }
    }
}

/// Logits of images that are on the device.
fn infer<'a>(bench: &'a Bench<'_>, device: &detect::Device) -> Outcome<Step<'a>> {
    let (plan, cpu) = (&bench.entry.plan, Cpu::seed_from_u64(SEED));
    let model = bench.entry.classifier(&cpu)?;
    let batch = BatchShape { samples: bench.batch, real: bench.precision.element() };
    let tf32 = bench.precision == Precision::Tf32;
    let mut predictor = Predictor::new(device, plan, model.layout(), batch, tf32)?;
    predictor.write(&flat(&*model))?;
    let images = jobs::images(plan, bench.batch);
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
