//! What was written to what is meant: every rule of the language is a function here, named for what it checks.

mod grid;
mod masking;
mod names;
mod values;

use crate::ast::example;
use crate::ast::{Declaration, Flavour, Fraction, Number, Setting, Settings, Spec, Stage, Stages};
use crate::error::{Errors, Wrong};
use crate::suggest;
use proc_macro2::{Ident, Span};

pub(crate) use names::names;
pub(crate) use values::values;

/// A model with every setting resolved, in range, and fitting the others.
///
/// Grids and visible patches are here because messages show their arithmetic and emitted types hold them as literals. All
/// else that follows from these sizes is `convnext_core`'s to work out.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) height: u64,
    pub(crate) width: u64,
    pub(crate) channels: u64,
    pub(crate) stem: u64,
    pub(crate) classes: u64,
    pub(crate) flavour: Flavour,
    pub(crate) drop_path: f32,
    pub(crate) stages: Vec<ModelStage>,
    pub(crate) fcmae: Option<ModelFcmae>,
}

/// One stage of a [`Model`], with its grid.
#[derive(Debug)]
pub(crate) struct ModelStage {
    pub(crate) dim: u64,
    pub(crate) depth: u64,
    pub(crate) kernel: u64,
    pub(crate) height: u64,
    pub(crate) width: u64,
}

/// The pre-training part of a [`Model`], with its masking grid.
#[derive(Debug)]
pub(crate) struct ModelFcmae {
    pub(crate) patch: u64,
    pub(crate) mask: Fraction,
    pub(crate) patches_high: u64,
    pub(crate) patches_wide: u64,
    pub(crate) visible: u64,
    pub(crate) decoder_dim: u64,
    pub(crate) decoder_depth: u64,
    pub(crate) decoder_kernel: u64,
    pub(crate) normalised: bool,
}

impl Model {
    /// Pixels to a side of one cell of the last grid.
    pub(crate) fn stride(&self) -> u64 {
        self.stride_of(self.stages.len() - 1)
    }

    /// Pixels to a side of one cell of a stage's grid.
    pub(crate) fn stride_of(&self, stage: usize) -> u64 {
        self.stem << stage
    }

    /// The last stage.
    pub(crate) fn last(&self) -> &ModelStage {
        self.stages.last().expect("a checked model has stages")
    }
}

/// A value as a model sees it: its own, or its family's.
#[derive(Debug)]
pub(crate) struct Written<'a, T> {
    value: &'a T,
    /// The family in which it is written, unless it is the model's own.
    family: Option<&'a Ident>,
}

impl<T> Clone for Written<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Written<'_, T> {}

/// A model, its family, and where to report what is wrong with the two.
struct Scope<'a, 'e> {
    model: &'a Declaration,
    family: Option<&'a Declaration>,
    errors: &'e mut Errors,
}

impl<'a> Scope<'a, '_> {
    /// A setting of the model, or else of its family.
    fn find<T>(&self, get: impl Fn(&'a Settings) -> &'a Setting<T>) -> Setting<Written<'a, T>> {
        self.merge(Some(get(&self.model.settings)), self.family.map(|family| get(&family.settings)))
    }

    /// A model's own setting, or else the one it inherits.
    fn merge<T>(&self, own: Option<&'a Setting<T>>, inherited: Option<&'a Setting<T>>) -> Setting<Written<'a, T>> {
        match own.unwrap_or(&Setting::Absent) {
            Setting::Wrong => return Setting::Wrong,
            Setting::Given(value) => return Setting::Given(Written { value, family: None }),
            Setting::Absent => {}
        }
        match inherited.unwrap_or(&Setting::Absent) {
            Setting::Wrong => Setting::Wrong,
            Setting::Given(value) => Setting::Given(Written { value, family: self.model.family.as_ref() }),
            // An unknown family, already reported, might have set it.
            Setting::Absent if self.model.family.is_some() && self.family.is_none() => Setting::Wrong,
            Setting::Absent => Setting::Absent,
        }
    }

    /// Reports a mistake on a token of a written value.
    fn blame<T>(&mut self, written: Written<'_, T>, span: Span, message: String) {
        match written.family {
            None => self.errors.add(span, message),
            Some(family) => {
                let model = self.model.name.to_string();
                self.errors.add_inherited(span, message, family.to_string(), model);
            }
        }
    }
}

/// A value that has to be there; its absence is reported by [`nothing_is_missing`].
fn required<T: Copy>(setting: Setting<T>) -> Result<T, Wrong> {
    setting.given().copied().ok_or(Wrong)
}

/// A value that may be absent.
fn optional<T: Copy>(setting: &Setting<Written<'_, T>>, default: T) -> Result<T, Wrong> {
    match setting {
        Setting::Absent => Ok(default),
        Setting::Wrong => Err(Wrong),
        Setting::Given(written) => Ok(*written.value),
    }
}

/// Resolves a model's settings and checks that they fit each other.
pub(crate) fn model(model: &Declaration, spec: &Spec, errors: &mut Errors) -> Result<Model, Wrong> {
    let scope = &mut Scope { model, family: spec.family_of(model), errors };
    // All checks run before the first `?`, so that one build reports every mistake.
    nothing_is_missing(scope);
    let grid = grid::divides(scope);
    let fcmae = masking::fcmae(scope, &grid);

    let grid = grid?;
    let kernel = optional(&scope.find(|settings| &settings.kernel), Number::default_value(7))?;
    let drop_path = scope.find(|settings| &settings.drop_path);
    Ok(Model {
        height: grid.height,
        width: grid.width,
        channels: required(scope.find(|settings| &settings.input))?.value.channels?.value,
        stem: grid.stem,
        classes: required(scope.find(|settings| &settings.head))?.value.value,
        flavour: optional(&scope.find(|settings| &settings.block), Flavour::V2)?,
        drop_path: optional(&drop_path, Fraction::default_value(0, 0))?.as_f32(),
        stages: stages(required(scope.find(|settings| &settings.stages))?.value, kernel, &grid)?,
        fcmae: fcmae?,
    })
}

fn stages(stages: &Stages, kernel: Number, grid: &grid::Grid) -> Result<Vec<ModelStage>, Wrong> {
    let resolve = |index: usize, stage: Stage| {
        let stride = grid.stem << index;
        ModelStage {
            dim: stage.dim.value,
            depth: stage.depth.value,
            kernel: stage.kernel.unwrap_or(kernel).value,
            height: grid.height / stride,
            width: grid.width / stride,
        }
    };
    stages.list.iter().enumerate().map(|(index, stage)| stage.map(|stage| resolve(index, stage))).collect()
}

/// Every required setting is there, in the model or in its family.
fn nothing_is_missing(scope: &mut Scope<'_, '_>) {
    let missing = [
        ("input", scope.find(|settings| &settings.input).is_absent()),
        ("stem", scope.find(|settings| &settings.stem).is_absent()),
        ("stages", scope.find(|settings| &settings.stages).is_absent()),
        ("head", scope.find(|settings| &settings.head).is_absent()),
    ];
    let missing: Vec<_> = missing.iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return;
    }
    let examples: Vec<_> = missing.iter().map(|name| format!("{name}: {}", example(name))).collect();
    let message = format!(
        "model `{}` lacks {}; add for example `{}`, here or in a family",
        scope.model.name,
        suggest::list(&missing, "and"),
        examples.join(", ")
    );
    scope.errors.add(scope.model.name.span(), message);
}
