//! `convnext debug groups`: what the optimiser does to each parameter.

use convnext_core::{dfdx::tensor::Cpu, nn::Flat, optim, plan::Plan};
use convnext_pipeline::recipe::{Job, Resolved};
use convnext_weights::convert::{Dialect, Translation};
use serde::Serialize;

use super::Written;
use crate::{Context, Failure, Outcome, output};

/// Prints, as JSON, whether each parameter decays and by what its learning rate is scaled.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug groups --model base --recipe cli/recipes/finetune-base.toml")]
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
    let device = Cpu::default();
    if let Job::Pretrain { .. } = recipe.job {
        let none = || Failure::failed(format!("`{}` declares no pre-training part (fcmae)", entry.plan.name));
        return report(&*entry.autoencoder(&device)?.ok_or_else(none)?, &entry.plan, &recipe);
    }
    report(&*entry.classifier(&device)?, &entry.plan, &recipe)
}

fn report(model: &(impl Flat + ?Sized), plan: &Plan, recipe: &Resolved) -> Outcome {
    let decay: Option<optim::LayerDecay> = match &recipe.job {
        Job::Finetune { finetune, .. } => finetune.layer_decay.map(Into::into),
        _ => None,
    };
    let layout = model.layout();
    let rules = optim::rules(&layout, plan, decay)?;
    let layers = decay.map(|decay| optim::layer_ids(&layout, plan, decay.mode)).transpose()?;
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
