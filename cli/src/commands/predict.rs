//! `convnext predict`: what a classifier says about images.

use std::path::{Path, PathBuf};

use convnext_pipeline::{
    interrupt,
    tasks::classify::{Prediction, Predictor},
    tell,
    trainer::ModelError,
};
use serde::Serialize;

use crate::{Context, Failure, Outcome, device, output, preprocessing};

/// Classifies image files.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext predict --weights runs/finetune shoe.png coat.jpg
  convnext predict --weights weights.safetensors --model atto --classes names.txt --top 1 --json photo.jpg

A file that cannot be classified is told, the others go on, and the exit code is 1. Mean, deviation, view and class names
are those that the weights say, else those of the run that they lie in; which are used is told.")]
pub struct Args {
    /// The image files.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A run, a checkpoint or a `.safetensors` file.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    #[command(flatten)]
    preprocessing: preprocessing::Args,
    /// Classes shown for each image.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// A file of the model's class names, one a line, class 0 first; without it, those that the weights have.
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    #[command(flatten)]
    device: device::Args,
    /// Writes one line of JSON for each image.
    #[arg(long)]
    json: bool,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    prediction: &'a Prediction,
    /// Names of the classes shown, where they have some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<&'a str>,
}

/// A line of JSON about an image that has no prediction.
#[derive(Serialize)]
struct Bad {
    image: String,
    error: String,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
    let applied = args.preprocessing.resolve(&args.weights, args.classes.as_deref(), context)?;
    let preprocessing::Applied { given, entry, preprocessing } = &applied;
    let weights = (args.weights.as_path(), given.which);
    let mut predictor =
        Predictor::new(entry, weights, &preprocessing.data, preprocessing.view, &args.device.resolve()?)?;
    args.preprocessing.tell(&applied, predictor.taken())?;
    let mut bad = 0;
    for image in &args.images {
        match predictor.predict(image, args.top as usize) {
            Ok(prediction) => show(&prediction, &preprocessing.classes, args.json)?,
            Err(error) if error.is_of_one_image() => {
                bad += 1;
                show_bad(image, &error, args.json)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if bad == 0 { Ok(()) } else { Err(Failure::Told) }
}

fn show(prediction: &Prediction, names: &[String], json: bool) -> Outcome {
    let known = prediction.classes.iter().filter_map(|&(class, _)| names.get(class));
    if json {
        let names = known.map(String::as_str).collect::<Vec<_>>();
        let names = if names.len() == prediction.classes.len() { names } else { Vec::new() };
        return output::json_line(&Line { prediction, names });
    }
    let mut text = format!("{}\n", prediction.image);
    for &(class, probability) in &prediction.classes {
        let name = names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
        text += &format!("  {:5.1} %  {name}\n", 100.0 * probability);
    }
    output::text(&text)
}

fn show_bad(image: &Path, error: &ModelError, json: bool) -> Outcome {
    if json {
        return output::json_line(&Bad { image: image.display().to_string(), error: error.to_string() });
    }
    tell::say(format_args!("error: {error}"));
    Ok(())
}
