//! Batches: read from a file that Python wrote, or drawn.

use std::{fs, path::Path, sync::Arc};

use convnext_core::{
    nn::Visibility,
    plan::{Patches, Plan},
};
use convnext_data::{Purpose, Random};
use safetensors::SafeTensors;

use crate::{Job, Outcome};

/// What a step is given.
pub(crate) struct Batch {
    pub(crate) samples: usize,
    /// `[N, H, W, C]`.
    pub(crate) images: Vec<f32>,
    pub(crate) task: Task,
}

pub(crate) enum Task {
    /// The masks.
    Pretrain(Arc<Visibility>),
    /// Soft targets `[N, CLASSES]`.
    Finetune(Vec<f32>),
}

impl Batch {
    /// `images [N, H, W, C]`, and `mask [N, L]`, 1 = removed, or `targets [N, CLASSES]`, all f32.
    pub(crate) fn read(path: &Path, plan: &Plan, job: Job) -> Outcome<Self> {
        let bytes = fs::read(path)?;
        let file = SafeTensors::deserialize(&bytes)?;
        let tensor = |name: &str| -> Outcome<Vec<f32>> {
            let values = file.tensor(name)?.data().chunks_exact(4);
            Ok(values.map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect())
        };
        let images = tensor("images")?;
        let samples = images.len() / pixels(plan);
        let task = match job {
            Job::Pretrain => {
                let mask: Vec<u8> = tensor("mask")?.into_iter().map(|value| value as u8).collect();
                Task::Pretrain(Arc::new(visibility(patches(plan)?, &mask)?))
            }
            Job::Finetune | Job::Infer => Task::Finetune(tensor("targets")?),
        };
        Ok(Self { samples, images, task })
    }
}

pub(crate) fn pixels(plan: &Plan) -> usize {
    plan.height * plan.width * plan.channels
}

pub(crate) fn patches(plan: &Plan) -> Outcome<Patches> {
    plan.patches().ok_or_else(|| format!("{} declares no pre-training part", plan.name).into())
}

fn visibility(patches: Patches, mask: &[u8]) -> Outcome<Visibility> {
    Ok(Visibility::from_mask(mask, patches.high, patches.wide, patches.visible)?)
}

/// Masks that keep as many patches as the plan says.
pub(crate) fn random_masks(patches: Patches, samples: usize, random: &mut Random) -> Outcome<Visibility> {
    let mut mask = vec![1; samples * patches.count()];
    for sample in mask.chunks_mut(patches.count()) {
        let mut left = patches.visible;
        while left > 0 {
            let patch = &mut sample[random.range(sample.len() as u64) as usize];
            left -= usize::from(*patch == 1);
            *patch = 0;
        }
    }
    visibility(patches, &mask)
}

/// Four batches: a picture for each class, under noise; always the same.
pub(crate) fn batches(plan: &Plan, job: Job, samples: usize) -> Outcome<Vec<Batch>> {
    let batch = |index: u64| {
        let mut random = Random::new(1, index, 0, Purpose::Augment);
        let labels: Vec<usize> = (0..samples).map(|_| random.range(plan.classes as u64) as usize).collect();
        let image = |&label: &usize| {
            let mut picture = Random::new(2, 0, label as u64, Purpose::Augment);
            let mut pixel = || 0.7 * picture.normal() + 0.5 * random.normal();
            (0..pixels(plan)).map(|_| pixel()).collect::<Vec<f32>>()
        };
        let images = labels.iter().flat_map(image).collect();
        let mut random = Random::new(3, index, 0, Purpose::Augment);
        let task = match job {
            Job::Pretrain => Task::Pretrain(Arc::new(random_masks(patches(plan)?, samples, &mut random)?)),
            Job::Finetune | Job::Infer => {
                let row = |&label: &usize| (0..plan.classes).map(move |class| f32::from(u8::from(class == label)));
                Task::Finetune(labels.iter().flat_map(row).collect())
            }
        };
        Ok(Batch { samples, images, task })
    };
    (0..4).map(batch).collect()
}
