//! `convnext pack`: shards from images.

pub(super) mod split;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use convnext_data::{
    Channels, Decoder, ShardSet,
    pack::{self, Classes, FolderSource, IdxSource, ListSource, Options, Packed, PassedOver, Recode, Source},
    shard::{Limits, Written},
};
use convnext_pipeline::{interrupt, recipe::Io, tell};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{Failure, Outcome, numbers, output, passed_over, shards};

/// Packs images and labels into shards (WebDataset tars) with their indices.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true), after_help = "\
Examples:
  convnext pack --images images.idx --labels labels.idx --output data/train
  convnext pack --folder photos --output data --split 0.2
  convnext pack --folder photos --output data/photos --format jpeg --resize 256
  convnext pack --folder photos/val --classes data/photos.classes.txt --output data/val
  convnext pack --list list.tsv --output data/some --per-class 100 --seed 1
  convnext pack --shards 'data/photos-*.tar' --output data/small --resize 128

A folder holds one folder for each class, or images alone, which are packed without labels: for pre-training. A list has
one image a line: its path (relative to the list), then, if it has one, a tab and its class: a number, or, with --classes,
a name. Images are JPEG, PNG, WebP, GIF and TIFF (the first frame), BMP, PGM and PPM. Equal options give equal bytes.

--split SHARE makes two sets in the folder --output, train-*.tar and validation-*.tar, with the same classes. Validation gets
that share of each class, rounded; of two images or more, at least one goes to either set. The side of an image follows from
--seed, its class and its path below the folder; an image that is added moves at most one other to the other side.")]
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
    /// A file of class names, one a line, class 0 first: classes have the numbers of this file, also those without an image.
    #[arg(long, value_name = "FILE", conflicts_with = "class_names")]
    classes: Option<PathBuf>,
    /// A folder of class folders, or of images without labels.
    #[arg(long, value_name = "DIR", group = "source")]
    folder: Option<PathBuf>,
    /// A list of images.
    #[arg(long, value_name = "FILE", group = "source")]
    list: Option<PathBuf>,
    /// Shards, or folders, to pack anew: patterns as --data takes them. Of their targets, classes come along.
    #[arg(long, value_name = "GLOB", num_args = 1.., group = "source")]
    shards: Vec<String>,
    /// Where to: DIR/NAME makes DIR/NAME-000000.tar and so on; with --split it is a folder.
    #[arg(long, short, value_name = "DIR/NAME")]
    output: PathBuf,
    /// Holds out this share of each class for validation: makes OUTPUT/train-*.tar and OUTPUT/validation-*.tar.
    #[arg(long, value_name = "SHARE", value_parser = split::share)]
    split: Option<f64>,
    /// How images are encoded.
    #[arg(long, value_enum, default_value_t = Format::Keep)]
    format: Format,
    /// Keeps JPEGs to the byte. Otherwise they get restart markers, without loss, so that loading decodes only the part that a
    /// crop needs; and what follows a picture's end is left out.
    #[arg(long, conflicts_with = "format")]
    verbatim: bool,
    /// Quality of JPEGs that are encoded here.
    #[arg(long, default_value_t = 92, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Shrinks larger images until their short side has N pixels.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    resize: Option<u32>,
    /// Shrinks larger images until their long side has N pixels.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_side: Option<u32>,
    /// Channels that all images must have: bands of NumPy arrays, of a TIFF's pixels, or its pages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    channels: Option<u16>,
    /// Most pixels of an image, before it is resized.
    #[arg(long, value_name = "N", default_value_t = Decoder::MAX_PIXELS as u64, value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: u64,
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
    /// Leaves out files of other kinds, however many; else more than one in a hundred, or all of a class, are an error.
    #[arg(long, requires = "folder")]
    skip_other: bool,
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
    /// Array of NumPy: the same for any number of channels.
    Npy,
}

/// The arguments, resolved.
struct Pack {
    source: Box<dyn Source>,
    passed_over: PassedOver,
    folder: PathBuf,
    options: Options,
    /// What is held out of each class.
    split: Option<f64>,
}

impl Pack {
    fn resolve(args: &Args, threads: usize) -> Outcome<Self> {
        let (folder, name) = match args.split {
            Some(_) => (args.output.clone(), String::new()),
            None => output_of(&args.output)?,
        };
        let options = Options {
            name,
            limits: Limits {
                bytes: args.max_mib_per_shard << 20,
                samples: args.max_samples_per_shard.unwrap_or(u64::MAX),
            },
            recode: match args.format {
                Format::Keep if args.verbatim => Recode::Verbatim(args.quality),
                Format::Keep => Recode::Keep(args.quality),
                Format::Jpeg => Recode::Jpeg(args.quality),
                Format::Png => Recode::Png,
                Format::Raw => Recode::Raw,
                Format::Npy => Recode::Npy,
            },
            resize: args.resize,
            max_side: args.max_side,
            channels: args.channels.and_then(|count| Channels::of_count(usize::from(count))),
            max_pixels: usize::try_from(args.max_pixels).unwrap_or(usize::MAX),
            per_class: args.per_class,
            limit: args.limit,
            shuffle: !args.in_order,
            seed: args.seed,
            skip_bad: args.skip_bad,
            threads,
        };
        let (source, passed_over) = source(args)?;
        Ok(Self { source, passed_over, folder, options, split: args.split })
    }
}

/// `data/train` -> folder `data`, name `train`.
fn output_of(output: &Path) -> Outcome<(PathBuf, String)> {
    let wanted = |given: &Path| Failure::usage(format!("--output names the shards: {}", given.join("NAME").display()));
    // A path forgets its last slash.
    if output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(wanted(output));
    }
    let name = output.file_name().and_then(OsStr::to_str).ok_or_else(|| wanted(output))?;
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    Ok((folder.unwrap_or(Path::new(".")).to_owned(), name.to_owned()))
}

fn source(args: &Args) -> Outcome<(Box<dyn Source>, PassedOver)> {
    let classes = args.classes.as_deref().map(Classes::read).transpose()?;
    if let (Some(images), Some(labels)) = (&args.images, &args.labels) {
        let source = IdxSource::open(images, labels)?;
        let names = classes.as_ref().map(Classes::names).or(args.class_names.as_deref());
        let source = match names {
            Some(names) => source.with_class_names(names),
            None => source,
        };
        return Ok((Box::new(source), PassedOver::default()));
    }
    if let Some(folder) = &args.folder {
        let source = FolderSource::open(folder, classes.as_ref())?;
        if !args.skip_other {
            source.require_all()?;
        }
        let passed_over = source.passed_over().clone();
        return Ok((Box::new(source), passed_over));
    }
    if !args.shards.is_empty() {
        return Ok((Box::new(shards_of(&args.shards, classes.as_ref())?), PassedOver::default()));
    }
    match &args.list {
        Some(list) => Ok((Box::new(ListSource::open(list, classes.as_ref())?), PassedOver::default())),
        None => Err(Failure::usage("nothing to pack; give --images and --labels, --folder, --list, or --shards")),
    }
}

/// Shards that are packed anew, with the numbers that `classes` give to the names of theirs.
fn shards_of(patterns: &[String], classes: Option<&Classes>) -> Outcome<ShardSet> {
    let set = shards::open_set(patterns, Io::Mmap)?;
    set.check_class_names()?;
    let others: u64 = set.summary()?.targets.iter().sum();
    if others > 0 {
        return Err(Failure::failed(format!(
            "{others} samples have a segmentation, boxes or a list of classes, which packing anew would lose; use these shards as \
             they are"
        )));
    }
    match classes {
        Some(classes) => set.relabelled(classes.names()).map_err(|error| Failure::failed(error.to_string())),
        None => Ok(set),
    }
}

/// What was packed, as JSON: one set, or two by name.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    sets: Sets<'a>,
    skipped: Vec<String>,
    /// Files of other kinds, by kind.
    left_out: &'a BTreeMap<String, u64>,
    empty_classes: &'a [String],
    unreadable_classes: &'a [String],
    absent_classes: &'a [String],
}

#[derive(Serialize)]
#[serde(untagged)]
enum Sets<'a> {
    One(Set<'a>),
    Split(BTreeMap<&'static str, Set<'a>>),
}

#[derive(Serialize)]
struct Set<'a> {
    shards: &'a [PathBuf],
    samples: u64,
    bytes: u64,
}

impl<'a> Set<'a> {
    fn of(Packed { written: Written { shards, samples, bytes }, .. }: &'a Packed) -> Self {
        Self { shards, samples: *samples, bytes: *bytes }
    }
}

/// Runs the command.
pub fn run(args: &Args, threads: Option<usize>) -> Outcome {
    let Pack { source, passed_over, folder, options, split } = Pack::resolve(args, threads.unwrap_or(0))?;
    if args.folder.is_some() {
        if source.class_names().is_none() {
            tell::say("no class folders: the images are packed without labels, for pre-training");
        }
        passed_over::tell(&passed_over);
    }
    interrupt::listen().map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))?;
    let packed = write(&*source, &folder, &options, split)?;
    if args.json {
        return json(&packed, &passed_over);
    }
    tell_of_skipped(&packed);
    output::text(&match packed.as_slice() {
        [train, validation] => split::text([train, validation], source.class_names(), &folder),
        sets => sets.iter().map(|set| text(&set.written)).collect(),
    })
}

/// Packs into one set, or into two that are `split`, and shows how far it is.
pub(super) fn write(source: &dyn Source, folder: &Path, options: &Options, split: Option<f64>) -> Outcome<Vec<Packed>> {
    let bar = progress_bar();
    let mut progress = |done, of| {
        bar.set_length(of);
        bar.set_position(done);
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let packed = match split {
        None => pack::pack(source, folder, options, &mut progress).map(|packed| vec![packed]),
        Some(share) => pack::pack_split(source, folder, options, share, &mut progress).map(Vec::from),
    };
    bar.finish_and_clear();
    Ok(packed?)
}

/// Says which images were left out.
pub(super) fn tell_of_skipped(packed: &[Packed]) {
    packed.iter().flat_map(|set| &set.skipped).for_each(|why| tell::say(format_args!("left out: {why}")));
}

/// A bar where there is a terminal, nothing elsewhere.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("packing {wide_bar} {pos}/{len} {per_sec} {eta}");
    let bar = if tell::says() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.with_style(style.expect("the template is sound"))
}

fn json(packed: &[Packed], passed_over: &PassedOver) -> Outcome {
    let sets = match packed {
        [one] => Sets::One(Set::of(one)),
        sets => Sets::Split(pack::SPLIT_NAMES.into_iter().zip(sets.iter().map(Set::of)).collect()),
    };
    output::json_line(&Report {
        sets,
        skipped: packed.iter().flat_map(|set| &set.skipped).map(ToString::to_string).collect(),
        left_out: &passed_over.kinds,
        empty_classes: &passed_over.empty,
        unreadable_classes: &passed_over.unreadable,
        absent_classes: &passed_over.absent,
    })
}

/// The shards of a set, one a line, and what is in them.
fn text(Written { shards, samples, bytes }: &Written) -> String {
    let paths: String = shards.iter().map(|path| format!("{}\n", path.display())).collect();
    let number = if shards.len() == 1 { "1 shard".to_owned() } else { format!("{} shards", shards.len()) };
    format!("{paths}{samples} samples, {} of images, {number}\n", numbers::bytes(*bytes))
}
