//! What settings come to with the size of the data known: absolute learning rates and numbers of steps.

use convnext_core::optim::{self, AdamW, LearningRate};
use convnext_weights::checkpoint::{Better, Keep};

use super::{
    Checkpoint, Course, Ema, LayerDecay, LayerDecayMode, NonFinitePolicy, Problem, RecipeError, ResolvedOptimizer, Stop,
};

/// Images a step that base learning rates are quoted for.
const LR_BATCH: f64 = 256.0;

/// Most images of a step, and of a run: whole numbers that a float still tells apart.
const MOST_NUMBERS: u64 = 1 << 53;

/// The numbers of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Passes over the training set.
    pub epochs: u64,
    /// Images of one forward and backward pass on this machine.
    pub batch: usize,
    /// Batches whose gradients make one step.
    pub accumulation: usize,
    /// Images of one step: batch x accumulation x machines.
    pub images_per_step: u64,
    /// Steps of an epoch. What is left of an epoch after its last full step is not trained on; the order differs from
    /// epoch to epoch, so that other images are left over each time.
    pub steps_per_epoch: u64,
    /// Learning rate by step; its `total` is the length of the run.
    pub schedule: LearningRate,
    /// The optimiser.
    pub adamw: AdamW,
    /// Layer-wise decay of the learning rate.
    pub layer_decay: Option<optim::LayerDecay>,
    /// Moving average of the weights.
    pub ema: Option<optim::Ema>,
    /// Largest norm of the gradient.
    pub clip: Option<f64>,
    /// What a loss or gradient that is not finite leads to.
    pub non_finite: NonFinitePolicy,
    /// Which checkpoints stay.
    pub keep: Keep,
    /// When it ends before its last step; never if `None`.
    pub stop: Option<Stop>,
    save_every: (u64, Option<u64>),
}

/// The settings of a training run.
pub(crate) struct Terms<'a> {
    /// The task, for messages.
    pub(crate) section: &'static str,
    pub(crate) course: Course,
    pub(crate) optimizer: &'a ResolvedOptimizer,
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) stop: Option<Stop>,
    pub(crate) layer_decay: Option<optim::LayerDecay>,
    pub(crate) ema: Option<optim::Ema>,
    /// Which is the better of two checkpoints, if they are measured.
    pub(crate) better: Option<Better>,
}

impl Run {
    /// The run on `samples` training images and `machines` machines.
    ///
    /// # Errors
    /// [`RecipeError::Invalid`] when there are fewer images than one step takes, or more than can be counted.
    pub(crate) fn new(terms: &Terms<'_>, samples: u64, machines: u64) -> Result<Self, RecipeError> {
        let Terms { section, course, optimizer, checkpoint, stop, layer_decay, ema, better } = *terms;
        let images_per_step = (course.batch.checked_mul(course.accumulation)).and_then(|n| n.checked_mul(machines));
        let images_per_step =
            images_per_step.filter(|&n| n <= MOST_NUMBERS).ok_or_else(|| too_many(section, &course))?;
        let steps_per_epoch = samples / images_per_step;
        if steps_per_epoch == 0 {
            return Err(too_few(section, &course, samples, images_per_step));
        }
        let images = (steps_per_epoch * images_per_step).checked_mul(course.epochs);
        if images.is_none_or(|images| images > MOST_NUMBERS) {
            return Err(too_long(section, &course, samples));
        }
        Ok(Self {
            epochs: course.epochs,
            batch: course.batch as usize,
            accumulation: course.accumulation as usize,
            images_per_step,
            steps_per_epoch,
            schedule: schedule(&course, images_per_step, steps_per_epoch),
            adamw: AdamW {
                beta1: optimizer.betas[0],
                beta2: optimizer.betas[1],
                eps: optimizer.eps,
                weight_decay: optimizer.weight_decay,
            },
            layer_decay,
            ema,
            clip: optimizer.clip,
            non_finite: optimizer.non_finite,
            keep: Keep { last: checkpoint.keep_last, best: better.filter(|_| checkpoint.keep_best) },
            stop,
            save_every: (checkpoint.every_epochs, checkpoint.every_steps),
        })
    }

    /// Steps of the run.
    pub fn steps(&self) -> u64 {
        self.schedule.total
    }

    /// Whether a checkpoint is due after `step` steps.
    pub fn saves_after(&self, step: u64) -> bool {
        let (epochs, steps) = self.save_every;
        let by_epoch = self.ends_epoch(step).is_some_and(|epoch| epoch.is_multiple_of(epochs));
        let by_step = step > 0 && steps.is_some_and(|steps| step.is_multiple_of(steps));
        by_epoch || by_step || step == self.steps()
    }

    /// The number of epochs completed, if an epoch ends after `step` steps.
    pub fn ends_epoch(&self, step: u64) -> Option<u64> {
        (step > 0 && step.is_multiple_of(self.steps_per_epoch)).then_some(step / self.steps_per_epoch)
    }
}

fn schedule(course: &Course, images_per_step: u64, steps_per_epoch: u64) -> LearningRate {
    LearningRate {
        start: course.warmup_lr,
        peak: course.base_lr * images_per_step as f64 / LR_BATCH,
        end: course.min_lr,
        warmup: (course.warmup_epochs * steps_per_epoch as f64).round() as u64,
        total: course.epochs * steps_per_epoch,
    }
}

fn too_few(section: &str, course: &Course, samples: u64, images_per_step: u64) -> RecipeError {
    let passes = images_per_step / course.batch.max(1);
    let fits = match samples / passes.max(1) {
        0 => format!("; lower {section}.accumulation"),
        most => format!("; at most {section}.batch = {most} fits"),
    };
    invalid(&format!("{section}.batch"), format!("a step takes {images_per_step} images and there are {samples}{fits}"))
}

fn too_many(section: &str, course: &Course) -> RecipeError {
    let Course { batch, accumulation, .. } = course;
    let what =
        format!("{batch}, times {accumulation} of {section}.accumulation, are more than the limit of 2^53; lower them");
    invalid(&format!("{section}.batch"), what)
}

fn too_long(section: &str, course: &Course, samples: u64) -> RecipeError {
    let epochs = course.epochs;
    let what = format!("{epochs} times {samples} images are more than the limit of 2^53; give fewer epochs");
    invalid(&format!("{section}.epochs"), what)
}

fn invalid(key: &str, what: String) -> RecipeError {
    RecipeError::Invalid { problems: vec![Problem::new(key, what)] }
}

impl From<LayerDecay> for optim::LayerDecay {
    fn from(decay: LayerDecay) -> Self {
        match decay.mode {
            LayerDecayMode::Single => Self::single(decay.rate),
            LayerDecayMode::Group => Self::group(decay.rate),
        }
    }
}

impl From<Ema> for optim::Ema {
    fn from(ema: Ema) -> Self {
        Self { decay: ema.decay, warmup: ema.warmup }
    }
}
