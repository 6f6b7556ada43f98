//! The sections that all tasks share, as they are written in TOML and as they are resolved. Nothing is checked here but names
//! and types.

use convnext_data::Normalise;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::{BELOW_ONE, MOST_EPOCHS, MOST_MEASURED, MOST_THREADS};

/// Which variant is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Name of the variant, e.g. `atto`.
    pub name: String,
    /// Classes that a classifier tells apart, where these are others than the variant declares: never absent in the recipe
    /// of a run that has others. Absent in a recipe that starts a run, the data decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = convnext_weights::convert::MOST_CLASSES))]
    pub classes: Option<usize>,
    /// How weights start that are not loaded.
    #[serde(default)]
    pub init: Init,
    /// How exactly is computed.
    #[serde(default)]
    pub precision: Precision,
}

/// How exactly is computed. Weights, the optimiser's state and sums are f32 in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", try_from = "String")]
#[schemars(!try_from)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// f32; a GPU rounds the operands of products to 10 bits of mantissa. A CPU does not.
    Tf32,
    /// bf16: what a CPU's products read, and all activations of a GPU. Faster where there is a matrix unit for it.
    Bf16,
}

impl Precision {
    /// As recipes and the command line call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A precision that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownPrecision {
    /// 16 bits with a range that is too small.
    #[error(
        "`{0}`: there is no fp16 here: the sum of squares that GRN takes over a large grid overflows it; bf16 is as small and \
         as fast, and has the range of f32"
    )]
    Narrow(String),
    /// Any other word.
    #[error("unknown variant `{0}`, expected one of `f32`, `tf32`, `bf16`")]
    Word(String),
}

impl std::str::FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        match name {
            "fp16" | "f16" | "float16" | "half" => Err(UnknownPrecision::Narrow(name.to_owned())),
            _ => [Self::F32, Self::Tf32, Self::Bf16]
                .into_iter()
                .find(|known| known.name() == name)
                .ok_or_else(|| UnknownPrecision::Word(name.to_owned())),
        }
    }
}

impl TryFrom<String> for Precision {
    type Error = UnknownPrecision;

    fn try_from(name: String) -> Result<Self, UnknownPrecision> {
        name.parse()
    }
}

/// How convolutions and linear layers start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Normal, standard deviation 0.02 everywhere: the paper's.
    #[default]
    Normal,
    /// Normal, standard deviation `1 / sqrt(inputs of the layer)`: for layers of less than some hundred channels.
    FanIn,
}

/// Which images are used, and what happens to bad ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// Shards to train on, as a glob or a list of them, or a folder of images. Not part of the recipe's hash: data may move.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<Patterns>,
    /// Shards to evaluate on, as a glob or a list of them, or a folder of class folders. Not part of the recipe's hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Patterns>,
    /// Mean of each channel, pixels running from 0 to 1; one value serves all channels. ImageNet's if absent with three
    /// channels, and 0.5 with any other number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(range(min = -1e6, max = 1e6)))]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each channel, as the mean; ImageNet's if absent with three channels, else 0.25.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(inner(range(min = 1e-6, max = 1e6)))]
    pub std: Option<Vec<f32>>,
    /// Most pixels of an image, before it is resized; 67 million if absent. Memory is limited with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_pixels: Option<u64>,
    /// What happens to a sample of the training set that cannot be read. In evaluation it is always an error.
    pub bad: BadSamples,
}

/// Files, as one glob or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "give a pattern of files, or a list of such patterns")]
pub enum Patterns {
    /// `"train-*.tar"`
    One(String),
    /// `["a/train-*.tar", "b/train-*.tar"]`
    Several(Vec<String>),
}

impl Patterns {
    /// All of them, in order.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(pattern) => std::slice::from_ref(pattern),
            Self::Several(patterns) => patterns,
        }
    }
}

/// What happens to samples that cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BadSamples {
    /// What to do.
    pub policy: BadPolicy,
    /// `substitute` gives up at more bad samples than this; one that is met again is not another.
    pub max_count: u64,
    /// `substitute` gives up when more than this share of the set is bad. Above 0, a small set may have three bad samples,
    /// if these are not more than a quarter of it.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub max_rate: f64,
}

impl Default for BadSamples {
    fn default() -> Self {
        Self { policy: BadPolicy::Substitute, max_count: 1000, max_rate: 0.01 }
    }
}

/// What to do with a sample that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BadPolicy {
    /// Stop.
    Fail,
    /// Take a replacement that depends on the seed alone, and list the sample in the quarantine file.
    Substitute,
}

/// Learning rates that shrink towards the input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerDecay {
    /// Factor from a layer to the one before it.
    #[schemars(range(min = 1e-3, max = 1.0))]
    pub rate: f64,
    /// How layers are numbered.
    pub mode: LayerDecayMode,
}

/// How layers are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LayerDecayMode {
    /// Each block is a layer.
    Single,
    /// Three consecutive blocks of a stage are a layer.
    Group,
}

/// The moving average of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// Decay an update.
    #[schemars(range(min = 0.0, max = BELOW_ONE))]
    pub decay: f64,
    /// Whether the decay rises from 0.1 to its value at first: for short runs.
    #[serde(default)]
    pub warmup: bool,
}

/// How a classifier is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluate {
    /// Images of one forward pass.
    #[schemars(range(min = 1, max = MOST_MEASURED))]
    pub batch: u64,
    /// Share of the shrunk image's side that the centre crop keeps; 1 warps the whole image to the input's size. The
    /// paper's is 0.875 below 384 pixels and 1 from there on. A model trained with `augment.pad` sees images as they are.
    #[schemars(range(min = 0.1, max = 1.0))]
    pub crop: f64,
    /// Which weights are evaluated.
    pub weights: EvaluatedWeights,
    /// While fine-tuning: every so many epochs, and after the last.
    #[schemars(range(min = 1, max = MOST_EPOCHS))]
    pub every_epochs: u64,
}

impl Default for Evaluate {
    fn default() -> Self {
        Self { batch: 64, crop: 0.875, weights: EvaluatedWeights::Best, every_epochs: 1 }
    }
}

/// Which weights are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EvaluatedWeights {
    /// Those that are trained.
    Raw,
    /// Their moving average.
    Ema,
    /// The moving average if there is one, else those that are trained.
    Best,
}

/// AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Decays of the two moments; [0.9, 0.95] in pre-training and [0.9, 0.999] in fine-tuning if absent.
    #[schemars(inner(range(min = 0.0, max = BELOW_ONE)))]
    pub betas: Option<[f64; 2]>,
    /// Added to the root of the second moment.
    #[schemars(range(min = 1e-30, max = 1.0))]
    pub eps: f64,
    /// Weight decay of convolutions and linear layers.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub weight_decay: f64,
    /// Largest norm of the gradient; not clipped if absent.
    #[schemars(range(min = 1e-9, max = 1e9))]
    pub clip: Option<f64>,
    /// What a loss or gradient that is not finite leads to.
    pub non_finite: NonFinitePolicy,
}

impl Default for Optimizer {
    fn default() -> Self {
        Self { betas: None, eps: 1e-8, weight_decay: 0.05, clip: None, non_finite: NonFinitePolicy::Stop }
    }
}

/// What a loss or gradient that is not finite leads to. It never reaches the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NonFinitePolicy {
    /// The run stops with an error.
    Stop,
    /// The step is left out, and counted.
    Skip,
    /// The run goes back to the newest checkpoint and leaves that stretch of data out.
    Rollback,
}

/// When a checkpoint is written and which ones stay. Not part of the recipe's hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// Every so many epochs, and after the last.
    #[schemars(range(min = 1, max = MOST_EPOCHS))]
    pub every_epochs: u64,
    /// Also every so many steps, for epochs that take hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_EPOCHS))]
    pub every_steps: Option<u64>,
    /// The newest so many stay.
    #[schemars(range(min = 1, max = MOST_EPOCHS))]
    pub keep_last: usize,
    /// The one with the best validation metric stays too; pre-training has none.
    pub keep_best: bool,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every_epochs: 1, every_steps: None, keep_last: 3, keep_best: true }
    }
}

/// When a run ends before its last epoch. Not part of the recipe's hash: a run may be resumed with more patience.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Measurements in a row without a better value of the first metric, after which the run ends.
    #[schemars(range(min = 1, max = MOST_EPOCHS))]
    pub patience: u64,
    /// How much better a value has to be to count; of a share, 0.001 is 0.1 %.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub min_delta: f64,
}

/// What changes the speed of a run and none of its numbers. Not part of the recipe's hash.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Machine {
    /// Threads that compute; 0 for one a core.
    #[schemars(range(min = 0, max = MOST_THREADS))]
    pub threads: usize,
    /// Threads that decode and augment; 0 for as many as the pipeline thinks right.
    #[schemars(range(min = 0, max = MOST_THREADS))]
    pub workers: usize,
    /// How the bytes of shards are reached.
    pub io: Io,
}

/// How the bytes of shards are reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Io {
    /// Mapped into memory; read where that is impossible.
    #[default]
    Mmap,
    /// Read with ordinary reads: for network disks whose server may go away.
    Pread,
}

impl std::fmt::Display for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mmap => "mmap",
            Self::Pread => "pread",
        })
    }
}

impl std::str::FromStr for Io {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "mmap" => Ok(Self::Mmap),
            "pread" => Ok(Self::Pread),
            _ => Err("expected mmap or pread".to_owned()),
        }
    }
}

/// `[optimizer]`, resolved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResolvedOptimizer {
    /// Decays of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay of convolutions and linear layers.
    pub weight_decay: f64,
    /// Largest norm of the gradient; not clipped if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// What a loss or gradient that is not finite leads to.
    pub non_finite: NonFinitePolicy,
}

impl Data {
    /// Mean and standard deviation of each of `channels` channels, pixels running from 0 to 1.
    ///
    /// One value given serves all channels. Absent, three channels take ImageNet's and any other number 0.5 and 0.25.
    ///
    /// # Errors
    /// A message when another number of values is given than there are channels.
    pub fn normalisation(&self, channels: usize) -> Result<(Vec<f32>, Vec<f32>), String> {
        let (mean, std): (&[f32], &[f32]) = match channels {
            3 => (&Normalise::IMAGENET_MEAN, &Normalise::IMAGENET_DEVIATION),
            _ => (&[0.5], &[0.25]),
        };
        let mean = spread("data.mean", self.mean.as_deref().unwrap_or(mean), channels)?;
        let std = spread("data.std", self.std.as_deref().unwrap_or(std), channels)?;
        Ok((mean, std))
    }
}

fn spread(key: &str, values: &[f32], channels: usize) -> Result<Vec<f32>, String> {
    match values {
        [one] => Ok(vec![*one; channels]),
        _ if values.len() == channels => Ok(values.to_vec()),
        _ => Err(format!("{key}: {} values for {channels} channels; give one, or one each", values.len())),
    }
}
