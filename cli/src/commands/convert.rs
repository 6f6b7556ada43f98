//! `convnext import` and `convnext export`: weights from and to other layouts.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use convnext_core::{
    dfdx::tensor::Cpu,
    nn::{Entry, Flat},
    optim::Layout,
    plan::Plan,
};
use convnext_pipeline::{
    given::{Given as GivenWeights, Known},
    input,
    tasks::warn_of,
    tell,
};
use convnext_weights::{
    checkpoint::{self, Usage, Which, WhichValues},
    convert::{self, AdaptChannels, Dialect, LoadOptions, LoadedWeights, ParseDialectError, Take},
    onnx,
};
use serde::Serialize;

use crate::{Context, Failure, Outcome, numbers::short, output, preprocessing, which};

/// Brings weights of any known layout into this program's.
///
/// The layout is seen from the names: ours, the official code's (dense, or the sparse one of its pre-training files),
/// timm's, transformers', mmpretrain's, whatever wrappers put before them. Files are `.safetensors`, PyTorch's `.pt`, the
/// index of several, a folder of transformers, a checkpoint or a run.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext import --model atto --weights convnextv2_atto_1k_224_ema.pt --output atto.safetensors
  convnext import --model mine --weights timm.safetensors --output mine.safetensors --reset-head")]
pub struct ImportArgs {
    #[command(flatten)]
    given: Given,
    /// Names and axes to write: `ours`, `official`, `sparse`, `timm`, `hf` or `mmpretrain`.
    #[arg(long, value_name = "LAYOUT", default_value_t = Dialect::Ours)]
    layout: Dialect,
}

/// Writes weights in a layout that other programs load.
///
/// From a pre-training run, `--encoder` takes the encoder alone, which is what timm and transformers have names for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext export --model atto --weights runs/finetune --layout timm --output atto-timm/
  convnext export --model atto --weights runs/finetune --layout hf --output atto-hf/
  convnext export --model atto --weights runs/pretrain --encoder --layout hf --output encoder.safetensors
  convnext export --model atto --weights runs/finetune --layout onnx --output atto.onnx")]
pub struct ExportArgs {
    #[command(flatten)]
    given: Given,
    /// `official`, `sparse`, `timm`, `hf`, `mmpretrain` or `ours`; or `onnx`, the classifier as a program for runtimes.
    #[arg(long, value_name = "LAYOUT")]
    layout: Target,
}

/// What an export writes.
#[derive(Debug, Clone, Copy)]
enum Target {
    Weights(Dialect),
    Onnx,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "onnx" => Ok(Self::Onnx),
            name => name.parse().map(Self::Weights).map_err(|error: ParseDialectError| format!("{error}, onnx")),
        }
    }
}

/// The arguments of both.
#[derive(Debug, clap::Args)]
struct Given {
    /// The variant; without it, the one that the weights or their run say they are of.
    #[arg(long)]
    model: Option<String>,
    /// The weights: a file in any known layout, a checkpoint, or a run (RUN@best, RUN@last, RUN@step-800).
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    #[command(flatten)]
    which: which::Args,
    /// Which weights of a file that holds several: the key of a dict in a `.pt` file, or what stands before the names.
    #[arg(long, value_name = "KEY")]
    weights_key: Option<String>,
    /// Fits weights to another number of input channels: `sum` to one, `repeat` to several, as timm does.
    #[arg(long, value_name = "sum|repeat")]
    adapt_channels: Option<AdaptChannels>,
    /// The file to write; of the timm and hf layouts also a folder (FOLDER/), with the configuration that these programs read.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Takes the encoder alone, whatever else is in the file.
    #[arg(long, conflicts_with = "reset_head")]
    encoder: bool,
    /// Takes a classifier with other classes, and gives it a new last layer.
    #[arg(long)]
    reset_head: bool,
    /// Chooses the new last layer's weights.
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "reset_head")]
    seed: u64,
    /// Writes what was done as JSON.
    #[arg(long)]
    json: bool,
}

impl Given {
    fn which(&self) -> Which {
        self.which.values_or(WhichValues::default()).into()
    }

    fn options(&self) -> LoadOptions<'_> {
        LoadOptions { which: self.which(), adapt: self.adapt_channels, key: self.weights_key.as_deref() }
    }
}

/// Runs `convnext import`.
pub fn import(args: &ImportArgs, context: &Context<'_>) -> Outcome {
    convert(&args.given, Target::Weights(args.layout), context)
}

/// Runs `convnext export`.
pub fn export(args: &ExportArgs, context: &Context<'_>) -> Outcome {
    convert(&args.given, args.layout, context)
}

#[derive(Serialize)]
struct Done {
    /// The file that was read.
    from: PathBuf,
    /// What that is of the run or checkpoint.
    taken: String,
    /// What stood before every name and was taken off.
    prefix: String,
    /// The layout it is in.
    from_layout: &'static str,
    /// `classifier`, `autoencoder` or `encoder`.
    part: &'static str,
    tensors: usize,
    parameters: usize,
    to: PathBuf,
    to_layout: &'static str,
    /// How the weights are to be used, if that is known.
    usage: Option<Usage>,
}

fn convert(given: &Given, target: Target, context: &Context<'_>) -> Outcome {
    let entry = &fit(given, variant(given, context)?);
    let output = Output::of(given, target)?;
    if let Target::Weights(dialect) = target {
        convert::check_holds(dialect, &entry.plan)?;
    }
    let Weights { part, layout, values, loaded } = read(given, entry)?;
    tell_of(&loaded);
    tell_of_classes(entry, part);
    let usage = usage(given, entry, part, &loaded)?;
    let to_layout = match target {
        Target::Weights(dialect) => {
            convert::save(&output.file, &layout, &values, dialect, usage.as_ref())?;
            dialect.name()
        }
        Target::Onnx if part != "classifier" => {
            return Err(Failure::failed(format!(
                "{}: holds the {part}; ONNX is written of classifiers: fine-tune it first",
                loaded.path.display()
            )));
        }
        Target::Onnx => {
            onnx::export(&output.file, &entry.plan, &layout, &values, usage.as_ref())?;
            "onnx"
        }
    };
    if let Some(folder) = &output.folder {
        write_configuration(folder, target, &entry.plan, part, usage.as_ref())?;
    }
    let done = Done {
        from: loaded.path,
        taken: loaded.taken.to_string(),
        prefix: loaded.prefix,
        from_layout: loaded.dialect.name(),
        part,
        tensors: layout.segments().len(),
        parameters: layout.len(),
        to: output.file,
        to_layout,
        usage,
    };
    if given.json { output::json(&done) } else { output::text(&done.text()) }
}

/// The variant with as many classes as the weights have, unless it is to have a new head.
fn fit(given: &Given, entry: &Entry) -> Entry {
    let classes = (!given.reset_head).then(|| convert::classes_of(&given.weights, &entry.plan, given.options()));
    classes.flatten().map_or(*entry, |classes| entry.with_classes(classes))
}

fn variant<'a>(given: &Given, context: &Context<'a>) -> Outcome<&'a Entry> {
    match &given.model {
        Some(model) => context.registry.find(model),
        None => {
            let weights = GivenWeights::find(&given.weights, |_| given.which())?;
            preprocessing::variant(None, &weights, context)
        }
    }
}

/// Says that a classifier has other classes than its variant declares.
fn tell_of_classes(entry: &Entry, part: &str) {
    let (declared, found) = (entry.declared_classes(), entry.plan.classes);
    if part == "classifier" && found != declared {
        tell::say(format_args!(
            "the weights tell {found} classes apart, and `{}` declares {declared}: that number is kept; --reset-head makes a \
             new last layer of the declared one",
            entry.plan.name
        ));
    }
}

/// Where an export goes.
struct Output {
    file: PathBuf,
    /// The folder that the configuration for timm or transformers goes to.
    folder: Option<PathBuf>,
}

impl Output {
    /// Looks at everything that can be wrong before anything is read.
    fn of(given: &Given, target: Target) -> Outcome<Self> {
        let output = &given.output;
        let is_configured = matches!(target, Target::Weights(Dialect::HuggingFace | Dialect::Timm));
        if is_configured && (output.is_dir() || ends_in_slash(output)) {
            fs::create_dir_all(output)
                .map_err(|error| Failure::because(format!("cannot make {}", output.display()), error))?;
            let file = output.join(WEIGHTS);
            check_kind(&file, target)?;
            return Ok(Self { file, folder: Some(output.clone()) });
        }
        check_name(output, target)?;
        check_kind(output, target)?;
        let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(Failure::usage(format!("{}: there is no such folder; make it first", folder.display())));
        }
        let whole = is_configured && output.file_name().is_some_and(|name| name == WEIGHTS);
        Ok(Self { file: output.clone(), folder: whole.then(|| folder.to_owned()) })
    }
}

/// The file of weights that timm and transformers look for in a folder.
const WEIGHTS: &str = "model.safetensors";

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with('/')
}

/// Other programs go by the name of a file.
fn check_name(output: &Path, target: Target) -> Outcome {
    let (kind, ending) = match target {
        Target::Weights(_) => ("safetensors", "safetensors"),
        Target::Onnx => ("an ONNX model", "onnx"),
    };
    match output.extension() {
        Some(extension) if extension != ending => Err(Failure::usage(format!(
            "{}: this writes {kind}, which no program looks for under that name; give {}",
            output.display(),
            output.with_extension(ending).display()
        ))),
        _ => Ok(()),
    }
}

/// A file is replaced only by one of its own kind.
fn check_kind(output: &Path, target: Target) -> Outcome {
    let Ok(found) = fs::symlink_metadata(output) else { return Ok(()) };
    let is_weights = || checkpoint::read_header(output, Which::default()).is_ok();
    let same = match target {
        _ if !found.is_file() => false,
        Target::Weights(_) => found.len() == 0 || is_weights(),
        Target::Onnx => !is_weights(),
    };
    if same {
        return Ok(());
    }
    let what = "exists already, and is not a file of the same kind; remove it or give another name";
    Err(Failure::usage(format!("{}: {what}", output.display())))
}

/// Says what was changed or left out on the way.
fn tell_of(loaded: &LoadedWeights) {
    warn_of(&loaded.skipped);
    if let Some(prefix) = loaded.prefix.strip_suffix('.') {
        tell::say(format_args!("`{prefix}.` is taken off the names"));
    }
    if let [first, others @ ..] = &loaded.outside[..] {
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        tell::warn(format_args!("passed over, since it is not part of the model: `{first}`{more}"));
    }
    if let Some(channels) = loaded.adapted {
        tell::say(format_args!("the first convolution is adapted from {channels} channels"));
    }
}

/// How the model is to be used: what its file says, or the run that it is of.
fn usage(given: &Given, entry: &Entry, part: &str, loaded: &LoadedWeights) -> Outcome<Option<Usage>> {
    let of_run = || -> Outcome<Option<Usage>> {
        let preprocessing = GivenWeights::find(&given.weights, |_| given.which())?.preprocessing(&entry.plan, true)?;
        let usage = || input::usage(&entry.plan, &preprocessing.data, preprocessing.view, &preprocessing.classes);
        Ok((preprocessing.known != Known::Nothing).then(usage).transpose()?)
    };
    let Some(mut usage) = loaded.usage.clone().map_or_else(of_run, |usage| Ok(Some(usage)))? else { return Ok(None) };
    usage.model = entry.plan.name.to_owned();
    if given.reset_head || part != "classifier" {
        usage.classes.clear();
    }
    if loaded.adapted.is_some() {
        usage.mean = adapted(&usage.mean, entry.plan.channels);
        usage.std = adapted(&usage.std, entry.plan.channels);
        usage.channels = entry.plan.channels;
    }
    Ok(Some(usage))
}

/// Numbers of channels as their kernels: one for all, or in order again.
fn adapted(of_channels: &[f32], channels: usize) -> Vec<f32> {
    match channels {
        1 => vec![of_channels.iter().sum::<f32>() / of_channels.len().max(1) as f32],
        _ => of_channels.iter().copied().cycle().take(channels).collect(),
    }
}

/// Writes what timm or transformers read beside the weights, and says what they cannot be told.
fn write_configuration(folder: &Path, target: Target, plan: &Plan, part: &str, usage: Option<&Usage>) -> Outcome {
    let is_classifier = part == "classifier";
    let config = folder.join("config.json");
    let untold = match target {
        Target::Weights(Dialect::Timm) if !is_classifier => {
            tell::warn(
                "timm builds classifiers from a folder, and this is the encoder alone: config.json is not written",
            );
            return Ok(());
        }
        Target::Weights(Dialect::Timm) => {
            let (configuration, untold) = convert::timm_config(plan, usage);
            write_json(&config, &configuration)?;
            untold
        }
        _ => {
            let classes = usage.map_or(&[][..], |usage| &usage.classes);
            write_json(&config, &convert::transformers_config(plan, is_classifier, classes))?;
            let Some((processor, untold)) = usage.map(convert::transformers_processor) else {
                tell::warn("nothing is known about the images, so preprocessor_config.json is not written");
                return Ok(());
            };
            write_json(&folder.join("preprocessor_config.json"), &processor)?;
            untold
        }
    };
    if let Some(untold) = untold {
        tell::warn(untold);
    }
    Ok(())
}

fn write_json(path: &Path, value: &serde_json::Value) -> Outcome {
    let text = format!("{value:#}\n");
    fs::write(path, text).map_err(|error| Failure::because(format!("cannot write {}", path.display()), error))
}

impl Done {
    fn text(&self) -> String {
        let Self { from, taken, from_layout, part, tensors, parameters, to, to_layout, .. } = self;
        format!(
            "{} ({taken}; {from_layout}) -> {} ({to_layout}): the {part}, {tensors} tensors, {} parameters\n",
            from.display(),
            to.display(),
            short(*parameters as u64),
        )
    }
}

/// Weights of a part of a variant.
struct Weights {
    part: &'static str,
    layout: Layout,
    values: Vec<f32>,
    loaded: LoadedWeights,
}

fn read(given: &Given, entry: &Entry) -> Outcome<Weights> {
    let (classifier, fresh) = fresh(&*entry.classifier(&Cpu::seed_from_u64(given.seed))?);
    if given.reset_head {
        let take = Take::AllButClasses;
        return taken("classifier", classifier, fresh, given, take);
    }
    let encoder = convert::encoder_of(&classifier);
    if given.encoder {
        let values = vec![0.0; encoder.len()];
        return taken("encoder", encoder, values, given, Take::Encoder);
    }
    let mut kinds = vec![("classifier", classifier), ("encoder", encoder)];
    if let Some(model) = entry.autoencoder(&Cpu::default())? {
        kinds.push(("autoencoder", model.layout()));
    }
    let layouts: Vec<&Layout> = kinds.iter().map(|(_, layout)| layout).collect();
    let (index, mut loaded) = convert::load_fitting(&given.weights, &layouts, given.options())?;
    let (part, layout) = kinds.swap_remove(index);
    let values = std::mem::take(&mut loaded.values);
    Ok(Weights { part, layout, values, loaded })
}

fn taken(part: &'static str, layout: Layout, mut values: Vec<f32>, given: &Given, take: Take) -> Outcome<Weights> {
    let loaded = convert::load_into(&given.weights, &layout, &mut values, given.options(), take)?;
    Ok(Weights { part, layout, values, loaded })
}

/// A fresh model's layout and weights.
fn fresh(model: &(impl Flat + ?Sized)) -> (Layout, Vec<f32>) {
    let layout = model.layout();
    let mut values = vec![0.0; layout.len()];
    model.read(&mut values);
    (layout, values)
}
