//! `convnext debug fcmae`: one pre-training pass, forwards and backwards.

use std::path::{Path, PathBuf};

use convnext_core::{dfdx::tensor::Cpu, nn::Visibility, plan::Patches};
use convnext_pipeline::{
    stream::Batch,
    tasks::masked::Masking,
    trainer::{self, Objective},
};
use convnext_weights::convert::{self, Dialect};

use super::{Given, Images, Loss, load, written};
use crate::{
    Context, Failure, Outcome,
    npy::{self, Array},
};

/// Runs one pre-training pass on given masks: prints the loss as JSON, writes predictions and gradients.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug fcmae --model atto --weights w.safetensors --input x.npy --mask m.npy --output pred.npy --grads g.safetensors")]
pub(crate) struct Args {
    #[command(flatten)]
    given: Given,
    /// Masks `[N, L]`, 0 = keep, 1 = remove; patches row by row. Each keeps as many patches as the model says.
    #[arg(long, value_name = "M.npy")]
    mask: PathBuf,
    /// Where the predictions `[N, L, P * P * C]` of all patches go; values of a patch are (y, x, channel).
    #[arg(long, value_name = "PRED.npy")]
    output: Option<PathBuf>,
    /// Where the gradients of all parameters go, in the official names and layout.
    #[arg(long, value_name = "G.safetensors")]
    grads: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&args.given.model)?;
    let none = || Failure::failed(format!("`{}` declares no pre-training part (fcmae)", entry.plan.name));
    let (plan, patches) = entry.plan.fcmae.zip(entry.plan.patches()).ok_or_else(none)?;
    let Images { samples, values: images } = Images::read(&args.given.input, &entry.plan)?;
    let mut batch = Batch { samples, masks: read_mask(&args.mask, samples, patches)?, images, ..Batch::default() };
    let mut model = entry.autoencoder(&Cpu::default())?.ok_or_else(none)?;
    load(&mut *model, &args.given.weights)?;
    let objective = Masking::new(&entry.plan)?;
    if let Some(path) = &args.output {
        let predictions = objective.outputs(&(&model.plain(), &model.values()), &mut batch)?;
        let values = plan.patch * plan.patch * entry.plan.channels;
        npy::write(path, &[samples, patches.count(), values], &predictions)?;
    }
    let (loss, gradients) = trainer::gradients(&objective, &*model, &mut batch)?;
    if let Some(path) = &args.grads {
        convert::save(path, &model.layout(), &gradients, Dialect::Official, None)?;
    }
    Loss { loss }.tell()
}

/// Masks `[N, L]`, 0 = keep, 1 = remove, that the model can have.
fn read_mask(path: &Path, samples: usize, patches: Patches) -> Outcome<Vec<u8>> {
    let Array { shape, values } = npy::read(path)?;
    let Patches { high, wide, visible } = patches;
    if shape != [samples, high * wide] && shape != [samples, high, wide] {
        let (found, expected) = (written(&shape), written(&[samples, high * wide]));
        let what = format!("the mask has shape {found}, should have {expected}: {high}x{wide} patches of each image");
        return Err(Failure::failed(format!("{}: {what}", path.display())));
    }
    // Anything but 0 and 1 is for the mask's own check to refuse.
    let bits: Vec<u8> = values
        .iter()
        .map(|&value| {
            if value == 0.0 {
                0
            } else if value == 1.0 {
                1
            } else {
                2
            }
        })
        .collect();
    match Visibility::from_mask(&bits, high, wide, visible) {
        Ok(_) => Ok(bits),
        Err(error) => Err(Failure::because(format!("{}: not a mask of this model", path.display()), error)),
    }
}
