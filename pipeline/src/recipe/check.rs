//! From a recipe as written to one resolved: defaults filled in, every value checked, every mistake reported.

use super::{
    resolved::{Resolved, Training},
    written::Recipe,
};
use crate::{
    settings::{
        Augment, Checkpoint, Data, Evaluate, MOST_EPOCHS, MOST_MEASURED, MOST_THREADS, Machine, NonFinitePolicy,
        Optimizer, Problems, RecipeError, ResolvedOptimizer,
    },
    tasks::{self, Defaults, Section},
};

/// What a recipe does: one task, with how it is measured on the way if it is; or an evaluation.
type Job = (Option<Training>, Option<Evaluate>);

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
        (Some(model), Some((training, evaluate))) if problems.is_empty() => {
            Ok(Resolved { seed: seed.unwrap_or(0), model, data, training, evaluate, machine })
        }
        _ => Err(RecipeError::Invalid { problems: problems.into_inner() }),
    }
}

fn job(recipe: Recipe, problems: &mut Problems) -> Option<Job> {
    let Recipe { mut tasks, evaluate, optimizer, augment, checkpoint, .. } = recipe;
    match (tasks.pop(), tasks.pop(), evaluate) {
        (Some(last), Some(first), _) => {
            let what = format!("there is [{}] too; write two recipes", last.task().name());
            problems.push(first.task().name(), what);
            None
        }
        (Some(section), None, Some(_)) if section.task().metrics().is_empty() => {
            let what = format!("{} is not measured; remove the section", section.task().title());
            problems.push("evaluate", what.to_lowercase());
            None
        }
        (Some(section), None, evaluate) => {
            let evaluate = (!section.task().metrics().is_empty()).then(|| evaluate.unwrap_or_default());
            evaluate.iter().for_each(|evaluate| problems.evaluate(evaluate));
            Some((Some(training(section, optimizer, augment, checkpoint, problems)), evaluate))
        }
        (None, _, Some(evaluate)) => {
            problems.evaluate(&evaluate);
            problems.unused(optimizer.is_some(), "optimizer");
            problems.unused(augment.is_some(), "augment");
            problems.unused(checkpoint.is_some(), "checkpoint");
            Some((None, Some(evaluate)))
        }
        (None, _, None) => {
            let tasks: Vec<String> = tasks::ALL.iter().map(|task| format!("[{}]", task.name())).collect();
            problems.push("recipe", format!("nothing says what to do; write {} or [evaluate]", tasks.join(", ")));
            None
        }
    }
}

fn training(
    mut section: Section,
    optimizer: Option<Optimizer>,
    augment: Option<Augment>,
    checkpoint: Option<Checkpoint>,
    problems: &mut Problems,
) -> Training {
    let (name, defaults) = (section.task().name(), section.task().defaults());
    problems.course(name, &section.course());
    section.resolve(problems);
    let optimizer = optimizer_of(&defaults, optimizer.unwrap_or_default());
    let augment = augment_of(&defaults, augment.unwrap_or_default());
    let checkpoint = checkpoint.unwrap_or_default();
    problems.optimizer(&optimizer);
    problems.augment(&augment);
    if augment.pad > 0 {
        let crop = augment_of(&defaults, Augment::default());
        let cropped = augment.crop_scale != crop.crop_scale || augment.crop_ratio != crop.crop_ratio;
        problems.unless(!cropped, "augment.pad", augment.pad, "0 to crop, or leave crop_scale and crop_ratio out");
    }
    problems.checkpoint(&checkpoint);
    Training { section, optimizer, augment, checkpoint }
}

fn optimizer_of(defaults: &Defaults, written: Optimizer) -> ResolvedOptimizer {
    ResolvedOptimizer {
        betas: written.betas.unwrap_or([0.9, defaults.beta2]),
        eps: written.eps.unwrap_or(1e-8),
        weight_decay: written.weight_decay.unwrap_or(0.05),
        clip: written.clip,
        non_finite: written.non_finite.unwrap_or(NonFinitePolicy::Stop),
    }
}

fn augment_of(defaults: &Defaults, written: Augment) -> Augment {
    Augment { crop_scale: Some(written.crop_scale.unwrap_or([defaults.smallest_crop, 1.0])), ..written }
}

/// The sections that all tasks share.
impl Problems {
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

    fn threads(&mut self, key: &str, value: usize) {
        let fine = value as u64 <= MOST_THREADS;
        self.unless(fine, key, value, &format!("a number up to {MOST_THREADS}, or 0 for one a core"));
    }

    fn evaluate(&mut self, evaluate: &Evaluate) {
        self.count("evaluate.batch", evaluate.batch, MOST_MEASURED);
        self.count("evaluate.every_epochs", evaluate.every_epochs, MOST_EPOCHS);
        self.within("evaluate.crop", evaluate.crop, [0.1, 1.0]);
    }

    fn optimizer(&mut self, optimizer: &ResolvedOptimizer) {
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

    fn augment(&mut self, augment: &Augment) {
        if let Some(scale) = augment.crop_scale {
            self.ordered("augment.crop_scale", scale, [1e-4, 1.0]);
        }
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
