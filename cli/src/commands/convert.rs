//! `convnext import` and `convnext export`: weights from and to other layouts.

use std::{path::PathBuf, str::FromStr};

use convnext_core::{
    convert::{self, Dialect, Loaded, ParseDialectError, Take},
    dfdx::tensor::Cpu,
    nn::{Entry, Flat},
    onnx,
    optim::Layout,
};
use convnext_pipeline::runs::warn_of;
use serde::Serialize;

use crate::{Context, Failure, Outcome, numbers::short, output, which};

/// Brings weights of any known layout into this program's.
///
/// The layout is seen from the names: ours, the official code's (dense, or the sparse one of its pre-training files),
/// timm's, transformers'. Files are `.safetensors`, PyTorch's `.pt`, a checkpoint or a run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext import --model atto --weights convnextv2_atto_1k_224_ema.pt --output atto.safetensors
  convnext import --model mine --weights timm.safetensors --output mine.safetensors --reset-head")]
pub struct ImportArgs {
    #[command(flatten)]
    given: Given,
    /// Names and axes to write: `ours`, `official`, `sparse`, `timm` or `hf`.
    #[arg(long, value_name = "LAYOUT", default_value_t = Dialect::Ours)]
    layout: Dialect,
}

/// Writes weights in a layout that other programs load.
///
/// From a pre-training run, `--encoder` takes the encoder alone, which is what timm and transformers have names for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext export --model atto --weights runs/finetune --layout timm --output atto-timm.safetensors
  convnext export --model atto --weights runs/pretrain --encoder --layout hf --output encoder.safetensors
  convnext export --model atto --weights runs/finetune --layout onnx --output atto.onnx")]
pub struct ExportArgs {
    #[command(flatten)]
    given: Given,
    /// `official`, `sparse`, `timm`, `hf` or `ours`; or `onnx`, the classifier as a program for runtimes.
    #[arg(long, value_name = "LAYOUT")]
    layout: Target,
}

/// What an export writes.
#[derive(Debug, Clone, Copy)]
enum Target {
    Weights(Dialect),
    Onnx,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "onnx" => Ok(Self::Onnx),
            name => name.parse().map(Self::Weights).map_err(|error: ParseDialectError| format!("{error}, onnx")),
        }
    }
}

/// What both are given.
#[derive(Debug, clap::Args)]
struct Given {
    /// The variant; `convnext models` lists them.
    #[arg(long)]
    model: String,
    /// The weights: a file in any known layout, a checkpoint, or a run.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    #[command(flatten)]
    which: which::Args,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Takes the encoder alone, whatever else is in the file.
    #[arg(long, conflicts_with = "reset_head")]
    encoder: bool,
    /// Takes a classifier of other classes, and gives it a new last layer.
    #[arg(long)]
    reset_head: bool,
    /// Chooses the new last layer's weights.
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "reset_head")]
    seed: u64,
    /// Writes what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs `convnext import`.
pub fn import(args: &ImportArgs, context: &Context<'_>) -> Outcome {
    convert(&args.given, Target::Weights(args.layout), context)
}

/// Runs `convnext export`.
pub fn export(args: &ExportArgs, context: &Context<'_>) -> Outcome {
    convert(&args.given, args.layout, context)
}

#[derive(Serialize)]
struct Done {
    /// The file that was read.
    from: PathBuf,
    /// What that is of the run or checkpoint.
    taken: String,
    /// The layout it is in.
    from_layout: &'static str,
    /// `classifier`, `autoencoder` or `encoder`.
    part: &'static str,
    tensors: usize,
    parameters: usize,
    to: PathBuf,
    to_layout: &'static str,
}

fn convert(given: &Given, target: Target, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&given.model)?;
    let found = read(given, entry)?;
    let Weights { part, layout, values, loaded } = found;
    warn_of(&loaded.skipped);
    let to_layout = match target {
        Target::Weights(dialect) => {
            convert::save(&given.output, &layout, &values, dialect, None)?;
            dialect.name()
        }
        Target::Onnx if part != "classifier" => {
            return Err(Failure::failed(format!(
                "{}: holds the {part}; ONNX is written of classifiers: fine-tune it first",
                loaded.path.display()
            )));
        }
        Target::Onnx => {
            onnx::export(&given.output, &entry.plan, &layout, &values)?;
            "onnx"
        }
    };
    let done = Done {
        from: loaded.path,
        taken: loaded.taken.to_string(),
        from_layout: loaded.dialect.name(),
        part,
        tensors: layout.segments().len(),
        parameters: layout.len(),
        to: given.output.clone(),
        to_layout,
    };
    if given.json { output::json(&done) } else { output::text(&done.text()) }
}

impl Done {
    fn text(&self) -> String {
        let Self { from, taken, from_layout, part, tensors, parameters, to, to_layout } = self;
        format!(
            "{} ({taken}; {from_layout}) -> {} ({to_layout}): the {part}, {tensors} tensors, {} parameters\n",
            from.display(),
            to.display(),
            short(*parameters as u64),
        )
    }
}

/// Weights of a part of a variant.
struct Weights {
    part: &'static str,
    layout: Layout,
    values: Vec<f32>,
    loaded: Loaded,
}

fn read(given: &Given, entry: &Entry) -> Outcome<Weights> {
    let (classifier, fresh) = fresh(&*entry.classifier(&Cpu::seed_from_u64(given.seed))?);
    if given.reset_head {
        let take = Take::AllButClasses;
        return taken("classifier", classifier, fresh, given, take);
    }
    let encoder = convert::encoder_of(&classifier);
    if given.encoder {
        let values = vec![0.0; encoder.len()];
        return taken("encoder", encoder, values, given, Take::Encoder);
    }
    let mut kinds = vec![("classifier", classifier), ("encoder", encoder)];
    if let Some(model) = entry.autoencoder(&Cpu::default())? {
        kinds.push(("autoencoder", model.layout()));
    }
    let layouts: Vec<&Layout> = kinds.iter().map(|(_, layout)| layout).collect();
    let (index, mut loaded) = convert::load_fitting(&given.weights, &layouts, given.which.which())?;
    let (part, layout) = kinds.swap_remove(index);
    let values = std::mem::take(&mut loaded.values);
    Ok(Weights { part, layout, values, loaded })
}

fn taken(part: &'static str, layout: Layout, mut values: Vec<f32>, given: &Given, take: Take) -> Outcome<Weights> {
    let loaded = convert::load_into(&given.weights, &layout, &mut values, given.which.which(), take)?;
    Ok(Weights { part, layout, values, loaded })
}

/// A fresh model's layout and weights.
fn fresh(model: &(impl Flat + ?Sized)) -> (Layout, Vec<f32>) {
    let layout = model.layout();
    let mut values = vec![0.0; layout.len()];
    model.read(&mut values);
    (layout, values)
}
