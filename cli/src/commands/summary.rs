//! `convnext summary`: one variant, stage by stage.

use convnext_core::{
    network::Part,
    plan::{Flavour, Plan, StagePlan},
};
use serde::Serialize;

use crate::{Context, Outcome, numbers::short, output, table::Table};

/// Shows a variant stage by stage: grids, parameters, multiply-adds, drop path, and its pre-training part.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext summary atto
  convnext summary atto --json")]
pub struct Args {
    /// The variant; `convnext models` lists them.
    model: String,
    /// Writes JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Summary {
    name: &'static str,
    about: &'static str,
    /// Height, width, channels.
    input: [usize; 3],
    /// `V1` or `V2`.
    flavour: &'static str,
    stem: usize,
    /// Pixels to a side of one cell of the last grid.
    stride: usize,
    stages: Vec<Stage>,
    head: Head,
    #[serde(flatten)]
    cost: Cost,
    drop_path: f32,
    fcmae: Option<Fcmae>,
}

/// Of some parts of a network, for one image.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Cost {
    parameters: u64,
    multiply_adds: u64,
}

#[derive(Serialize)]
struct Stage {
    /// Height and width in cells.
    grid: [usize; 2],
    dim: usize,
    depth: usize,
    kernel: usize,
    drop_path: Vec<f32>,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Serialize)]
struct Head {
    classes: usize,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Serialize)]
struct Fcmae {
    patch: usize,
    mask: f32,
    /// Patches from top to bottom, and from left to right.
    grid: [usize; 2],
    patches: usize,
    visible: usize,
    removed: usize,
    /// Cells to a side of a patch, of each stage.
    cells: Vec<usize>,
    decoder: Decoder,
    /// Values predicted for each patch.
    values: usize,
    normalised: bool,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Serialize)]
struct Decoder {
    dim: usize,
    depth: usize,
    kernel: usize,
}

impl Summary {
    fn of(plan: &Plan) -> Self {
        let network = plan.classifier();
        let head = network.parts().filter(|part| part.stage().is_none());
        Self {
            name: plan.name,
            about: plan.about,
            input: [plan.height, plan.width, plan.channels],
            flavour: match plan.flavour {
                Flavour::V1 => "V1",
                Flavour::V2 => "V2",
            },
            stem: plan.stem,
            stride: plan.stride(),
            stages: (0..plan.stages.len()).map(|stage| Stage::of(plan, stage)).collect(),
            head: Head { classes: plan.classes, cost: Cost::of(head) },
            cost: Cost::of(network.parts()),
            drop_path: plan.drop_path,
            fcmae: Fcmae::of(plan),
        }
    }
}

impl Cost {
    fn of(parts: impl Iterator<Item = Part>) -> Self {
        parts.fold(Self::default(), |sum, part| Self {
            parameters: sum.parameters + part.parameters(),
            multiply_adds: sum.multiply_adds.saturating_add(part.multiply_adds()),
        })
    }
}

impl Stage {
    fn of(plan: &Plan, stage: usize) -> Self {
        let StagePlan { dim, depth, kernel } = plan.stages[stage];
        let (grid, first) = (plan.grid(stage), plan.blocks_before(stage));
        Self {
            grid: [grid.height(), grid.width()],
            dim,
            depth,
            kernel,
            drop_path: (first..first + depth).map(|block| plan.drop_path_of(block)).collect(),
            cost: Cost::of(plan.classifier().parts().filter(|part| part.stage() == Some(stage))),
        }
    }
}

impl Fcmae {
    fn of(plan: &Plan) -> Option<Self> {
        let (fcmae, patches, network) = (plan.fcmae?, plan.patches()?, plan.autoencoder()?);
        Some(Self {
            patch: fcmae.patch,
            mask: fcmae.mask.as_f32(),
            grid: [patches.high, patches.wide],
            patches: patches.count(),
            visible: patches.visible,
            removed: patches.removed(),
            cells: (0..plan.stages.len()).map(|stage| fcmae.patch / plan.stride_of(stage)).collect(),
            decoder: Decoder { dim: fcmae.decoder_dim, depth: fcmae.decoder_depth, kernel: fcmae.decoder_kernel },
            values: fcmae.patch * fcmae.patch * plan.channels,
            normalised: fcmae.normalised,
            cost: Cost::of(network.parts()),
        })
    }
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let summary = Summary::of(&context.registry.find(&args.model)?.plan);
    if args.json { output::json(&summary) } else { output::text(&text(&summary)) }
}

fn text(summary: &Summary) -> String {
    let [height, width, channels] = summary.input;
    let mut text = format!("{}: ConvNeXt {}, {height}x{width}x{channels}\n", summary.name, summary.flavour);
    if !summary.about.is_empty() {
        text += &format!("{}\n", summary.about);
    }
    text += &format!("\n{}", stages(summary));
    if let Some(fcmae) = &summary.fcmae {
        text += &format!("\n{}", pretraining(fcmae));
    }
    text
}

fn stages(summary: &Summary) -> String {
    let headings = ["stage", "grid", "dim", "depth", "kernel", "parameters", "multiply-adds", "drop path"];
    let mut table = Table::new(&headings, &[2, 3, 5, 6]);
    for (index, stage) in summary.stages.iter().enumerate() {
        let [high, wide] = stage.grid;
        table.row([
            // As the messages about a declaration count them.
            (index + 1).to_string(),
            format!("{high}x{wide}"),
            stage.dim.to_string(),
            stage.depth.to_string(),
            format!("{0}x{0}", stage.kernel),
            short(stage.cost.parameters),
            short(stage.cost.multiply_adds),
            range(&stage.drop_path),
        ]);
    }
    let Head { classes, cost: Cost { parameters, multiply_adds } } = summary.head;
    let classes = format!("{classes} classes");
    table.row(["head", &classes, "", "", "", &short(parameters), &short(multiply_adds)]);
    table.row(["total", "", "", "", "", &short(summary.cost.parameters), &short(summary.cost.multiply_adds)]);
    table.text()
}

/// `0.018 to 0.027`.
fn range(rates: &[f32]) -> String {
    match rates {
        [] => String::new(),
        [rate] => format!("{rate:.3}"),
        [first, .., last] => format!("{first:.3} to {last:.3}"),
    }
}

fn pretraining(fcmae: &Fcmae) -> String {
    let Fcmae { patch, patches, visible, removed, decoder, values, .. } = fcmae;
    let [high, wide] = fcmae.grid;
    let cells: Vec<String> = fcmae.cells.iter().map(|side| format!("{side}x{side}")).collect();
    let target = if fcmae.normalised { "normalised pixels" } else { "pixels" };
    format!(
        "pre-training (fully convolutional masked autoencoder)\n  \
           patches     {high}x{wide} of {patch}x{patch} pixels; {visible} of {patches} visible, {removed} removed (mask {})\n  \
           cells       {} a visible patch, by stage\n  \
           decoder     dim {}, depth {}, kernel {}x{}\n  \
           target      {target}, {values} a patch\n  \
           parameters  {}\n  \
           multiply-adds  {}, removed patches not computed\n",
        fcmae.mask,
        cells.join(", "),
        decoder.dim,
        decoder.depth,
        decoder.kernel,
        decoder.kernel,
        short(fcmae.cost.parameters),
        short(fcmae.cost.multiply_adds),
    )
}
