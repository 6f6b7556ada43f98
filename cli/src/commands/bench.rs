//! `convnext bench`: how fast one job runs here.

mod breakdown;
mod jobs;
mod model;

use std::{
    cell::RefCell,
    sync::{Arc, LazyLock},
};

use clap::{ValueEnum, builder::PossibleValue};
use convnext_core::{
    Entry,
    plan::Plan,
    profile,
    simd::{self, Level},
};
use convnext_data::ShardSet;
use convnext_pipeline::{
    device::Device,
    recipe::{Io, Precision},
    stream::Busy,
    tasks::{self, Task},
};
use serde::{Serialize, Serializer};

use crate::{Context, Failure, Outcome, device, host, numbers::bytes, output, shards};
use breakdown::Breakdown;

/// Measures images per second: of whole training steps, of inference, or of loading data.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext bench --job pretrain --model atto --batch 16 --threads 2
  convnext bench --job pretrain --model tiny --batch 128 --dtype bf16 --device cuda --model-of-cost
  convnext bench --job load --model atto --batch 64 --threads 2 --data 'data/train-*.tar' --json

A training step is the loss, its gradients, their norm and the update of AdamW (and of the average of the weights, in
fine-tuning), on random images. Rates are those of the median step. On a GPU the images of a training step come from the
host, as bytes, while the step before is computed; those of inference are there already.")]
pub struct Args {
    /// What to measure.
    #[arg(long, value_enum)]
    job: Job,
    /// The variant; `convnext models` lists them.
    #[arg(long)]
    model: String,
    /// Images of a step.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    batch: u32,
    #[command(flatten)]
    device: device::Args,
    /// How exactly to compute: f32, tf32 (f32 on a CPU) or bf16; as a recipe's model.precision.
    #[arg(long, default_value_t = Precision::F32)]
    dtype: Precision,
    /// The instruction set; `convnext doctor` lists those of this machine.
    #[arg(long)]
    level: Option<Level>,
    /// Steps that are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: u32,
    /// Steps before them that are not.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    warmup: u32,
    /// Shards to load, for `--job load`.
    #[arg(long, value_name = "GLOB", num_args = 1.., required_if_eq("job", "load"))]
    data: Vec<String>,
    /// How they are read: mmap, or pread for network disks.
    #[arg(long, value_name = "HOW", default_value_t)]
    io: Io,
    /// Also says how long each operation and each kernel took.
    #[arg(long)]
    breakdown: bool,
    /// Measures nothing: says what a step costs at least on a GPU, by a model of bytes, products and instructions. Needs
    /// no GPU.
    #[arg(long, conflicts_with_all = ["breakdown", "steps", "warmup", "level"])]
    model_of_cost: bool,
    /// Writes one line of JSON.
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Job {
    /// Steps of training.
    Train(&'static dyn Task),
    /// Logits.
    Infer,
    /// Reading, decoding and augmenting; no model.
    Load,
}

impl Job {
    /// As the command line calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Train(task) => task.name(),
            Self::Infer => "infer",
            Self::Load => "load",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Train(task) => task.benchmark(),
            Self::Infer => "Logits",
            Self::Load => "Reading, decoding and augmenting; no model",
        }
    }
}

impl ValueEnum for Job {
    fn value_variants<'a>() -> &'a [Self] {
        static JOBS: LazyLock<Vec<Job>> = LazyLock::new(|| {
            let train = tasks::ALL.iter().map(|task| Job::Train(*task));
            train.chain([Job::Infer, Job::Load]).collect()
        });
        &JOBS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.about()))
    }
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The arguments, resolved.
struct Bench<'a> {
    job: Job,
    entry: &'a Entry,
    device: Device,
    precision: Precision,
    batch: usize,
    warmup: usize,
    steps: usize,
    data: Option<Arc<ShardSet>>,
    /// What the loaders have done up to the last step.
    loading: RefCell<Busy>,
}

impl<'a> Bench<'a> {
    fn resolve(args: &Args, context: &Context<'a>) -> Outcome<Self> {
        let entry = context.registry.find(&args.model)?;
        let data = (!args.data.is_empty()).then(|| shards::open(&args.data, args.io)).transpose()?;
        let [batch, warmup, steps] = [args.batch, args.warmup, args.steps].map(|number| number as usize);
        check_memory(&entry.plan, batch)?;
        let device = if matches!(args.job, Job::Load) { Device::Cpu } else { args.device.resolve()? };
        Ok(Self {
            job: args.job,
            entry,
            device,
            precision: args.dtype,
            batch,
            warmup,
            steps,
            data,
            loading: RefCell::default(),
        })
    }
}

/// Refuses a batch whose images alone, with the copy that goes into the model, are more than there is memory.
fn check_memory(plan: &Plan, batch: usize) -> Outcome {
    let image = plan.height * plan.width * plan.channels * size_of::<f32>();
    let (needed, most) = (2 * image as u64 * batch as u64, host::Memory::now().most().unwrap_or(u64::MAX));
    match needed > most {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "--batch {batch}: its images take {}, and there are {} of memory; give fewer",
            bytes(needed),
            bytes(most)
        ))),
    }
}

#[derive(Serialize)]
struct Report {
    job: Job,
    model: &'static str,
    /// Images per second of the median step.
    img_s: f64,
    ms_median: f64,
    ms_min: f64,
    ms_max: f64,
    steps: usize,
    batch: usize,
    threads: usize,
    device: String,
    /// Its name, or the CPU's instruction set.
    #[serde(skip)]
    machine: String,
    dtype: &'static str,
    level: &'static str,
    peak_rss_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breakdown: Option<Breakdown>,
    /// Of loading: milliseconds of a core that an image takes in each stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stages: Vec<StageTime>,
}

#[derive(Serialize)]
struct StageTime {
    stage: &'static str,
    ms: f64,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    if args.model_of_cost {
        return model::run(args, context);
    }
    if let Some(level) = args.level {
        level.force().map_err(|error| Failure::because("--level", error))?;
    }
    let bench = Bench::resolve(args, context)?;
    let mut step = jobs::prepare(&bench)?;
    for _ in 0..bench.warmup {
        step()?;
    }
    if args.breakdown {
        profile::start();
    }
    let (mut times, mut rates) = (Vec::new(), Vec::new());
    let warm = bench.loading.borrow().clone();
    // Loaders and a GPU would work on meanwhile, and their next step look faster than it is.
    let alone = !matches!(bench.job, Job::Load) && matches!(bench.device, Device::Cpu);
    for number in 0..bench.steps {
        if args.breakdown && (alone || number == 0) {
            rates.push(simd::product_rate());
        }
        times.push(step()?);
    }
    times.sort_by(f64::total_cmp);
    rates.sort_by(f64::total_cmp);
    let breakdown = args.breakdown.then(|| Breakdown::of(bench.steps, median(&rates), &profile::stop()));
    let report = Report::of(&bench, &times, breakdown, &bench.loading.borrow().since(&warm));
    if args.json { output::json_line(&report) } else { output::text(&text(&report)) }
}

impl Report {
    /// From the times of the steps, in milliseconds, ascending.
    fn of(bench: &Bench<'_>, times: &[f64], breakdown: Option<Breakdown>, loading: &Busy) -> Self {
        let ms_median = median(times);
        let images = (bench.steps * bench.batch) as f64;
        let stages = loading.stages.iter().map(|&(stage, took)| StageTime { stage, ms: took * 1e3 / images });
        Self {
            job: bench.job,
            model: bench.entry.plan.name,
            img_s: bench.batch as f64 / ms_median * 1e3,
            ms_median,
            ms_min: times[0],
            ms_max: times[times.len() - 1],
            steps: times.len(),
            batch: bench.batch,
            threads: rayon::current_num_threads(),
            device: bench.device.to_string(),
            machine: bench.device.machine(),
            dtype: bench.precision.name(),
            level: Level::current().name(),
            peak_rss_mb: host::peak_rss_mb(),
            breakdown,
            stages: stages.collect(),
        }
    }
}

fn median(ascending: &[f64]) -> f64 {
    let middle = ascending.len() / 2;
    if ascending.len() % 2 == 1 { ascending[middle] } else { (ascending[middle - 1] + ascending[middle]) / 2.0 }
}

fn text(report: &Report) -> String {
    let job = report.job.name();
    let breakdown = report.breakdown.as_ref().map_or_else(String::new, Breakdown::text);
    let memory = report.peak_rss_mb.map_or_else(String::new, |mb| format!(", at most {mb:.0} MiB in use"));
    let stages = report.stages.iter().map(|StageTime { stage, ms }| format!("{stage} {ms:.2} ms"));
    let stages = match stages.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        stages => format!("a worker's time for an image: {stages}\n"),
    };
    format!(
        "{job} {}: {:.1} img/s; {:.1} ms a step (median of {}; {:.1} to {:.1}), batch {}, {} threads, {} on {}{memory}\n{stages}{breakdown}",
        report.model,
        report.img_s,
        report.ms_median,
        report.steps,
        report.ms_min,
        report.ms_max,
        report.batch,
        report.threads,
        report.dtype,
        report.machine,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!([median(&[3.0]), median(&[1.0, 2.0]), median(&[1.0, 2.0, 9.0])], [3.0, 1.5, 2.0]);
    }
}
