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
    train::{self, Setting, Task, write_json},
};
use crate::{
    input::{Course, Input},
    learner::Learner,
    recipe::{Resolved, Run},
    records::{self, EvaluateRecord, RunKind, RunRecord},
    stream::{Batch, Stream},
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
    let model = entry.autoencoder(&device)?.ok_or(RunError::NoFcmae(plan.name))?;
    let (dir, recipe) = place.open(recipe)?;

    let mut task = Pretraining { entry, fcmae, recipe: &recipe, run: &run, shards, device, model, dir: &dir };
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
    entry: &'a Entry,
    fcmae: FcmaePlan,
    recipe: &'a Resolved,
    run: &'a Run,
    shards: Arc<ShardSet>,
    device: Cpu,
    model: Box<dyn AutoencoderModule>,
    dir: &'a crate::run_dir::RunDir,
}

impl Task for Pretraining<'_> {
    fn model(&mut self) -> &mut dyn Flat {
        &mut *self.model
    }

    fn stream(&self, start: u64, end: u64) -> Result<Stream, RunError> {
        let training = self.recipe.training().expect("a pre-training recipe trains");
        let input = Input { plan: &self.entry.plan, data: &self.recipe.data, workers: self.recipe.machine.workers };
        let course = Course {
            batch: self.run.batch,
            epoch: self.run.steps_per_epoch * self.run.images_per_step,
            start,
            end,
            seed: self.recipe.seed,
            quarantine: self.dir.quarantine_path(),
        };
        Ok(input.training(self.shards.clone(), &training.augment, true, course)?)
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
