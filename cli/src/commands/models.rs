//! `convnext models`: the variants that are compiled in.

use convnext_core::plan::Plan;
use serde::Serialize;

use crate::{
    Context, Outcome,
    numbers::{joined, short},
    output,
    table::Table,
};

/// Lists the variants that are compiled in.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext models
  convnext models --json")]
pub struct Args {
    /// Writes a JSON list.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Model {
    name: &'static str,
    about: &'static str,
    /// Height, width, channels.
    input: [usize; 3],
    dims: Vec<usize>,
    depths: Vec<usize>,
    classes: usize,
    parameters: u64,
    multiply_adds: u64,
    fcmae: Option<Fcmae>,
}

#[derive(Serialize)]
struct Fcmae {
    patch: usize,
    mask: f32,
    patches: usize,
    visible: usize,
    parameters: u64,
    multiply_adds: u64,
}

impl Model {
    fn of(plan: &Plan) -> Self {
        let classifier = plan.classifier();
        Self {
            name: plan.name,
            about: plan.about,
            input: [plan.height, plan.width, plan.channels],
            dims: plan.stages.iter().map(|stage| stage.dim).collect(),
            depths: plan.stages.iter().map(|stage| stage.depth).collect(),
            classes: plan.classes,
            parameters: classifier.parameters(),
            multiply_adds: classifier.multiply_adds(),
            fcmae: Fcmae::of(plan),
        }
    }
}

impl Fcmae {
    fn of(plan: &Plan) -> Option<Self> {
        let (fcmae, patches, network) = (plan.fcmae?, plan.patches()?, plan.autoencoder()?);
        Some(Self {
            patch: fcmae.patch,
            mask: fcmae.mask.as_f32(),
            patches: patches.count(),
            visible: patches.visible,
            parameters: network.parameters(),
            multiply_adds: network.multiply_adds(),
        })
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let plans = || context.registry.entries().iter().map(|entry| &entry.plan);
    if args.json {
        return output::json(&plans().map(Model::of).collect::<Vec<_>>());
    }
    let headings = ["name", "input", "dims", "depths", "parameters", "multiply-adds", "pre-training", "about"];
    let mut table = Table::new(&headings, &[4, 5]);
    for plan in plans() {
        table.row(row(plan));
    }
    output::text(&table.text())
}

fn row(plan: &Plan) -> [String; 8] {
    let fcmae = match plan.fcmae.zip(plan.patches()) {
        Some((fcmae, patches)) => format!("patch {}, {} of {} visible", fcmae.patch, patches.visible, patches.count()),
        None => "none".to_owned(),
    };
    [
        plan.name.to_owned(),
        format!("{}x{}x{}", plan.height, plan.width, plan.channels),
        joined(plan.stages.iter().map(|stage| stage.dim)),
        joined(plan.stages.iter().map(|stage| stage.depth)),
        short(plan.classifier().parameters()),
        short(plan.classifier().multiply_adds()),
        fcmae,
        plan.about.to_owned(),
    ]
}
