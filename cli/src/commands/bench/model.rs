//! What a job costs at least on a GPU, by the model: no GPU is needed.

use convnext_core::{
    Entry,
    launch::{
        operation::BatchShape,
        schedule::{Schedule, Step},
    },
    plan::Plan,
};
use convnext_cuda::{
    cost::{self, Cost, H200, Rates},
    training::{Options, inference},
};
use convnext_pipeline::{
    recipe::Precision,
    trainer::{self, ModelError},
};
use serde::Serialize;

use super::{Args, Job, jobs::recipe};
use crate::{Context, Failure, Outcome, output, table::Table};

#[derive(Serialize)]
struct Report {
    machine: &'static str,
    job: Job,
    model: &'static str,
    batch: usize,
    dtype: &'static str,
    /// By kernel, the longest first.
    kernels: Vec<Kernel>,
    /// Products by their sizes, the longest first.
    products: Vec<Product>,
    ms: f64,
    img_s: f64,
}

#[derive(Serialize)]
struct Kernel {
    kernel: &'static str,
    #[serde(flatten)]
    line: Line,
}

#[derive(Serialize)]
struct Product {
    rows: usize,
    inner: usize,
    columns: usize,
    #[serde(flatten)]
    line: Line,
}

#[derive(Serialize)]
struct Line {
    launches: usize,
    bytes: u64,
    multiply_adds: u64,
    instructions: u64,
    bound: &'static str,
    ms: f64,
}

impl From<Cost> for Line {
    fn from(cost: Cost) -> Self {
        let cost::Work { bytes, multiply_adds, instructions } = cost.work;
        let (bound, ms) = (cost.bound().name(), 1e3 * cost.seconds());
        Self { launches: cost.steps, bytes, multiply_adds, instructions, bound, ms }
    }
}

/// Prints the model's table.
pub(super) fn run(args: &Args, context: &Context<'_>) -> Outcome {
    if args.device.is_cpu() || matches!(args.job, Job::Load) {
        return Err(Failure::usage("--model-of-cost is that of a GPU's job; give --device cuda, and another --job"));
    }
    let entry = context.registry.find(&args.model)?;
    let schedule = schedule(args, entry)?;
    let rates = if args.dtype == Precision::Tf32 { H200.rounding() } else { H200 };
    let report = Report::of(args, &entry.plan, &schedule, &rates);
    if args.json { output::json_line(&report) } else { output::text(&report.text()) }
}

/// What the job does for one step of training, or one batch of images.
fn schedule(args: &Args, entry: &Entry) -> Outcome<Schedule> {
    let (plan, samples, real) = (&entry.plan, args.batch as usize, trainer::element(args.dtype));
    let because = |error: ModelError| Failure::because(format!("--batch {samples}"), error);
    let Job::Train(task) = args.job else {
        let inference = inference(plan, BatchShape { samples, real }).map_err(|error| because(error.into()))?;
        return Ok(inference.schedule);
    };
    let run = recipe(entry, task, samples, args.dtype)?.run(samples as u64, 1)?;
    let (ema, drop_path) = (run.ema.is_some(), plan.drop_path > 0.0);
    let options = Options { samples, real, max_norm: 0.0, ema, drop_path, bytes: true };
    task.schedule(plan, &options, 1).map(|step| step.schedule).map_err(because)
}

impl Report {
    fn of(args: &Args, plan: &Plan, schedule: &Schedule, rates: &Rates) -> Self {
        let seconds = cost::whole(schedule, rates).seconds();
        let kernels = longest_first(schedule, rates, |step| Some(cost::name(step)));
        let products = longest_first(schedule, rates, cost::sizes);
        let product =
            |([rows, inner, columns], cost): ([usize; 3], Cost)| Product { rows, inner, columns, line: cost.into() };
        Self {
            machine: rates.name,
            job: args.job,
            model: plan.name,
            batch: args.batch as usize,
            dtype: args.dtype.name(),
            kernels: kernels.into_iter().map(|(kernel, cost)| Kernel { kernel, line: cost.into() }).collect(),
            products: products.into_iter().map(product).collect(),
            ms: 1e3 * seconds,
            img_s: f64::from(args.batch) / seconds,
        }
    }

    fn text(&self) -> String {
        let headings = |first| [first, "launches", "MB", "bound by", "ms"];
        let mut kernels = Table::new(&headings("kernel"), &[1, 2, 4]);
        self.kernels.iter().for_each(|Kernel { kernel, line }| kernels.row(line.cells(kernel)));
        let mut products = Table::new(&headings("product: rows x length of sums x columns"), &[1, 2, 4]);
        for Product { rows, inner, columns, line } in &self.products {
            products.row(line.cells(&format!("{rows} x {inner} x {columns}")));
        }
        let launches = self.kernels.iter().map(|kernel| kernel.line.launches).sum::<usize>();
        let bytes = self.kernels.iter().map(|kernel| kernel.line.bytes).sum::<u64>();
        kernels.row(["the whole", &launches.to_string(), &megabytes(bytes), "", &milliseconds(self.ms)]);
        let Self { machine, job, model, batch, dtype, ms, img_s, .. } = self;
        format!(
            "{} {model}, batch {batch}, {dtype}: by the model at least {ms:.2} ms a step on an {machine}, at most {img_s:.0} img/s\n\n{}\n{}",
            job.name(),
            products.text(),
            kernels.text()
        )
    }
}

fn longest_first<K: Ord>(schedule: &Schedule, rates: &Rates, key: impl Fn(&Step) -> Option<K>) -> Vec<(K, Cost)> {
    let mut costs: Vec<_> = cost::by(schedule, rates, key).into_iter().collect();
    costs.sort_by(|(_, a), (_, b)| b.seconds().total_cmp(&a.seconds()));
    costs
}

impl Line {
    fn cells(&self, what: &str) -> [String; 5] {
        let Self { launches, bytes, bound, ms, .. } = self;
        [what.to_owned(), launches.to_string(), megabytes(*bytes), (*bound).to_owned(), milliseconds(*ms)]
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn milliseconds(ms: f64) -> String {
    format!("{ms:.3}")
}
