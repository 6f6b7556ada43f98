//! `convnext reconstruct`: what a masked autoencoder makes of images.

use std::path::PathBuf;

use convnext_pipeline::{
    interrupt,
    recipe::{Io, Patterns},
    records,
    tasks::masked::{self, Subject},
};

use crate::{Context, Failure, Outcome, images, output, preprocessing, shards};

/// Removes patches of images and shows what a pre-trained variant puts in their place.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext reconstruct runs/pretrain --data 'data/test-*.tar' --count 8
  convnext reconstruct runs/pretrain shoe.png coat.jpg --output picture.png

Columns of the picture: original, what the model saw, what it predicts, that with the visible patches put back.")]
pub struct Args {
    /// A pre-training run (RUN@last, RUN@step-800), a checkpoint or a `.safetensors` file.
    #[arg(value_name = "WEIGHTS")]
    weights: PathBuf,
    #[command(flatten)]
    images: images::Args,
    /// Shards to take images from, as patterns, or a folder of images; without it and without files, the run's training set.
    #[arg(long, value_name = "GLOB", num_args = 1.., conflicts_with_all = ["images", "list"])]
    data: Vec<String>,
    /// How shards are read: mmap, or pread for network disks.
    #[arg(long, value_name = "HOW", default_value_t)]
    io: Io,
    /// Images taken from shards.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    count: u16,
    #[command(flatten)]
    preprocessing: preprocessing::Args,
    /// Chooses the masks.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the picture is written; without it, into the run.
    #[arg(long, short, value_name = "PNG")]
    output: Option<PathBuf>,
    /// Writes one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
    let applied = args.preprocessing.resolve(&args.weights, None, context)?;
    let preprocessing::Applied { given, entry, preprocessing } = &applied;
    let out = match (&args.output, given.path.join(records::RECIPE).is_file()) {
        (Some(out), _) => out.clone(),
        (None, true) => given.path.join(records::RECONSTRUCTION),
        (None, false) => return Err(Failure::usage("no place to write to; give --output PNG")),
    };
    let asked = (!args.data.is_empty()).then_some(args.data.as_slice());
    let own = given.recipe.as_ref().and_then(|recipe| recipe.data.train.as_ref()).map(Patterns::all);
    let subject = match (args.images.is_empty(), asked.or(own)) {
        (true, Some(patterns)) => Subject::Shards(shards::open(patterns, args.io)?, args.count.into()),
        (true, None) => return Err(Failure::usage("no images; give files or --data GLOB")),
        (false, _) => match args.images.files()? {
            files if files.len() > masked::MOST_RECONSTRUCTED => return Err(Failure::usage(too_many(files.len()))),
            files => Subject::Files(files),
        },
    };
    let weights = (given.path.as_path(), given.which);
    let (done, taken) =
        masked::reconstruct(entry, weights, &preprocessing.data, preprocessing.view, &subject, args.seed, &out)?;
    args.preprocessing.tell(&applied, &taken)?;
    if args.json {
        return output::json_line(&done);
    }
    output::text(&format!("{} images, loss {:.4} on removed patches; {}\n", done.images, done.loss, out.display()))
}

fn too_many(images: usize) -> String {
    format!("{images} images; a picture of reconstructions holds up to {}", masked::MOST_RECONSTRUCTED)
}
