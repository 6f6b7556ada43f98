//! `convnext inspect`: what is in shards and folders of images.

use std::path::PathBuf;

use convnext_data::{Channels, Decoder, Image, Mixing, Part, SetError, shard::Summary};
use convnext_pipeline::{recipe::Io, tell};
use rayon::prelude::*;
use serde::Serialize;

use crate::{Failure, Outcome, numbers::bytes, output, shards, table::Table};

/// Shows what is in shards and folders of images and, on request, checks every byte of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext inspect data/train-*.tar --samples 3
  convnext inspect data/train-*.tar --verify --decode
  convnext inspect photos --decode")]
pub struct Args {
    /// Shards, patterns of them, or folders of images.
    #[arg(required = true, value_name = "SHARD")]
    shards: Vec<String>,
    /// Also lists the first N samples of each shard or folder.
    #[arg(long, value_name = "N", default_value_t = 0)]
    samples: u64,
    /// Reads every byte and lists every fault of index, headers, labels and pictures' checksums; the exit code is 1 if
    /// there is one. Whether a picture can be decoded is looked at with --decode alone.
    #[arg(long)]
    verify: bool,
    /// Decodes every picture, lists those that cannot be, and says how large they are.
    #[arg(long)]
    decode: bool,
    /// Writes JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    samples: u64,
    unlabelled: u64,
    classes: u32,
    class_names: Option<Vec<String>>,
    mixing: Mixed,
    shards: Vec<Contents>,
}

/// How well training mixes the classes of all shards together.
#[derive(Serialize)]
struct Mixed {
    /// How many times fewer classes 64 neighbours have than they would have in a shuffled set.
    likeness: f64,
    /// Neighbours that training reads together, and how many such blocks it mixes.
    #[serde(flatten)]
    blocks: Mixing,
}

impl Mixed {
    fn text(&self) -> String {
        let Self { likeness, blocks: Mixing { block, window } } = self;
        let how = match *likeness < 1.1 {
            true => "classes are mixed".to_owned(),
            false => format!("64 neighbours have {likeness:.1} times fewer classes than in a shuffled set"),
        };
        format!("order: {how}; training reads {block} neighbours together and mixes {window} such blocks\n")
    }
}

#[derive(Serialize)]
struct Contents {
    shard: PathBuf,
    samples: u64,
    unlabelled: u64,
    classes: u32,
    /// Of all images.
    bytes: u64,
    jpeg: u64,
    png: u64,
    raw: u64,
    webp: u64,
    gif: u64,
    tiff: u64,
    bmp: u64,
    npy: u64,
    /// Absent where samples have a class at most.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    targets: Option<Targets>,
    first: Vec<Sample>,
    /// Absent unless they were looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    faults: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded: Option<Decoded>,
}

/// Samples with targets beyond a class.
#[derive(Serialize)]
struct Targets {
    lists_of_classes: u64,
    segmentations: u64,
    boxes: u64,
}

impl Targets {
    fn of(counts: [u64; 3]) -> Option<Self> {
        let [lists_of_classes, segmentations, boxes] = counts;
        counts.iter().any(|&count| count > 0).then_some(Self { lists_of_classes, segmentations, boxes })
    }
}

/// What decoding found.
#[derive(Serialize)]
struct Decoded {
    pictures: u64,
    /// Height and width of the picture with the fewest pixels, of the one in the middle, and of that with the most.
    sizes: Option<[(usize, usize); 3]>,
    faults: Vec<String>,
}

#[derive(Serialize)]
struct Sample {
    number: u64,
    name: String,
    label: Option<u32>,
    bytes: u64,
    /// Height and width, or why they cannot be told.
    #[serde(flatten)]
    size: Size,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Size {
    Known { height: usize, width: usize, channels: usize },
    Unknown { error: String },
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let set = shards::open_set(&args.shards, Io::Mmap)?;
    if let Err(fault) = set.check_class_names() {
        tell::warn(fault);
    }
    let contents = set.parts().iter().map(|part| Contents::of(part, args)).collect::<Outcome<Vec<_>>>()?;
    let report = Report {
        samples: set.len(),
        unlabelled: contents.iter().map(|shard| shard.unlabelled).sum(),
        classes: set.classes(),
        class_names: set.class_names().map(<[String]>::to_vec),
        mixing: Mixed { likeness: set.neighbours()?.likeness(64), blocks: set.mixing()? },
        shards: contents,
    };
    if args.json { output::json(&report) } else { output::text(&text(&report)) }?;
    let listed = |shard: &Contents| {
        let decoded = shard.decoded.as_ref().map_or(0, |decoded| decoded.faults.len());
        decoded + shard.faults.as_ref().map_or(0, Vec::len)
    };
    match report.shards.iter().map(listed).sum::<usize>() {
        0 => Ok(()),
        1 => Err(Failure::failed("1 fault found")),
        faults => Err(Failure::failed(format!("{faults} faults found"))),
    }
}

impl Contents {
    fn of(shard: &Part, args: &Args) -> Outcome<Self> {
        let counted = match shard.summary() {
            // What is wrong comes in the list of faults.
            Err(_) if args.verify => {
                Summary { samples: shard.len(), unlabelled: shard.unlabelled(), ..Summary::default() }
            }
            counted => counted?,
        };
        let Summary { samples, unlabelled, classes, bytes, encodings, targets } = counted;
        let [jpeg, png, raw, webp, gif, tiff, bmp, npy] = encodings;
        let first = shard.samples().take(usize::try_from(args.samples).unwrap_or(usize::MAX));
        let first = first.map(|sample| Sample::of(&sample?)).filter(|first| !args.verify || first.is_ok());
        let first = first.collect::<Result<_, SetError>>()?;
        let decoded = args.decode.then(|| Decoded::of(shard));
        let faults = args.verify.then(|| shard.faults().iter().map(ToString::to_string).collect());
        let shard = shard.path().to_owned();
        Ok(Self {
            shard,
            samples,
            unlabelled,
            classes,
            bytes,
            jpeg,
            png,
            raw,
            webp,
            gif,
            tiff,
            bmp,
            npy,
            targets: Targets::of(targets),
            first,
            faults,
            decoded,
        })
    }
}

impl Decoded {
    /// Decodes all pictures of a shard or folder, on all threads.
    fn of(shard: &Part) -> Self {
        let tools = || (Decoder::new(Channels::Rgb), Vec::new(), Image::default());
        let decoded: Vec<Result<(usize, usize), String>> = (0..shard.len())
            .into_par_iter()
            .map_init(tools, |(decoder, scratch, image), number| {
                let sample = shard.sample(number).map_err(|error| error.to_string())?;
                sample.decode_into(decoder, scratch, image).map_err(|error| error.to_string())?;
                Ok((image.height, image.width))
            })
            .collect();
        let (sizes, faults): (Vec<_>, Vec<_>) = decoded.into_iter().partition(Result::is_ok);
        let mut sizes: Vec<(usize, usize)> = sizes.into_iter().flatten().collect();
        sizes.sort_by_key(|(height, width)| height * width);
        let at = |place: usize| sizes.get(place).copied();
        let range = || Some([at(0)?, at(sizes.len() / 2)?, at(sizes.len().checked_sub(1)?)?]);
        Self { pictures: shard.len(), sizes: range(), faults: faults.into_iter().filter_map(Result::err).collect() }
    }
}

impl Sample {
    fn of(sample: &convnext_data::Sample<'_>) -> Result<Self, SetError> {
        let mut scratch = Vec::new();
        let size = match Decoder::new(Channels::Rgb).info(sample.bytes(&mut scratch)?) {
            Ok(info) => Size::Known { height: info.height, width: info.width, channels: info.channels.count() },
            Err(error) => Size::Unknown { error: error.to_string() },
        };
        Ok(Self { number: sample.number(), name: sample.name(), label: sample.label(), bytes: sample.size(), size })
    }
}

fn text(report: &Report) -> String {
    let mut table = Table::new(
        &["shard", "samples", "unlabelled", "classes", "size", "JPEG", "PNG", "raw", "other"],
        &[1, 2, 3, 4, 5, 6, 7, 8],
    );
    for shard in &report.shards {
        let other = shard.webp + shard.gif + shard.tiff + shard.bmp + shard.npy;
        let [jpeg, png, raw, other] = [shard.jpeg, shard.png, shard.raw, other].map(|number| number.to_string());
        table.row([
            shard.shard.display().to_string(),
            shard.samples.to_string(),
            shard.unlabelled.to_string(),
            shard.classes.to_string(),
            bytes(shard.bytes),
            jpeg,
            png,
            raw,
            other,
        ]);
    }
    let mut text = table.text();
    if let Some(names) = &report.class_names {
        text += &format!("classes: {}\n", names.join(", "));
    }
    if report.samples > 0 {
        text += &report.mixing.text();
    }
    for shard in &report.shards {
        text += &details(shard);
    }
    text
}

fn details(shard: &Contents) -> String {
    let mut text = String::new();
    if let Some(Targets { lists_of_classes, segmentations, boxes }) = &shard.targets {
        text +=
            &format!("{}: {segmentations} samples have a segmentation, {boxes} have boxes, ", shard.shard.display());
        text += &format!("{lists_of_classes} have a list of classes\n");
    }
    if !shard.first.is_empty() {
        let mut table = Table::new(&["number", "name", "label", "size", "pixels"], &[0, 2, 3]);
        for sample in &shard.first {
            let pixels = match &sample.size {
                Size::Known { height, width, channels } => format!("{height}x{width}x{channels}"),
                Size::Unknown { error } => error.clone(),
            };
            let label = sample.label.map_or_else(|| "none".to_owned(), |label| label.to_string());
            table.row([sample.number.to_string(), sample.name.clone(), label, bytes(sample.bytes), pixels]);
        }
        text += &format!("\n{}\n{}", shard.shard.display(), table.text());
    }
    let undecoded = match shard.decoded {
        Some(_) => "",
        None => "; whether it can be decoded was not looked at (--decode)",
    };
    match shard.faults.as_deref() {
        None => {}
        Some([]) => text += &format!("{}: every byte is as it was indexed{undecoded}\n", shard.shard.display()),
        Some(faults) => faults.iter().for_each(|fault| text += &format!("fault: {fault}\n")),
    }
    if let Some(Decoded { pictures, sizes, faults }) = &shard.decoded {
        faults.iter().for_each(|fault| text += &format!("fault: {fault}\n"));
        let whole = pictures - faults.len() as u64;
        text += &format!("{}: {whole} of {pictures} pictures can be decoded", shard.shard.display());
        if let Some(sizes) = sizes {
            let [smallest, middle, largest] = sizes.map(|(height, width)| format!("{height}x{width}"));
            text += &format!("; from {smallest} to {largest} pixels, half of them at most {middle}");
        }
        text += "\n";
    }
    text
}
