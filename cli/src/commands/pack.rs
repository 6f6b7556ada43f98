//! `convnext pack`: shards from images.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use convnext_data::{
    pack::{self, FolderSource, IdxSource, ListSource, Options, Packed, Recode, Source},
    shard::Limits,
};
use convnext_pipeline::tell;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{Failure, Outcome, numbers, output};

/// Packs images and labels into shards (WebDataset tars) with their indices.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true), after_help = "\
Examples:
  convnext pack --images train-images-idx3-ubyte.gz --labels train-labels-idx1-ubyte.gz --output data/train
  convnext pack --folder photos --output data/photos --format jpeg --resize 256
  convnext pack --list list.tsv --output data/some --per-class 100 --seed 1

A folder holds one folder for each class. A list has one image a line: its path (relative to the list), then, if it has
one, a tab and its class number. Equal options give equal bytes.")]
pub struct Args {
    /// An IDX file of images (the MNIST family), gzipped or not.
    #[arg(long, value_name = "FILE", requires = "labels", group = "source")]
    images: Option<PathBuf>,
    /// The IDX file of their labels.
    #[arg(long, value_name = "FILE", requires = "images")]
    labels: Option<PathBuf>,
    /// Names of the classes, class 0 first, separated by commas: for IDX files, which have none.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "images")]
    class_names: Option<Vec<String>>,
    /// A folder of class folders.
    #[arg(long, value_name = "DIR", group = "source")]
    folder: Option<PathBuf>,
    /// A list of images.
    #[arg(long, value_name = "FILE", group = "source")]
    list: Option<PathBuf>,
    /// Where to: DIR/NAME makes DIR/NAME-000000.tar and so on.
    #[arg(long, short, value_name = "DIR/NAME")]
    output: PathBuf,
    /// How images are encoded.
    #[arg(long, value_enum, default_value_t = Format::Keep)]
    format: Format,
    /// Quality of JPEGs that are encoded here.
    #[arg(long, default_value_t = 92, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Shrinks larger images until their short side has N pixels.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    resize: Option<u32>,
    /// Takes at most N samples of each class, chosen by the seed.
    #[arg(long, value_name = "N")]
    per_class: Option<u64>,
    /// Takes at most N samples in all.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Chooses samples and their order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Keeps the order of the source.
    #[arg(long)]
    in_order: bool,
    /// Most samples of a shard.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_samples_per_shard: Option<u64>,
    /// Most MiB of images in a shard.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    max_mib_per_shard: u64,
    /// Leaves out images that cannot be read, and lists them, instead of failing.
    #[arg(long)]
    skip_bad: bool,
    /// Writes one line of JSON.
    #[arg(long)]
    json: bool,
}

/// How packed images are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As they are; only what is resized is encoded anew.
    Keep,
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// PGM or PPM: larger, and no decoding when read.
    Raw,
}

/// The arguments, resolved.
struct Pack {
    source: Box<dyn Source>,
    folder: PathBuf,
    options: Options,
}

impl Pack {
    fn resolve(args: &Args) -> Outcome<Self> {
        let name = args.output.file_name().and_then(OsStr::to_str);
        let name = name.ok_or_else(|| Failure::usage("--output is DIR/NAME; for example data/train"))?;
        let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty());
        let options = Options {
            name: name.to_owned(),
            limits: Limits {
                bytes: args.max_mib_per_shard << 20,
                samples: args.max_samples_per_shard.unwrap_or(u64::MAX),
            },
            recode: match args.format {
                Format::Keep => Recode::Keep,
                Format::Jpeg => Recode::Jpeg(args.quality),
                Format::Png => Recode::Png,
                Format::Raw => Recode::Raw,
            },
            resize: args.resize,
            per_class: args.per_class,
            limit: args.limit,
            shuffle: !args.in_order,
            seed: args.seed,
            skip_bad: args.skip_bad,
        };
        Ok(Self { source: source(args)?, folder: folder.unwrap_or(Path::new(".")).to_owned(), options })
    }
}

fn source(args: &Args) -> Outcome<Box<dyn Source>> {
    if let (Some(images), Some(labels)) = (&args.images, &args.labels) {
        let source = IdxSource::open(images, labels)?;
        return Ok(match &args.class_names {
            Some(names) => Box::new(source.with_class_names(names)),
            None => Box::new(source),
        });
    }
    if let Some(folder) = &args.folder {
        return Ok(Box::new(FolderSource::open(folder)?));
    }
    match &args.list {
        Some(list) => Ok(Box::new(ListSource::open(list)?)),
        None => Err(Failure::usage("nothing to pack; give --images and --labels, --folder, or --list")),
    }
}

#[derive(Serialize)]
struct Report<'a> {
    shards: &'a [PathBuf],
    samples: u64,
    bytes: u64,
    skipped: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let Pack { source, folder, options } = Pack::resolve(args)?;
    let bar = progress_bar();
    let packed = pack::pack(&*source, &folder, &options, &mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    report(&packed?, args.json)
}

/// A bar where there is a terminal, nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("packing {wide_bar} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(0).with_style(style.expect("the template is sound"))
}

fn report(Packed { written, skipped }: &Packed, json: bool) -> Outcome {
    let skipped: Vec<String> = skipped.iter().map(ToString::to_string).collect();
    if json {
        let (samples, bytes) = (written.samples, written.bytes);
        return output::json_line(&Report { shards: &written.shards, samples, bytes, skipped });
    }
    skipped.iter().for_each(|why| tell::say(format_args!("left out: {why}")));
    let mut text: String = written.shards.iter().map(|path| format!("{}\n", path.display())).collect();
    let shards =
        if written.shards.len() == 1 { "1 shard".to_owned() } else { format!("{} shards", written.shards.len()) };
    text += &format!("{} samples, {} of images, {shards}\n", written.samples, numbers::bytes(written.bytes));
    output::text(&text)
}
