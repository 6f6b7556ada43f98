//! `convnext quickstart`: the whole path, small.

mod drawn;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use convnext_core::{Entry, plan::Plan};
use convnext_data::{
    ShardSet,
    pack::{self, FASHION_MNIST_CLASSES, IdxSource, Options, Source},
};
use convnext_pipeline::{
    device::Device,
    given::Given,
    input::view_of,
    interrupt,
    recipe::{Evaluate, Resolved},
    records::{Evaluation, RECONSTRUCTION, RunRecord},
    report,
    runs::{self, Destination},
    tasks::{
        Measure,
        classify::{
            self,
            metrics::{TOP1, TOP5},
        },
        masked::{self, Subject},
    },
    tell,
};
use convnext_weights::checkpoint::{Which, WhichCheckpoint, WhichValues};
use serde::Serialize;

use self::drawn::Drawn;
use super::train::toml_string;
use crate::{Context, Failure, Outcome, device, output, recipes, table::Table};

/// Where Debian's `dataset-fashion-mnist` installs its files.
const INSTALLED: &str = "/usr/share/datasets/fashion-mnist";

/// Labels that the two classifiers are trained with, of each class.
const LABELS_PER_CLASS: u64 = 100;

/// Chooses them.
const LABELS_SEED: u64 = 1;

/// What is measured: the weights that a run ends with. Choosing among checkpoints on the test images would flatter.
const LAST: Which = Which { checkpoint: WhichCheckpoint::Last, values: WhichValues::AverageIfThere };

/// Packs real images, pre-trains, fine-tunes, evaluates, and reports, in a few minutes on a laptop's CPU.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext quickstart --out runs/quickstart
  convnext quickstart --out runs/mnist --data downloads/mnist

The data are Fashion-MNIST's four IDX files, from --data or where `apt-get install dataset-fashion-mnist` puts them.
Without them it draws labelled shapes of its own, and says so.")]
pub struct Args {
    /// Where everything is written; must not exist yet.
    #[arg(long, value_name = "DIR", default_value = "runs/quickstart")]
    out: PathBuf,
    /// The variant; without it, `micro`, or the smallest of this program that fits.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// A folder with the four IDX files of the MNIST family, gzipped or not.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Changes a value of both recipes that train, e.g. --set seed=1; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: device::Args,
    /// Writes the table as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Images, packed.
struct Shards {
    unlabelled: PathBuf,
    labelled: PathBuf,
    test: PathBuf,
}

/// A line of the closing table.
#[derive(Serialize)]
struct Line {
    start: &'static str,
    top1: f64,
    top5: f64,
    seconds: f64,
    cpu_seconds: f64,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    if args.out.exists() {
        return Err(Failure::failed(format!(
            "{} is there already; remove it, or give another --out",
            args.out.display()
        )));
    }
    interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
    context.compute(0)?;
    let entry = variant(args.model.as_deref(), context)?;
    let device = args.device.resolve()?;

    // ---- pack ------------------------------------------------------------------------------------------------------
    let shards = pack_all(args)?;

    // ---- pre-train on all images, without labels -------------------------------------------------------------------
    let model = format!("model.name={}", toml_string(entry.plan.name));
    let recipe = |name: &str, more: &[String]| {
        let more: Vec<String> = more.iter().chain([&model]).cloned().collect();
        read(name, &more, &args.set)
    };
    let pretraining = args.out.join("pretrain");
    let train = format!("data.train={}", pattern(&shards.unlabelled));
    let recipe_pretrain = recipe(PRETRAIN, &[train])?;
    let data = recipe_pretrain.data.clone();
    let view = view_of(recipe_pretrain.training.as_ref().map(|training| &training.augment), Evaluate::default().crop);
    let destination = Destination { out: pretraining.clone(), resume: false, notify: None };
    let pretrained = runs::train(entry, recipe_pretrain, open(&shards.unlabelled)?, None, &destination, &device)?;
    let subject = Subject::Shards(open(&shards.test)?, 8);
    masked::reconstruct(entry, (&pretraining, LAST), &data, view, &subject, 0, &pretraining.join(RECONSTRUCTION))?;

    // ---- the same few labels, from scratch and after pre-training --------------------------------------------------
    let labelled = format!("data.train={}", pattern(&shards.labelled));
    let validation = format!("data.validation={}", pattern(&shards.test));
    let weights = format!("finetune.weights={}", toml_string(&pretraining.display().to_string()));
    let from = |name: &str, mut more: Vec<String>| {
        more.extend([labelled.clone(), validation.clone()]);
        train_and_evaluate(entry, recipe(FINETUNE, &more)?, &shards, &args.out.join(name), &device)
    };
    let (scratch, without) = from("scratch", SCRATCH.map(str::to_owned).to_vec())?;
    let (finetuned, with) = from("finetune", vec![weights])?;

    // ---- report ----------------------------------------------------------------------------------------------------
    let page = args.out.join("report.html");
    report::write(&["pretrain", "scratch", "finetune"].map(|run| args.out.join(run)), &page)?;
    let lines = [line("scratch", &without, &[&scratch]), line("FCMAE + fine-tune", &with, &[&pretrained, &finetuned])];
    if args.json {
        return output::json_line(&lines);
    }
    output::text(&format!("{}{}\n", table(&lines), page.display()))
}

const PRETRAIN: &str = "quickstart-pretrain";
const FINETUNE: &str = "quickstart-finetune";

/// What the fine-tuning recipe becomes without pre-trained weights: layer decay is for those only.
const SCRATCH: [&str; 2] = ["finetune.start=scratch", "finetune.layer_decay="];

/// What the recipes are for.
const MICRO: &str = "micro";
/// Rows and columns of the pictures, and their classes.
const SIDE: usize = 28;
const CLASSES: usize = 10;
/// Rows and columns up to which a variant is taken that nobody asked for: larger ones take hours.
const LARGEST_SIDE: usize = 64;

/// The variant that is asked for; else the one that the recipes are for; else the cheapest that fits.
fn variant<'a>(asked: Option<&str>, context: &Context<'a>) -> Outcome<&'a Entry> {
    let entries = context.registry.entries();
    if let Some(name) = asked {
        let entry = context.registry.find(name)?;
        return match unsuitable(&entry.plan) {
            Some(why) => Err(Failure::usage(format!("--model {name}: {why}"))),
            None => Ok(entry),
        };
    }
    let small = |plan: &Plan| unsuitable(plan).is_none() && plan.height.max(plan.width) <= LARGEST_SIDE;
    let micro = entries.iter().find(|entry| entry.plan.name == MICRO && small(&entry.plan));
    let cheapest = || {
        entries.iter().filter(|entry| small(&entry.plan)).min_by_key(|entry| entry.plan.classifier().multiply_adds())
    };
    micro.or_else(cheapest).ok_or_else(|| {
        Failure::usage(format!(
            "none of this program's variants fits: quickstart takes one with `fcmae`, an input of {SIDE} to {LARGEST_SIDE} \
             pixels a side and 1, 3 or 4 channels, and a head of {CLASSES} classes or more; --model takes a larger one too"
        ))
    })
}

/// Why quickstart cannot use a variant.
fn unsuitable(plan: &Plan) -> Option<String> {
    if plan.fcmae.is_none() {
        return Some("it declares no pre-training part (fcmae)".to_owned());
    }
    if plan.height.min(plan.width) < SIDE {
        let (height, width) = (plan.height, plan.width);
        return Some(format!("it takes images of {height}x{width}; the pictures have {SIDE}x{SIDE}"));
    }
    if !matches!(plan.channels, 1 | 3 | 4) {
        return Some(format!("it takes {} channels; the pictures are grey", plan.channels));
    }
    let few = plan.classes < CLASSES;
    few.then(|| format!("it tells {} classes apart; the pictures have {CLASSES}", plan.classes))
}

fn read(name: &str, more: &[String], sets: &[String]) -> Outcome<Resolved> {
    let sets: Vec<String> = more.iter().chain(sets).cloned().collect();
    Ok(recipes::parse(recipes::find(name)?, &sets)?.resolve()?)
}

/// Trains a classifier and measures what it ends with.
fn train_and_evaluate(
    entry: &Entry,
    recipe: Resolved,
    shards: &Shards,
    out: &Path,
    device: &Device,
) -> Outcome<(RunRecord, Evaluation)> {
    let (data, workers) = (recipe.data.clone(), recipe.machine.workers);
    let evaluate = Evaluate::default();
    let view = view_of(recipe.training.as_ref().map(|training| &training.augment), evaluate.crop);
    let destination = Destination { out: out.to_owned(), resume: false, notify: None };
    let test = open(&shards.test)?;
    let validation = ShardSet::open(std::slice::from_ref(&shards.test))?;
    let record = runs::train(entry, recipe, open(&shards.labelled)?, Some(validation), &destination, device)?;
    let measure = Measure { data: &data, view, batch: evaluate.batch as usize, workers };
    let entry = &Given::find(out, |_| LAST)?.fit(entry);
    let (found, _) = classify::evaluate(entry, (out, LAST), &test, measure, out, device)?;
    Ok((record, found))
}

fn line(start: &'static str, found: &Evaluation, runs: &[&RunRecord]) -> Line {
    Line {
        start,
        top1: found.metrics.value(TOP1.name).unwrap_or(f64::NAN),
        top5: found.metrics.value(TOP5.name).unwrap_or(f64::NAN),
        seconds: runs.iter().map(|run| run.seconds).sum(),
        cpu_seconds: runs.iter().map(|run| run.cpu_seconds).sum(),
    }
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::new(&["start", "top-1", "top-5", "seconds"], &[1, 2, 3]);
    for Line { start, top1, top5, seconds, .. } in lines {
        table.row([
            (*start).to_owned(),
            format!("{:.2} %", 100.0 * top1),
            format!("{:.2} %", 100.0 * top5),
            format!("{seconds:.0}"),
        ]);
    }
    table.text()
}

fn open(path: &Path) -> Outcome<Arc<ShardSet>> {
    Ok(Arc::new(ShardSet::open(&[path.to_owned()])?))
}

/// A pattern that matches one path only, as TOML.
fn pattern(path: &Path) -> String {
    toml_string(&glob::Pattern::escape(&path.display().to_string()))
}

/// Packs all training images, a few with labels, and the test images.
fn pack_all(args: &Args) -> Outcome<Shards> {
    let (train, test) = sources(args)?;
    let folder = args.out.join("data");
    let pack = |source: &dyn Source, name: &str, per_class: Option<u64>| {
        let options = Options { name: name.to_owned(), per_class, seed: LABELS_SEED, ..Options::default() };
        let packed = pack::pack(source, &folder, &options, &mut |_, _| ControlFlow::Continue(()))?;
        let one = packed.written.shards.into_iter().next();
        one.ok_or_else(|| Failure::failed("nothing was packed"))
    };
    Ok(Shards {
        unlabelled: pack(&*train, "train", None)?,
        labelled: pack(&*train, "labelled", Some(LABELS_PER_CLASS))?,
        test: pack(&*test, "test", None)?,
    })
}

type Sources = (Box<dyn Source>, Box<dyn Source>);

fn sources(args: &Args) -> Outcome<Sources> {
    let folder = args.data.as_deref().unwrap_or(Path::new(INSTALLED));
    if args.data.is_none() && !folder.is_dir() {
        tell::say(
            "Fashion-MNIST is not installed (`apt-get install dataset-fashion-mnist`, or --data DIR); drawing shapes instead",
        );
        return Ok((Box::new(Drawn::new(0, 12_000)), Box::new(Drawn::new(1, 2_000))));
    }
    let idx = |part: &str| -> Outcome<Box<dyn Source>> {
        let source = IdxSource::open(
            &file(folder, &format!("{part}-images-idx3-ubyte"))?,
            &file(folder, &format!("{part}-labels-idx1-ubyte"))?,
        )?;
        // Other members of the family have other classes.
        Ok(if args.data.is_none() {
            Box::new(source.with_class_names(FASHION_MNIST_CLASSES))
        } else {
            Box::new(source)
        })
    };
    Ok((idx("train")?, idx("t10k")?))
}

/// The file `name` of `folder`, gzipped or not.
fn file(folder: &Path, name: &str) -> Outcome<PathBuf> {
    let candidates = [folder.join(format!("{name}.gz")), folder.join(name)];
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| Failure::failed(format!("{}: neither {name} nor {name}.gz is there", folder.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;

    #[test]
    fn a_program_without_micro_takes_what_fits() {
        let all = crate::models::builtin();
        let named = |names: &[&str]| -> Vec<Entry> {
            all.iter().filter(|entry| names.contains(&entry.plan.name)).cloned().collect()
        };
        let chosen = |entries: &[Entry], asked: Option<&str>| {
            let context = Context { name: "convnext", version: None, registry: Registry::new(entries)?, threads: None };
            variant(asked, &context).map(|entry| entry.plan.name)
        };
        assert_eq!(chosen(&all, None).unwrap(), "micro");
        // 64 pixels a side, and nine classes; 224 pixels a side.
        for (names, asked, why) in [
            (&["nano64", "atto"][..], None, "head of 10 classes"),
            (&["nano64"], Some("nano64"), "tells 9 classes"),
            (&["atto"], None, "28 to 64 pixels"),
        ] {
            let Err(Failure::Usage(what)) = chosen(&named(names), asked) else { panic!("{names:?}") };
            assert!(what.contains(why), "{what}");
        }
        assert_eq!(chosen(&named(&["atto"]), Some("atto")).unwrap(), "atto");
    }
}
