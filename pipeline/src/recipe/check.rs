//! From a recipe as written to one resolved: defaults filled in, every value checked, every mistake reported.

use super::{
    resolved::{Resolved, Training},
    written::Recipe,
};
use crate::{
    settings::{Augment, Checkpoint, Evaluate, Optimizer, Problems, RecipeError, ResolvedOptimizer, Stop},
    tasks::{self, Defaults, Section},
};

/// What a recipe does: one task, with how it is measured on the way if it is; or an evaluation.
type Job = (Option<Training>, Option<Evaluate>);

pub(super) fn resolve(recipe: Recipe) -> Result<Resolved, RecipeError> {
    let mut problems = Problems::default();
    problems.ranges("data", &recipe.data);
    problems.ranges("machine", &recipe.machine);
    let Recipe { seed, model, data, machine, .. } = recipe.clone();
    if model.is_none() {
        problems.push("model.name", "which variant? give --model, or name = \"atto\" in [model]");
    }
    model.iter().for_each(|model| problems.ranges("model", model));
    if model.as_ref().is_some_and(|model| model.classes.is_some())
        && let [section] = &recipe.tasks[..]
        && !section.task().has_classes()
    {
        let title = section.task().title().to_lowercase();
        problems.push("model.classes", format!("{title} has no classes; leave it out"));
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
    let Recipe { mut tasks, evaluate, optimizer, augment, checkpoint, stop, .. } = recipe;
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
            evaluate.iter().for_each(|evaluate| problems.ranges("evaluate", evaluate));
            Some((Some(training(section, (optimizer, augment, checkpoint, stop), problems)), evaluate))
        }
        (None, _, Some(evaluate)) => {
            problems.ranges("evaluate", &evaluate);
            problems.unused(optimizer.is_some(), "optimizer");
            problems.unused(augment.is_some(), "augment");
            problems.unused(checkpoint.is_some(), "checkpoint");
            problems.unused(stop.is_some(), "stop");
            Some((None, Some(evaluate)))
        }
        (None, _, None) => {
            let tasks: Vec<String> = tasks::ALL.iter().map(|task| format!("[{}]", task.name())).collect();
            problems.push("recipe", format!("nothing says what to do; write {} or [evaluate]", tasks.join(", ")));
            None
        }
    }
}

/// The sections that every task may have beside its own.
type Shared = (Option<Optimizer>, Option<Augment>, Option<Checkpoint>, Option<Stop>);

fn training(mut section: Section, (optimizer, augment, checkpoint, stop): Shared, problems: &mut Problems) -> Training {
    let (name, defaults) = (section.task().name(), section.task().defaults());
    problems.course(name, &section.course());
    section.resolve(problems);
    let (optimizer, checkpoint) = (optimizer.unwrap_or_default(), checkpoint.unwrap_or_default());
    problems.ranges("optimizer", &optimizer);
    problems.ranges("checkpoint", &checkpoint);
    let optimizer = optimizer_of(&defaults, optimizer);
    let mut augment = augment.unwrap_or_default();
    augment.resolve(defaults.smallest_crop, problems);
    if let Some(stop) = stop {
        problems.ranges("stop", &stop);
        let measured = !section.task().metrics().is_empty();
        problems.unless(measured, "stop.patience", stop.patience, "none: this is not measured on the way");
    }
    Training { section, optimizer, augment, checkpoint, stop }
}

fn optimizer_of(defaults: &Defaults, written: Optimizer) -> ResolvedOptimizer {
    let Optimizer { betas, eps, weight_decay, clip, non_finite } = written;
    ResolvedOptimizer { betas: betas.unwrap_or([0.9, defaults.beta2]), eps, weight_decay, clip, non_finite }
}
