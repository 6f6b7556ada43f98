//! From a recipe as written to one resolved: defaults filled in, every value checked, every mistake reported.

use super::{
    error::{Problem, RecipeError},
    resolved::{self, Job, Resolved, Training},
    written::{Augment, Checkpoint, Data, Evaluate, Finetune, Machine, Optimizer, Pretrain, Recipe, Start},
};

/// Most epochs, and most of anything that comes every so many epochs or steps.
const MOST_EPOCHS: u64 = 1_000_000_000;
/// Most images of a batch, and most batches of a step.
const MOST_IMAGES: u64 = 1 << 20;
/// Most images of a pass that measures.
const MOST_MEASURED: u64 = 1 << 16;
/// Most threads of a kind: as many as `--threads` takes.
const MOST_THREADS: u64 = 1024;

/// Which of the two trainings defaults are for.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Pretrain,
    Finetune,
}

pub(super) fn resolve(recipe: Recipe) -> Result<Resolved, RecipeError> {
    let mut problems = Problems::default();
    problems.data(&recipe.data);
    problems.machine(&recipe.machine);
    let Recipe { seed, model, data, machine, .. } = recipe.clone();
    if model.is_none() {
        problems.push("model.name", "which variant? give --model, or name = \"atto\" in [model]");
    }
    let job = job(recipe, &mut problems);
    match (model, job) {
        (Some(model), Some(job)) if problems.0.is_empty() => {
            Ok(Resolved { seed: seed.unwrap_or(0), model, data, job, machine })
        }
        _ => Err(RecipeError::Invalid { problems: problems.0 }),
    }
}

fn job(recipe: Recipe, problems: &mut Problems) -> Option<Job> {
    let Recipe { pretrain, finetune, evaluate, optimizer, augment, checkpoint, .. } = recipe;
    match (pretrain, finetune, evaluate) {
        (Some(pretrain), None, None) => {
            problems.pretrain(&pretrain);
            let training = training(Kind::Pretrain, optimizer, augment, checkpoint, problems);
            Some(Job::Pretrain { pretrain, training })
        }
        (None, Some(finetune), evaluate) => {
            let evaluate = evaluate.unwrap_or_default();
            problems.evaluate(&evaluate);
            let finetune = problems.finetune(finetune);
            let training = training(Kind::Finetune, optimizer, augment, checkpoint, problems);
            Some(Job::Finetune { finetune, evaluate, training })
        }
        (None, None, Some(evaluate)) => {
            problems.evaluate(&evaluate);
            problems.unused(optimizer.is_some(), "optimizer");
            problems.unused(augment.is_some(), "augment");
            problems.unused(checkpoint.is_some(), "checkpoint");
            Some(Job::Evaluate { evaluate })
        }
        (Some(_), None, Some(_)) => {
            problems.push("evaluate", "pre-training has no classifier to evaluate; remove the section");
            None
        }
        (Some(_), Some(_), _) => {
            problems.push("pretrain", "there is [finetune] too; write two recipes");
            None
        }
        (None, None, None) => {
            problems.push("recipe", "says not what to do; write [pretrain], [finetune] or [evaluate]");
            None
        }
    }
}

fn training(
    kind: Kind,
    optimizer: Option<Optimizer>,
    augment: Option<Augment>,
    checkpoint: Option<Checkpoint>,
    problems: &mut Problems,
) -> Training {
    let optimizer = optimizer_of(kind, optimizer.unwrap_or_default());
    let augment = augment_of(kind, augment.unwrap_or_default());
    let checkpoint = checkpoint.unwrap_or_default();
    problems.optimizer(&optimizer);
    problems.augment(&augment);
    if augment.pad > 0 {
        let crop = augment_of(kind, Augment::default());
        let cropped = augment.crop_scale != crop.crop_scale || augment.crop_ratio != crop.crop_ratio;
        problems.unless(!cropped, "augment.pad", augment.pad, "0 to crop, or leave crop_scale and crop_ratio out");
    }
    problems.checkpoint(&checkpoint);
    Training { optimizer, augment, checkpoint }
}

fn optimizer_of(kind: Kind, written: Optimizer) -> resolved::Optimizer {
    let beta2 = if kind == Kind::Pretrain { 0.95 } else { 0.999 };
    resolved::Optimizer {
        betas: written.betas.unwrap_or([0.9, beta2]),
        eps: written.eps.unwrap_or(1e-8),
        weight_decay: written.weight_decay.unwrap_or(0.05),
        clip: written.clip,
        non_finite: written.non_finite.unwrap_or(super::NonFinitePolicy::Stop),
    }
}

fn augment_of(kind: Kind, written: Augment) -> resolved::Augment {
    let smallest = if kind == Kind::Pretrain { 0.2 } else { 0.08 };
    resolved::Augment {
        crop_scale: written.crop_scale.unwrap_or([smallest, 1.0]),
        crop_ratio: written.crop_ratio.unwrap_or([3.0 / 4.0, 4.0 / 3.0]),
        flip: written.flip.unwrap_or(true),
        pad: written.pad.unwrap_or(0),
        erasing: written.erasing.unwrap_or(0.0),
        rand_augment: written.rand_augment,
    }
}

/// Everything found wrong so far. Each method looks at one section.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn push(&mut self, key: &str, what: impl Into<String>) {
        self.0.push(Problem::new(key, what));
    }

    fn unless(&mut self, fine: bool, key: &str, value: impl std::fmt::Debug, wanted: &str) {
        if !fine {
            self.push(key, format!("{value:?}; give {wanted}"));
        }
    }

    fn unused(&mut self, present: bool, section: &str) {
        if present {
            self.push(section, "has no effect when only evaluating; remove the section");
        }
    }

    /// A count from 1 to `most`.
    fn count(&mut self, key: &str, value: u64, most: u64) {
        self.unless((1..=most).contains(&value), key, value, &format!("a number from 1 to {most}"));
    }

    fn threads(&mut self, key: &str, value: usize) {
        let fine = value as u64 <= MOST_THREADS;
        self.unless(fine, key, value, &format!("a number up to {MOST_THREADS}, or 0 for one a core"));
    }

    fn within(&mut self, key: &str, value: f64, [low, high]: [f64; 2]) {
        self.unless((low..=high).contains(&value), key, value, &format!("a number from {low:?} to {high:?}"));
    }

    /// From 0 to below 1, in f32 too, which is what it becomes: the largest is 0.99999994.
    fn share(&mut self, key: &str, value: f64) {
        let fine = value >= 0.0 && (value as f32) < 1.0;
        self.unless(fine, key, value, "a number from 0 to below 1, by 6e-8 or more");
    }

    /// Alpha of a beta distribution, or none.
    fn alpha(&mut self, key: &str, value: f64) {
        let fine = value == 0.0 || (0.01..=100.0).contains(&value);
        self.unless(fine, key, value, "0 for none, or a number from 0.01 to 100");
    }

    fn ordered(&mut self, key: &str, [low, high]: [f64; 2], [least, most]: [f64; 2]) {
        let wanted = format!("[low, high] with {least} <= low <= high <= {most}");
        self.unless(least <= low && low <= high && high <= most, key, [low, high], &wanted);
    }

    fn data(&mut self, data: &Data) {
        let rate = data.bad.max_rate;
        self.unless((0.0..=1.0).contains(&rate), "data.bad.max_rate", rate, "a number from 0 to 1");
        let stds = data.std.as_deref().unwrap_or(&[]);
        let fine = stds.iter().all(|std| (1e-6..=1e6).contains(std));
        self.unless(fine, "data.std", stds, "numbers from 1e-6 to 1e6; pixels run from 0 to 1");
        let means = data.mean.as_deref().unwrap_or(&[]);
        let fine = means.iter().all(|mean| (-1e6..=1e6).contains(mean));
        self.unless(fine, "data.mean", means, "numbers from -1e6 to 1e6; pixels run from 0 to 1");
        self.unless(data.max_pixels != Some(0), "data.max_pixels", 0, "1 or more");
    }

    fn machine(&mut self, machine: &Machine) {
        self.threads("machine.threads", machine.threads);
        self.threads("machine.workers", machine.workers);
    }

    fn pretrain(&mut self, p: &Pretrain) {
        self.length("pretrain", p.epochs, p.batch, p.accumulation);
        self.rates("pretrain", p.base_lr, p.warmup_lr, p.min_lr);
        self.warmup("pretrain", p.warmup_epochs, p.epochs);
    }

    fn length(&mut self, section: &str, epochs: u64, batch: u64, accumulation: u64) {
        self.count(&format!("{section}.epochs"), epochs, MOST_EPOCHS);
        self.count(&format!("{section}.batch"), batch, MOST_IMAGES);
        self.count(&format!("{section}.accumulation"), accumulation, MOST_IMAGES);
    }

    fn rates(&mut self, section: &str, base_lr: f64, warmup_lr: f64, min_lr: f64) {
        let key = format!("{section}.base_lr");
        self.unless(base_lr > 0.0 && base_lr.is_finite(), &key, base_lr, "a number above 0");
        self.within(&format!("{section}.warmup_lr"), warmup_lr, [0.0, 1e30]);
        self.within(&format!("{section}.min_lr"), min_lr, [0.0, 1e30]);
    }

    fn warmup(&mut self, section: &str, warmup_epochs: f64, epochs: u64) {
        let fine = warmup_epochs >= 0.0 && warmup_epochs <= epochs as f64;
        let wanted = format!("a number from 0 to the {epochs} epochs of the run");
        self.unless(fine, &format!("{section}.warmup_epochs"), warmup_epochs, &wanted);
    }

    fn finetune(&mut self, f: Finetune) -> resolved::Finetune {
        self.length("finetune", f.epochs, f.batch, f.accumulation);
        self.rates("finetune", f.base_lr, f.warmup_lr, f.min_lr);
        self.warmup("finetune", f.warmup_epochs, f.epochs);
        self.regularisation(&f);
        let head_scale = self.head(&f);
        resolved::Finetune {
            epochs: f.epochs,
            batch: f.batch,
            accumulation: f.accumulation,
            base_lr: f.base_lr,
            warmup_epochs: f.warmup_epochs,
            warmup_lr: f.warmup_lr,
            min_lr: f.min_lr,
            start: f.start,
            weights: f.weights,
            head_scale,
            drop_path: f.drop_path,
            smoothing: f.smoothing,
            mixup: f.mixup,
            cutmix: f.cutmix,
            layer_decay: f.layer_decay,
            ema: f.ema,
        }
    }

    fn regularisation(&mut self, f: &Finetune) {
        self.share("finetune.drop_path", f.drop_path.unwrap_or(0.0));
        self.share("finetune.smoothing", f.smoothing);
        self.alpha("finetune.mixup", f.mixup);
        self.alpha("finetune.cutmix", f.cutmix);
        if let Some(decay) = f.layer_decay {
            self.within("finetune.layer_decay.rate", decay.rate, [1e-3, 1.0]);
        }
        if let Some(ema) = f.ema {
            self.share("finetune.ema.decay", ema.decay);
        }
    }

    fn head(&mut self, f: &Finetune) -> f64 {
        let scale = f.head_scale.unwrap_or(f.start.head_scale());
        self.within("finetune.head_scale", scale, [1e-9, 1e9]);
        if f.start == Start::Scratch {
            self.unless(scale == 1.0, "finetune.head_scale", scale, "1 from scratch, or start = \"pretrained\"");
            self.unless(
                f.weights.is_none(),
                "finetune.weights",
                &f.weights,
                "none from scratch, or start = \"pretrained\"",
            );
        }
        scale
    }

    fn evaluate(&mut self, evaluate: &Evaluate) {
        self.count("evaluate.batch", evaluate.batch, MOST_MEASURED);
        self.count("evaluate.every_epochs", evaluate.every_epochs, MOST_EPOCHS);
        self.within("evaluate.crop", evaluate.crop, [0.1, 1.0]);
    }

    fn optimizer(&mut self, optimizer: &resolved::Optimizer) {
        let fine = optimizer.betas.iter().all(|&beta| beta >= 0.0 && (beta as f32) < 1.0);
        self.unless(fine, "optimizer.betas", optimizer.betas, "two numbers from 0 to below 1, by 6e-8 or more");
        self.within("optimizer.eps", optimizer.eps, [1e-30, 1.0]);
        self.within("optimizer.weight_decay", optimizer.weight_decay, [0.0, 1e6]);
        if let Some(clip) = optimizer.clip {
            let fine = (1e-9..=1e9).contains(&clip);
            let wanted = "a number from 1e-9 to 1e9, or leave it out (--set optimizer.clip=)";
            self.unless(fine, "optimizer.clip", clip, wanted);
        }
    }

    fn augment(&mut self, augment: &resolved::Augment) {
        self.ordered("augment.crop_scale", augment.crop_scale, [1e-4, 1.0]);
        self.ordered("augment.crop_ratio", augment.crop_ratio, [0.01, 100.0]);
        self.unless(augment.pad <= 4096, "augment.pad", augment.pad, "a number from 0 to 4096");
        self.within("augment.erasing", augment.erasing, [0.0, 1.0]);
        if let Some(random) = augment.rand_augment {
            self.within("augment.rand_augment.magnitude", random.magnitude, [0.0, 10.0]);
            self.within("augment.rand_augment.std", random.std, [0.0, 10.0]);
            self.count("augment.rand_augment.operations", random.operations.into(), 15);
        }
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.count("checkpoint.every_epochs", checkpoint.every_epochs, MOST_EPOCHS);
        self.count("checkpoint.every_steps", checkpoint.every_steps.unwrap_or(1), MOST_EPOCHS);
        self.count("checkpoint.keep_last", checkpoint.keep_last as u64, MOST_EPOCHS);
    }
}
