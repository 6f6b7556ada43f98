//! `convnext debug forward`: images to logits.

use std::path::PathBuf;

use convnext_core::dfdx::tensor::Cpu;

use super::{Given, Images, check_finite, load};
use crate::{Context, Outcome, npy};

/// Writes the logits `[N, CLASSES]` of images `[N, H, W, C]`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug forward --model atto --weights w.safetensors --input x.npy --output y.npy")]
pub(crate) struct Args {
    #[command(flatten)]
    given: Given,
    /// Where the logits go.
    #[arg(long, value_name = "Y.npy")]
    output: PathBuf,
}

/// Images at a time: results do not depend on it, memory does.
const CHUNK: usize = 32;

pub(crate) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&args.given.model)?;
    let images = Images::read(&args.given.input, &entry.plan)?;
    let mut classifier = entry.classifier(&Cpu::default())?;
    load(&mut *classifier, &args.given.weights)?;
    let classifier = classifier.plain().freeze(classifier.values());
    let image = images.values.len() / images.samples;
    let mut logits = Vec::with_capacity(images.samples * entry.plan.classes);
    for chunk in images.values.chunks(CHUNK * image) {
        logits.extend(classifier.logits(chunk, chunk.len() / image));
    }
    check_finite("the logits", &logits)?;
    npy::write(&args.output, &[images.samples, entry.plan.classes], &logits)
}
