//! `convnext predict`: what a classifier says about images.

use std::path::PathBuf;

use convnext_pipeline::runs;

use super::evaluate::Manner;
use crate::{Context, Outcome, device, output};

/// Classifies image files.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext predict --weights runs/finetune shoe.png coat.jpg
  convnext predict --weights weights.safetensors --model atto --top 1 --json photo.jpg")]
pub struct Args {
    /// The image files.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A run, a checkpoint or a `.safetensors` file.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    /// The variant; without it, the run's.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Classes shown for each image.
    #[arg(long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// A file of class names, one a line, class 0 first.
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    #[command(flatten)]
    device: device::Args,
    /// Writes one line of JSON for each image.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let manner = Manner::of(&args.weights)?;
    let entry = context.registry.find(&manner.model(args.model.as_deref())?)?;
    let names: Vec<String> = match &args.classes {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| crate::Failure::because(format!("cannot read {}", path.display()), error))?;
            text.lines().map(str::to_owned).collect()
        }
        None => Vec::new(),
    };
    let predictions = runs::predict(
        entry,
        &args.weights,
        &manner.data,
        manner.view,
        &args.images,
        args.top,
        &args.device.resolve()?,
    )?;
    for prediction in &predictions {
        if args.json {
            output::json_line(prediction)?;
            continue;
        }
        let mut text = format!("{}\n", prediction.image);
        for &(class, probability) in &prediction.classes {
            let name = names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
            text += &format!("  {:5.1} %  {name}\n", 100.0 * probability);
        }
        output::text(&text)?;
    }
    Ok(())
}
