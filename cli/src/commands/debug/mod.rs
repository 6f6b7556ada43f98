//! `convnext debug`: single passes on arrays, to hold this program against another framework.

mod classify;
mod crops;
mod fcmae;
mod forward;
mod groups;
mod image;
mod init;
mod schedule;
mod train;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use convnext_core::{nn::Flat, plan::Plan};
use convnext_pipeline::{recipe::Resolved, tasks::warn_of};
use convnext_weights::{checkpoint::Which, convert};
use serde::Serialize;

use super::train::toml_string;
use crate::{
    Context, Failure, Outcome,
    npy::{self, Array},
    output, recipes,
};

/// Runs single passes on arrays, to compare with another framework.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug init --model atto --seed 1 --output w.safetensors --layout official
  convnext debug forward --model atto --weights w.safetensors --input x.npy --output y.npy")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Forward(forward::Args),
    Fcmae(fcmae::Args),
    Classify(classify::Args),
    Train(train::Args),
    Groups(groups::Args),
    Schedule(schedule::Args),
    Image(image::Args),
    Crops(crops::Args),
    Init(init::Args),
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    match &args.command {
        Command::Forward(args) => forward::run(args, context),
        Command::Fcmae(args) => fcmae::run(args, context),
        Command::Classify(args) => classify::run(args, context),
        Command::Train(args) => train::run(args, context),
        Command::Groups(args) => groups::run(args, context),
        Command::Schedule(args) => schedule::run(args),
        Command::Image(args) => image::run(args, context),
        Command::Crops(args) => crops::run(args),
        Command::Init(args) => init::run(args, context),
    }
}

/// What the passes are given.
#[derive(Debug, clap::Args)]
struct Given {
    /// The variant; `convnext models` lists them.
    #[arg(long)]
    model: String,
    /// Its weights, in any known layout: a `.safetensors` file, a checkpoint, or a run.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    /// Images `[N, H, W, C]`, as the model sees them: nothing is normalised here.
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
}

/// A recipe, and settings on top of it.
#[derive(Debug, clap::Args)]
struct Written {
    /// The recipe: a file, or one of `convnext recipes`.
    #[arg(long, value_name = "RECIPE")]
    recipe: PathBuf,
    /// Changes a value of the recipe, e.g. --set optimizer.clip=1; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Written {
    /// The recipe resolved, for the variant `model` if that is given.
    fn resolve(&self, model: Option<&str>) -> Outcome<Resolved> {
        let model = model.map(|model| format!("model.name={}", toml_string(model)));
        let sets: Vec<String> = model.into_iter().chain(self.set.iter().cloned()).collect();
        Ok(recipes::load(&self.recipe, &sets)?.resolve()?)
    }

    fn name(&self) -> String {
        self.recipe.display().to_string()
    }
}

/// The loss of a pass.
#[derive(Serialize)]
struct Loss {
    loss: f32,
}

impl Loss {
    /// Writes it as JSON, which has no NaN.
    fn tell(self) -> Outcome {
        check_finite("the loss", &[self.loss])?;
        output::json_line(&self)
    }
}

/// Images of the size that a model takes.
struct Images {
    samples: usize,
    values: Vec<f32>,
}

impl Images {
    fn read(path: &Path, plan: &Plan) -> Outcome<Self> {
        let Array { shape, values } = npy::read(path)?;
        check_finite(&path.display().to_string(), &values)?;
        match check_images(&shape, plan) {
            Ok(samples) => Ok(Self { samples, values }),
            Err(what) => Err(Failure::failed(format!("{}: {what}", path.display()))),
        }
    }
}

/// Soft targets `[N, CLASSES]`, one row for each sample.
fn read_targets(path: &Path, samples: usize, plan: &Plan) -> Outcome<Vec<f32>> {
    let Array { shape, values } = npy::read(path)?;
    if shape != [samples, plan.classes] {
        let (found, expected) = (written(&shape), written(&[samples, plan.classes]));
        let what = format!("the targets have shape {found}, should have {expected}: one row for each image of X");
        return Err(Failure::failed(format!("{}: {what}", path.display())));
    }
    check_finite(&path.display().to_string(), &values)?;
    Ok(values)
}

/// Refuses numbers that would make all that is computed from them worthless.
fn check_finite(what: &str, values: &[f32]) -> Outcome {
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(Failure::failed(format!("{what}: value {at} is {}; all must be finite", values[at]))),
        None => Ok(()),
    }
}

/// The number of samples of an array of images, or what is wrong with its shape.
fn check_images(shape: &[usize], plan: &Plan) -> Result<usize, String> {
    let (h, w, c) = (plan.height, plan.width, plan.channels);
    let hint = match *shape {
        [samples, ..] if samples > 0 && shape[1..] == [h, w, c] => return Ok(samples),
        [0, ..] => "there are no images in it".to_owned(),
        [_, a, b, d] if (a, b, d) == (c, h, w) => "this looks like [N,C,H,W]: transpose to [N,H,W,C]".to_owned(),
        [_, a, b, d] if (a, b, d) == (w, h, c) => "this looks like [N,W,H,C]: transpose to [N,H,W,C]".to_owned(),
        [a, b, d] if (a, b, d) == (h, w, c) => "this looks like one image: give it as [1,H,W,C]".to_owned(),
        [_, _, _, d] if d != c => format!("`{}` takes {c} channels", plan.name),
        [_, a, b, _] => format!("`{}` takes images of {h}x{w}, not {a}x{b}: resize them first", plan.name),
        _ => "it should have four axes".to_owned(),
    };
    Err(format!("X has shape {}; `{}` takes [N,{h},{w},{c}]; {hint}", written(shape), plan.name))
}

/// `[2,3]`.
fn written(shape: &[usize]) -> String {
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", sides.join(","))
}

/// Puts weights, in whatever layout they are, into a model.
fn load(model: &mut dyn Flat, path: &Path) -> Outcome {
    let loaded = convert::load(path, &model.layout(), Which::default())?;
    warn_of(&loaded.skipped);
    model.write(&loaded.values);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_shape_says_what_it_looks_like() {
        let models = crate::models::builtin();
        let plan = models.iter().find(|entry| entry.plan.name == "atto").unwrap().plan;
        let check = |shape: &[usize]| check_images(shape, &plan);
        assert_eq!(check(&[2, 224, 224, 3]), Ok(2));
        for (shape, hint) in [
            (&[2, 3, 224, 224][..], "looks like [N,C,H,W]: transpose to [N,H,W,C]"),
            (&[224, 224, 3], "give it as [1,H,W,C]"),
            (&[2, 256, 224, 3], "takes images of 224x224, not 256x224"),
            (&[2, 224, 224, 1], "takes 3 channels"),
            (&[0, 224, 224, 3], "no images"),
            (&[7], "four axes"),
        ] {
            let error = check(shape).unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }
}
