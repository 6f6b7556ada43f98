//! `convnext debug classify`: one supervised pass, forwards and backwards.

use std::path::PathBuf;

use convnext_core::dfdx::tensor::Cpu;
use convnext_pipeline::{
    stream::Batch,
    tasks::classify::{Classification, Source},
    trainer,
};
use convnext_weights::convert::{self, Dialect};

use super::{Given, Images, Loss, load, read_targets};
use crate::{Context, Outcome};

/// Runs one supervised pass: prints the mean cross entropy as JSON, writes gradients. Nothing is dropped.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext debug classify --model atto --weights w.safetensors --input x.npy --targets t.npy --grads g.safetensors")]
pub(crate) struct Args {
    #[command(flatten)]
    given: Given,
    /// Soft targets `[N, CLASSES]`, taken as they are.
    #[arg(long, value_name = "T.npy")]
    targets: PathBuf,
    /// Where the gradients of all parameters go, in the official names and layout.
    #[arg(long, value_name = "G.safetensors")]
    grads: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    let entry = context.registry.find(&args.given.model)?;
    let Images { samples, values } = Images::read(&args.given.input, &entry.plan)?;
    let targets = read_targets(&args.targets, samples, &entry.plan)?;
    let mut classifier = entry.classifier(&Cpu::default())?;
    load(&mut *classifier, &args.given.weights)?;
    classifier.set_drop_path(0.0);
    let objective = Classification::new(&entry.plan, 0.0, Source::Given(targets));
    let ids = (0..samples as u64).collect();
    let mut batch = Batch { samples, images: values, ids, epochs: vec![0; samples], ..Batch::default() };
    let (loss, gradients) = trainer::gradients(&objective, &*classifier, &mut batch)?;
    if let Some(path) = &args.grads {
        convert::save(path, &classifier.layout(), &gradients, Dialect::Official, None)?;
    }
    Loss { loss }.tell()
}
