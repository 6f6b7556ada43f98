//! The names of a block.

use crate::ast::{Declaration, Spec};
use crate::error::Errors;
use crate::names::Names;
use crate::suggest;

/// No name is declared twice, or unknown.
pub(crate) fn names(spec: &mut Spec, errors: &mut Errors) {
    families_differ(spec, errors);
    for index in 0..spec.models.len() {
        let (earlier, rest) = spec.models.split_at_mut(index);
        let model = &mut rest[0];
        model.has_names = types_differ(model, earlier, errors);
        command_line_names_differ(model, earlier, errors);
    }
    for model in &spec.models {
        family_is_known(model, spec, errors);
    }
}

fn families_differ(spec: &Spec, errors: &mut Errors) {
    for (index, family) in spec.families.iter().enumerate() {
        if spec.families[..index].iter().any(|earlier| earlier.name == family.name) {
            let message = format!("family `{}` is declared twice; rename one of them", family.name);
            errors.add(family.name.span(), message);
        }
    }
}

/// Of two models under `#[cfg]`, one may replace the other.
fn may_replace(model: &Declaration, earlier: &Declaration) -> bool {
    let is_configured = |model: &Declaration| model.attributes.iter().any(|attribute| attribute.path().is_ident("cfg"));
    is_configured(model) && is_configured(earlier)
}

/// No type of a model is also one of an earlier model.
fn types_differ(model: &Declaration, earlier: &[Declaration], errors: &mut Errors) -> bool {
    let names = Names::new(&model.name);
    for earlier in earlier.iter().filter(|earlier| !may_replace(model, earlier)) {
        let other = Names::new(&earlier.name);
        let Some(shared) = names.all().into_iter().find(|name| other.all().contains(name)) else { continue };
        let (name, other) = (&names.model, &other.model);
        let message = if name == other {
            format!("model `{name}` is declared twice; rename one of them")
        } else {
            format!("models `{other}` and `{name}` would both declare the type `{shared}`; rename one of them")
        };
        errors.add(name.span(), message);
        return false;
    }
    true
}

/// No two models are called the same on the command line.
fn command_line_names_differ(model: &Declaration, earlier: &[Declaration], errors: &mut Errors) {
    let name = Names::new(&model.name).command_line();
    let is_same = |earlier: &&Declaration| {
        earlier.name != model.name && !may_replace(model, earlier) && Names::new(&earlier.name).command_line() == name
    };
    if let Some(earlier) = earlier.iter().find(is_same) {
        let message = format!(
            "models `{}` and `{}` would both be `{name}` on the command line; rename one of them",
            earlier.name, model.name
        );
        errors.add(model.name.span(), message);
    }
}

fn family_is_known(model: &Declaration, spec: &Spec, errors: &mut Errors) {
    let Some(family) = &model.family else { return };
    if spec.family_of(model).is_some() {
        return;
    }
    let known: Vec<_> = spec.families.iter().map(|family| family.name.to_string()).collect();
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let hint = match known.as_slice() {
        [] => "; it declares none. Declare one here: a family is known in its own block only".into(),
        known => suggest::did_you_mean(&family.to_string(), known),
    };
    errors.add(family.span(), format!("no family `{family}` in this block{hint}"));
}
