//! `convnext init`: from images to recipes that suit them.

mod choice;
mod course;
mod recipes;

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

use convnext_core::{Entry, plan::Plan};
use convnext_data::{
    Channels, ShardSet,
    pack::{FolderSource, Options, Source},
    set::{Colours, Sizes},
};
use convnext_pipeline::{
    interrupt,
    recipe::{Io, Recipe},
};
use serde::Serialize;

use self::{choice::Wanted, recipes::Subject};
use super::pack;
use crate::{Context, Failure, Outcome, numbers::short, output, shards};

/// Looks at images, chooses a variant and settings that suit them, and writes recipes with a comment for every choice.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  convnext init photos --out flowers
  convnext init 'data/train-*.tar' --validation 'data/validation-*.tar' --out flowers

A folder holds one folder for each class, or images alone, for pre-training. It is packed into OUT/data, images being shrunk to
twice the size that the model sees, and a fifth of each class is held out for validation. Shards are taken as they are.
OUT/pretrain.toml and OUT/finetune.toml run as they are; the commands for that are told at the end.")]
pub struct Args {
    /// A folder of images, or shards as a quoted pattern.
    #[arg(required = true, value_name = "FOLDER|GLOB")]
    data: Vec<String>,
    /// Shards to validate on; of a folder, a part is held out.
    #[arg(long, value_name = "GLOB")]
    validation: Vec<String>,
    /// Where recipes, and shards of a folder, are written.
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// The variant; without it, the largest that suits the images and trains in minutes, or else the smallest that suits.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Of a folder, the share of each class that is held out for validation.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2, value_parser = pack::split::share)]
    split: f64,
    /// Writes one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Pictures whose headers are looked at, and pictures that are decoded for mean and deviation.
const LOOKED_AT: u64 = 300;
const DECODED: u64 = 500;
/// How many times the side of a model's input a packed image has.
const PACKED: usize = 2;
/// Multiply-adds a second of one core in training, as a guess on the safe side.
const SPEED: f64 = 6e9;
/// Recipes that are written.
const FILES: [&str; 2] = ["pretrain.toml", "finetune.toml"];

/// What was found and chosen, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    images: u64,
    classes: Option<usize>,
    short_side: [usize; 3],
    channels: usize,
    mean: &'a [f64],
    std: &'a [f64],
    files: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
    if let Some(there) = FILES.iter().map(|file| args.out.join(file)).find(|file| file.exists()) {
        let what = "is there already; remove it, or give another --out";
        return Err(Failure::failed(format!("{}: {what}", there.display())));
    }
    let given = shards::open_set(&args.data, Io::Mmap)?;
    let unreadable = || Failure::failed("none of the images can be read; `convnext inspect --decode` says why");
    let sizes = given.sizes(LOOKED_AT).ok_or_else(unreadable)?;
    let threads = context.threads.or_else(|| available_parallelism().ok().map(NonZero::get)).unwrap_or(1);
    let wanted = Wanted { sizes: &sizes, images: given.len(), speed: SPEED * threads as f64 };
    let entry = match &args.model {
        Some(name) => context.registry.find(name)?,
        None => {
            let channels = sizes.channels.count();
            let none = || {
                Failure::usage(format!("this program has no variant for images of {channels} channels; declare one"))
            };
            wanted.choose(context.registry.entries()).ok_or_else(none)?
        }
    };
    let counts = given.class_counts()?;
    let seconds = wanted.seconds(&entry.plan);
    let folder = one_folder(&args.data)?;
    let (train, validation) = match folder {
        Some(folder) => pack_folder(folder, args, &entry.plan, threads)?,
        None => (args.data.clone(), args.validation.clone()),
    };
    let set = shards::open_set(&train, Io::Mmap)?;
    let channels = Channels::of_count(entry.plan.channels);
    let colours = channels.and_then(|channels| set.colours(channels, DECODED)).ok_or_else(unreadable)?;
    let found = Found { entry, set: &set, sizes: &sizes, colours: &colours, train: &train, validation: &validation };
    let files = found.write(&args.out)?;
    if args.json {
        return output::json_line(&found.report(files));
    }
    output::text(&found.text(&given, &counts, seconds, &args.out))
}

/// The folder that is given, if it is one and nothing else.
fn one_folder(data: &[String]) -> Outcome<Option<&Path>> {
    match data {
        [one] if Path::new(one).is_dir() => Ok(Some(Path::new(one))),
        several if several.iter().any(|one| Path::new(one).is_dir()) => {
            Err(Failure::usage("give one folder, or shards; join several folders with `convnext pack`"))
        }
        _ => Ok(None),
    }
}

/// Packs a folder into `OUT/data`; the patterns of its sets.
fn pack_folder(folder: &Path, args: &Args, plan: &Plan, threads: usize) -> Outcome<(Vec<String>, Vec<String>)> {
    let source = FolderSource::open(folder, None)?;
    let to = args.out.join("data");
    let side = plan.height.max(plan.width) * PACKED;
    let split = (source.class_names().is_some() && args.validation.is_empty()).then_some(args.split);
    let options = Options {
        name: "train".to_owned(),
        resize: u32::try_from(side).ok(),
        // Pages of a TIFF are bands for a model of bands alone.
        channels: Channels::of_count(plan.channels).filter(|channels| matches!(channels, Channels::Bands(_))),
        skip_bad: true,
        threads,
        ..Options::default()
    };
    let packed = pack::write(&source, &to, &options, split)?;
    pack::tell_of_skipped(&packed);
    let pattern = |name: &str| {
        let folder = glob::Pattern::escape(&to.display().to_string());
        vec![format!("{folder}/{name}-*.tar")]
    };
    let validation = if split.is_some() { pattern("validation") } else { args.validation.clone() };
    Ok((pattern("train"), validation))
}

/// All that is known when recipes are written.
struct Found<'a> {
    entry: &'a Entry,
    /// The images to train on.
    set: &'a ShardSet,
    sizes: &'a Sizes,
    colours: &'a Colours,
    train: &'a [String],
    validation: &'a [String],
}

impl Found<'_> {
    /// Classes of the images to train on; `None` where they have no labels.
    fn classes(&self) -> Option<usize> {
        let classes = self.set.class_names().map_or(self.set.classes() as usize, <[String]>::len);
        let labelled = self.set.parts().iter().all(|part| part.unlabelled() == 0);
        (classes > 1 && labelled).then_some(classes)
    }

    /// Writes the recipes, and fails where one of them would be refused.
    fn write(&self, out: &Path) -> Outcome<Vec<PathBuf>> {
        let shown = out.display().to_string();
        let subject = Subject {
            plan: &self.entry.plan,
            classes: self.classes(),
            colours: self.colours,
            images: self.set.len(),
            train: self.train,
            validation: self.validation,
        };
        let [pretrain, finetune] = FILES;
        let mut texts = Vec::new();
        if self.entry.plan.fcmae.is_some() {
            texts.push((pretrain, subject.pretrain(&shown)));
        }
        if self.classes().is_some() {
            texts.push((finetune, subject.finetune(&shown)));
        }
        fs::create_dir_all(out).map_err(|error| Failure::because(format!("cannot make {shown}"), error))?;
        let write = |(name, text): (&str, String)| -> Outcome<PathBuf> {
            let path = out.join(name);
            Recipe::parse(name, &text, &[""; 0])?.resolve()?;
            fs::write(&path, text)
                .map_err(|error| Failure::because(format!("cannot write {}", path.display()), error))?;
            Ok(path)
        };
        texts.into_iter().map(write).collect()
    }

    fn report(&self, files: Vec<PathBuf>) -> Report<'_> {
        Report {
            model: self.entry.plan.name,
            images: self.set.len(),
            classes: self.classes(),
            short_side: self.sizes.short_side,
            channels: self.entry.plan.channels,
            mean: &self.colours.mean,
            std: &self.colours.deviation,
            files,
        }
    }

    /// What was found, what was chosen and why, and what to do next.
    fn text(&self, given: &ShardSet, counts: &[u64], seconds: f64, out: &Path) -> String {
        let [smallest, middle, largest] = self.sizes.short_side;
        let plan = &self.entry.plan;
        let kind = match self.sizes.channels {
            Channels::Grey => "grey".to_owned(),
            Channels::Bands(bands) => format!("{bands} bands"),
            Channels::Rgb | Channels::Rgba => "colour".to_owned(),
        };
        let images =
            format!("{}, {kind}; short sides of {smallest} to {largest} pixels, half at most {middle}", given.len());
        let variant = format!(
            "{}: {}x{}x{}, {} parameters; {} for both runs, as a guess",
            plan.name,
            plan.height,
            plan.width,
            plan.channels,
            short(plan.classifier().parameters()),
            duration(seconds)
        );
        let numbers = |values: &[f64]| values.iter().map(|value| format!("{value:.3}")).collect::<Vec<_>>().join(", ");
        let Colours { pictures, mean, deviation } = self.colours;
        let pixels = format!("mean {}; deviation {}; of {pictures} images", numbers(mean), numbers(deviation));
        format!(
            "images   {images}\nclasses  {}\nvariant  {variant}\npixels   {pixels}\n\nnext:\n{}",
            classes_text(given, counts),
            self.next(&out.display().to_string())
        )
    }

    /// The commands that go on.
    fn next(&self, out: &str) -> String {
        let mut lines = String::new();
        let mut runs = Vec::new();
        if self.entry.plan.fcmae.is_some() {
            lines += &format!("  convnext pretrain --recipe {out}/pretrain.toml --out {out}/pretrain\n");
            runs.push(format!("{out}/pretrain"));
        }
        if self.classes().is_some() {
            lines += &format!("  convnext finetune --recipe {out}/finetune.toml --out {out}/finetune\n");
            runs.push(format!("{out}/finetune"));
        }
        lines + &format!("  convnext report {} --output {out}/report.html\n", runs.join(" "))
    }
}

/// How many classes there are, and whether they are of like size.
fn classes_text(given: &ShardSet, counts: &[u64]) -> String {
    let (Some(least), Some(most)) = (counts.iter().min(), counts.iter().max()) else {
        return "none: the images have no labels, and serve for pre-training".to_owned();
    };
    let smallest = counts.iter().position(|count| count == least);
    let name = smallest.and_then(|class| given.class_names()?.get(class));
    let uneven = match name {
        Some(name) if *most > 5 * least => format!("; uneven: `{name}` has the fewest"),
        _ => String::new(),
    };
    format!("{}, of {least} to {most} images{uneven}", counts.len())
}

/// `12 min`, of a guess.
fn duration(seconds: f64) -> String {
    match seconds / 60.0 {
        minutes if minutes < 1.0 => "less than a minute".to_owned(),
        minutes if minutes < 120.0 => format!("about {minutes:.0} min"),
        minutes => format!("about {:.0} hours", minutes / 60.0),
    }
}
