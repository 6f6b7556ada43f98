//! Pre-training: a fully convolutional masked autoencoder learns to fill in removed patches.

use std::sync::Arc;

use convnext_core::{dfdx::tensor::Cpu, nn::Entry, plan::Patches, visibility::Visibility};
use convnext_data::ShardSet;

use super::{
    Place, RunError, check_input, finish, finished, require_kind,
    train::{self, Setting, Source, Task},
};
use crate::{
    device::Device,
    fingerprint::Fingerprint,
    input::{Input, usage, view_of},
    interrupt,
    recipe::{Evaluate, Resolved, Run},
    records::{EvaluateRecord, MetricKind, RunKind, RunRecord},
    stream::Batch,
    trainer::{Aim, CpuTrainer, CudaTrainer, Design, Kind, Model, Trainer},
};

/// Pre-trains `entry` on `shards` by `recipe`, in `place`, on `device`.
///
/// # Errors
/// [`RunError`]; what is on the disk then is a run that can be resumed, or nothing.
pub fn pretrain(
    entry: &Entry,
    recipe: Resolved,
    shards: Arc<ShardSet>,
    place: &Place,
    device: &Device,
) -> Result<RunRecord, RunError> {
    // ---- everything that can be wrong is looked at before anything is written --------------------------------------
    let plan = &entry.plan;
    require_kind(&recipe, RunKind::Pretrain)?;
    let patches = plan.patches().ok_or(RunError::NoFcmae(plan.name))?;
    let data = Fingerprint::of(&shards, None)?;
    let reopened = place.reopen(&recipe, &data)?;
    let run = recipe.run(shards.len(), 1)?;
    if let Some(record) = reopened.as_ref().map_or(Ok(None), |dir| finished(dir, &run))? {
        return Ok(record);
    }
    let bytes = device.takes_bytes();
    check_input(plan, &recipe, &run, true, bytes)?;
    let view = view_of(recipe.training().map(|training| &training.augment), Evaluate::default().crop);
    let usage = usage(plan, &recipe.data, view, &[])?;
    let mut trainer = trainer(entry, &recipe, &run, device)?;

    // ---- the run ---------------------------------------------------------------------------------------------------
    let dir = place.open(reopened, &recipe, &data)?;
    let quarantine = dir.quarantine_path();
    let source = Source { plan, recipe: &recipe, run: &run, shards, quarantine, masked: true, bytes };
    let setting = Setting {
        kind: RunKind::Pretrain,
        plan,
        run: &run,
        dir: &dir,
        device,
        seed: recipe.seed,
        recipe_hash: recipe.hash(),
        resume: place.resume,
        usage,
        asked: &interrupt::asked,
    };
    let record = train::train(&Pretraining(patches), &mut *trainer, &source, &setting)?;
    finish(&dir, &run, None, record)
}

/// A trainer with fresh weights: the same on every device.
fn trainer(entry: &Entry, recipe: &Resolved, run: &Run, device: &Device) -> Result<Box<dyn Trainer>, RunError> {
    let plan = &entry.plan;
    let cpu = Cpu::seed_from_u64(recipe.seed);
    let mut model = entry.autoencoder(&cpu)?.ok_or(RunError::NoFcmae(plan.name))?;
    recipe.model.init.apply(&mut *model);
    recipe.model.precision.apply();
    match device {
        Device::Cpu => Ok(Box::new(CpuTrainer::new(Model::Autoencoder(model), cpu, plan, run)?)),
        Device::Cuda(device) => {
            let table = Input { plan, data: &recipe.data, workers: 0 }.table()?;
            let (precision, kind) = (recipe.model.precision, Kind::Autoencoder);
            let design = Design { device, plan, run, precision, table: &table, kind };
            let layout = model.layout();
            let mut parameters = vec![0.0; layout.len()];
            model.read(&mut parameters);
            Ok(Box::new(CudaTrainer::new(&design, layout, parameters)?))
        }
    }
}

struct Pretraining(Patches);

impl Task for Pretraining {
    fn aim(&self, batch: &Batch) -> Result<Aim, RunError> {
        let Patches { high, wide, visible } = self.0;
        Ok(Aim::Masked(Arc::new(Visibility::from_mask(&batch.masks, high, wide, visible)?)))
    }

    fn metrics(&self) -> &'static [MetricKind] {
        &[]
    }

    fn measures(&self, _: u64, _: u64) -> bool {
        false
    }

    fn evaluate(&self, _: &mut dyn Trainer, _: u64, _: u64) -> Result<Vec<EvaluateRecord>, RunError> {
        Ok(Vec::new())
    }
}
