//! Pre-training: a fully convolutional masked autoencoder learns to fill in removed patches.

use std::sync::Arc;

use convnext_core::{
    dfdx::tensor::{Cpu, Gradients},
    nn::{AutoencoderModule, Entry, Flat},
    plan::FcmaePlan,
    visibility::Visibility,
};
use convnext_data::ShardSet;

use super::{
    Place, RunError,
    train::{self, Setting, Source, Task, write_json},
};
use crate::{
    learner::Learner,
    recipe::Resolved,
    records::{self, EvaluateRecord, RunKind, RunRecord},
    stream::Batch,
};

/// Pre-trains `entry` on `shards` by `recipe`, in `place`.
///
/// # Errors
/// [`RunError`]; what is on the disk then is a run that can be resumed, or nothing.
pub fn pretrain(entry: &Entry, recipe: Resolved, shards: Arc<ShardSet>, place: &Place) -> Result<RunRecord, RunError> {
    let plan = &entry.plan;
    let fcmae = plan.fcmae.ok_or(RunError::NoFcmae(plan.name))?;
    let run = recipe.run(shards.len(), 1)?;
    let device = Cpu::seed_from_u64(recipe.seed);
    let mut model = entry.autoencoder(&device)?.ok_or(RunError::NoFcmae(plan.name))?;
    recipe.model.init.apply(&mut *model);
    recipe.model.precision.apply();
    let (dir, recipe) = place.open(recipe)?;

    let quarantine = dir.quarantine_path();
    let source = Source { plan, recipe: &recipe, run: &run, shards, quarantine, masked: true };
    let mut task = Pretraining { fcmae, source, device, model };
    let setting = Setting {
        kind: RunKind::Pretrain,
        plan,
        run: &run,
        dir: &dir,
        seed: recipe.seed,
        recipe_hash: recipe.hash(),
        resume: place.resume,
    };
    let record = train::train(&mut task, &setting)?;
    write_json(&dir.path().join(records::RUN), &record)?;
    Ok(record)
}

struct Pretraining<'a> {
    fcmae: FcmaePlan,
    source: Source<'a>,
    device: Cpu,
    model: Box<dyn AutoencoderModule>,
}

impl Task for Pretraining<'_> {
    fn model(&mut self) -> &mut dyn Flat {
        &mut *self.model
    }

    fn source(&self) -> &Source<'_> {
        &self.source
    }

    fn step(
        &mut self,
        batch: &mut Batch,
        gradients: Gradients<f32, Cpu>,
    ) -> Result<(f32, Gradients<f32, Cpu>), RunError> {
        let FcmaePlan { patches_high, patches_wide, visible, .. } = self.fcmae;
        let visible = Arc::new(Visibility::from_mask(&batch.masks, patches_high, patches_wide, visible)?);
        Ok(self.model.step(&self.device, batch.images.clone(), &visible, gradients)?)
    }

    fn evaluate(&mut self, _: &Learner, _: u64, _: u64) -> Result<Vec<EvaluateRecord>, RunError> {
        Ok(Vec::new())
    }
}
