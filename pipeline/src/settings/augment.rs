//! `[augment]`: what happens to a training image, from the keys of a recipe to the steps that an image goes through.

use convnext_data::{
    Augment as Step,
    augment::{Erase, Flip, Pad, RandAugment as Random, RandomResizedCrop},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problems;

/// What happens to a training image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Least and largest share of the image's area that the random crop takes; [0.2, 1] in pre-training and [0.08, 1] in
    /// fine-tuning if absent. Never absent once resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(range(min = 1e-4, max = 1.0)))]
    pub crop_scale: Option<[f64; 2]>,
    /// Least and largest width over height of the random crop.
    #[schemars(inner(range(min = 0.01, max = 100.0)))]
    pub crop_ratio: [f64; 2],
    /// Whether half of the images are mirrored.
    pub flip: bool,
    /// Above 0, images are not cropped and resampled but put in the middle of the model's input, black around them, and
    /// shifted by up to so many pixels each way: for pictures smaller than the input.
    #[schemars(range(min = 0, max = 4096))]
    pub pad: u32,
    /// Chance that a rectangle is replaced by noise.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub erasing: f64,
    /// RandAugment; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rand_augment: Option<RandAugment>,
}

impl Default for Augment {
    fn default() -> Self {
        let crop_ratio = [3.0 / 4.0, 4.0 / 3.0];
        Self { crop_scale: None, crop_ratio, flip: true, pad: 0, erasing: 0.0, rand_augment: None }
    }
}

/// RandAugment. The paper's `m9-mstd0.5-inc1` is `{ operations = 2, magnitude = 9, std = 0.5 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandAugment {
    /// Operations that an image goes through.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 15))]
    pub operations: u32,
    /// Mean magnitude.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub magnitude: f64,
    /// Standard deviation of the magnitude.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 10.0))]
    pub std: f64,
}

fn two() -> u32 {
    2
}

impl Augment {
    /// Fills in the defaults of a task whose random crops take no less than `smallest_crop` of an image's area, and checks
    /// every value.
    pub(crate) fn resolve(&mut self, smallest_crop: f64, problems: &mut Problems) {
        let (usual, ratio) = ([smallest_crop, 1.0], Self::default().crop_ratio);
        let scale = *self.crop_scale.get_or_insert(usual);
        problems.ranges("augment", self);
        problems.ordered("augment.crop_scale", scale);
        problems.ordered("augment.crop_ratio", self.crop_ratio);
        if self.pad > 0 {
            let cropped = scale != usual || self.crop_ratio != ratio;
            problems.unless(!cropped, "augment.pad", self.pad, "0 to crop, or leave crop_scale and crop_ratio out");
        }
    }

    /// What an image goes through, in order, for a model that takes `height` x `width` pixels.
    pub fn steps(&self, height: usize, width: usize) -> Vec<Box<dyn Step>> {
        let mut steps: Vec<Box<dyn Step>> = Vec::new();
        match self.pad {
            0 => {
                let crop = RandomResizedCrop::new(height, width);
                let scale = self.crop_scale.map_or(crop.scale, Into::into);
                steps.push(Box::new(RandomResizedCrop { scale, ratio: self.crop_ratio.into(), ..crop }));
            }
            shift => steps.push(Box::new(Pad { height, width, shift: shift as usize, fill: 0 })),
        }
        if self.flip {
            steps.push(Box::new(Flip::default()));
        }
        if let Some(RandAugment { operations, magnitude, std }) = self.rand_augment {
            steps.push(Box::new(Random { operations: operations as usize, magnitude, deviation: std }));
        }
        if self.erasing > 0.0 {
            steps.push(Box::new(Erase { probability: self.erasing, ..Erase::default() }));
        }
        steps
    }
}
