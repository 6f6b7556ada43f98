//! Whether a program has models of such sizes: names alone do not say so.

use convnext_core::plan::Plan;

use super::{dialect::Dialect, error::ConvertError, hf_config, timm_config};

/// Checks that the program whose layout `dialect` is can build a model of `plan`.
///
/// # Errors
/// [`ConvertError::NoSuchModel`].
pub fn check_holds(dialect: Dialect, plan: &Plan) -> Result<(), ConvertError> {
    let fault = match dialect {
        Dialect::Timm => timm_config::fault(plan),
        Dialect::HuggingFace => hf_config::fault(plan),
        _ => None,
    };
    fault.map_or(Ok(()), |why| Err(ConvertError::NoSuchModel { dialect, model: plan.name, why }))
}
