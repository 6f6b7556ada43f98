//! `convnext summary`: one variant, stage by stage.

use convnext_core::plan::{FcmaePlan, Flavour, Plan, StagePlan};
use serde::Serialize;

use crate::{Context, Outcome, numbers::short, output, table::Table};

/// Shows a variant stage by stage: grids, parameters, multiply-adds, drop path, and its pre-training part.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext summary atto
  convnext summary atto --json | jq '.stages[0].grid'")]
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
    parameters: u64,
    multiply_adds: u64,
    drop_path: f32,
    fcmae: Option<Fcmae>,
}

#[derive(Serialize)]
struct Stage {
    /// Height and width in cells.
    grid: [usize; 2],
    dim: usize,
    depth: usize,
    kernel: usize,
    drop_path: Vec<f32>,
    parameters: u64,
    multiply_adds: u64,
}

#[derive(Serialize)]
struct Head {
    classes: usize,
    parameters: u64,
    multiply_adds: u64,
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
    parameters: u64,
    multiply_adds: u64,
}

#[derive(Serialize)]
struct Decoder {
    dim: usize,
    depth: usize,
    kernel: usize,
}

impl Summary {
    fn of(plan: &Plan) -> Self {
        let sum = |field: fn(&StagePlan) -> u64| plan.stages.iter().map(field).sum::<u64>();
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
            stages: plan.stages.iter().map(Stage::of).collect(),
            head: Head {
                classes: plan.classes,
                parameters: plan.parameters - sum(|stage| stage.parameters),
                multiply_adds: plan.multiply_adds - sum(|stage| stage.multiply_adds),
            },
            parameters: plan.parameters,
            multiply_adds: plan.multiply_adds,
            drop_path: plan.drop_path,
            fcmae: plan.fcmae.map(|fcmae| Fcmae::of(&fcmae, plan)),
        }
    }
}

impl Stage {
    fn of(stage: &StagePlan) -> Self {
        Self {
            grid: [stage.height, stage.width],
            dim: stage.dim,
            depth: stage.depth,
            kernel: stage.kernel,
            drop_path: stage.drop_path.to_vec(),
            parameters: stage.parameters,
            multiply_adds: stage.multiply_adds,
        }
    }
}

impl Fcmae {
    fn of(fcmae: &FcmaePlan, plan: &Plan) -> Self {
        Self {
            patch: fcmae.patch,
            mask: fcmae.mask,
            grid: [fcmae.patches_high, fcmae.patches_wide],
            patches: fcmae.patches(),
            visible: fcmae.visible,
            removed: fcmae.patches() - fcmae.visible,
            cells: (0..plan.stages.len()).map(|stage| fcmae.patch / (plan.stem << stage)).collect(),
            decoder: Decoder { dim: fcmae.decoder_dim, depth: fcmae.decoder_depth, kernel: fcmae.decoder_kernel },
            values: fcmae.patch * fcmae.patch * plan.channels,
            normalised: fcmae.normalised,
            parameters: fcmae.parameters,
            multiply_adds: fcmae.multiply_adds,
        }
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
            index.to_string(),
            format!("{high}x{wide}"),
            stage.dim.to_string(),
            stage.depth.to_string(),
            format!("{0}x{0}", stage.kernel),
            short(stage.parameters),
            short(stage.multiply_adds),
            range(&stage.drop_path),
        ]);
    }
    let Head { classes, parameters, multiply_adds } = summary.head;
    let classes = format!("{classes} classes");
    table.row(["head", &classes, "", "", "", &short(parameters), &short(multiply_adds)]);
    table.row(["total", "", "", "", "", &short(summary.parameters), &short(summary.multiply_adds)]);
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
        short(fcmae.parameters),
        short(fcmae.multiply_adds),
    )
}
