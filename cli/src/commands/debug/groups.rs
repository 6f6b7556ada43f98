//! `convnext debug groups`: what the optimiser does to each parameter.

use convnext_core::{dfdx::tensor::Cpu, optim};
use convnext_pipeline::tasks::classify::Classify;
use convnext_weights::convert::{Dialect, Translation};
use serde::Serialize;

use super::Written;
use crate::{Context, Outcome, output};

/// Prints, as JSON, whether each parameter decays and by what its learning rate is scaled.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug groups --model base --recipe finetune-base")]
pub(crate) struct Args {
    /// The variant; `convnext models` lists them.
    #[arg(long)]
    model: String,
    #[command(flatten)]
    written: Written,
}

#[derive(Serialize)]
struct Parameter<'a> {
    /// In the official layout.
    official: &'a str,
    ours: &'a str,
    shape: &'a [usize],
    /// Its layer's number; absent without layer-wise decay.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<usize>,
    decays: bool,
    lr_scale: f64,
}

pub(crate) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&args.model)?;
    let recipe = args.written.resolve(Some(entry.plan.name))?;
    let model = recipe.task().unwrap_or(&Classify).model(entry, &Cpu::default())?;
    let decay = recipe.training.as_ref().and_then(|training| training.section.layer_decay());
    let layout = model.layout();
    let rules = optim::rules(&layout, &entry.plan, decay)?;
    let layers = decay.map(|decay| optim::layer_ids(&layout, &entry.plan, decay.mode)).transpose()?;
    let official = Translation::new(&layout, Dialect::Official)?;
    let parameters = layout.segments().iter().zip(official.theirs().segments()).zip(&rules).enumerate();
    let parameters = parameters.map(|(index, ((ours, official), rule))| Parameter {
        official: &official.name,
        ours: &ours.name,
        shape: &official.shape,
        layer: layers.as_ref().map(|layers| layers[index]),
        decays: rule.decays,
        lr_scale: rule.lr_scale,
    });
    output::json_line(&parameters.collect::<Vec<_>>())
}
