//! How long whole steps take, and the memory they need.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use convnext_core::{
    launch::{
        geometry::TableValues,
        kernel::Module,
        operation::BatchShape,
        schedule::{Schedule, Step},
    },
    plan::{Flavour, Plan},
};
use convnext_cuda::{
    WORKSPACE,
    cache::Cache,
    compile::Compiler,
    cost::{self, Cost, H200, Work},
    executor::Executor,
    memory,
    training::{self, Inference, Options, TrainingStep},
};
use convnext_data::{Purpose, Random};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Dtype, Job, On, Outcome,
    data::{self, patches, random_masks},
    find,
    side::{OnCpu, Side, Start, executor, write, write_noise, write_tables},
};

/// Small enough that nothing diverges on noise.
const LEARNING_RATE: f32 = 1e-5;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    on: On,
    job: Job,
    model: String,
    /// Whether the variant gets the blocks of the first ConvNeXt.
    #[serde(default)]
    v1: bool,
    /// Whether products get the fastest of several algorithms, where the library's first guess is taken otherwise.
    #[serde(default)]
    timed_products: bool,
    dtype: Dtype,
    batch: usize,
    warmup: usize,
    steps: usize,
}

pub(crate) fn run(order: &Order) -> Outcome<Value> {
    match order.on {
        On::Cpu => on_cpu(order),
        On::Cuda => on_device(order),
    }
}

/// A rehearsal of what runs on the device.
fn on_cpu(order: &Order) -> Outcome<Value> {
    let entry = find(&order.model)?;
    let job = if order.job == Job::Infer { Job::Finetune } else { order.job };
    let batches = data::batches(&entry.plan, job, order.batch)?;
    let mut side = OnCpu::new(&entry, job, order.dtype, Start::Noise)?;
    let mut update = 0;
    let times = measure(order, || {
        update += 1;
        side.step(&batches[0], update).map(drop)
    })?;
    Ok(json!({ "ms": times, "peak_mb": 0.0 }))
}

fn plan(order: &Order) -> Outcome<Plan> {
    let mut plan = find(&order.model)?.plan;
    if order.v1 {
        plan.flavour = Flavour::V1;
    }
    Ok(plan)
}

fn training(plan: &Plan, order: &Order) -> Outcome<TrainingStep> {
    let (samples, real) = (order.batch, order.dtype.into());
    let pretrain = order.job == Job::Pretrain;
    let options = Options { samples, real, max_norm: 0.0, ema: !pretrain, drop_path: true, bytes: false };
    Ok(if pretrain { training::autoencoder(plan, &options)? } else { training::classifier(plan, &options)? })
}

fn inference(plan: &Plan, order: &Order) -> Outcome<Inference> {
    Ok(training::inference(plan, BatchShape { samples: order.batch, real: order.dtype.into() })?)
}

/// An executor with its products' algorithms chosen.
fn chosen(order: &Order, schedule: &Schedule) -> Outcome<Executor> {
    let mut executor = executor(schedule)?;
    if order.timed_products {
        executor.time_products(Cache::of_user().as_ref())?;
    }
    Ok(executor)
}

/// The order's schedule on a device, with something in every buffer.
fn prepare(order: &Order) -> Outcome<(Schedule, Executor)> {
    let plan = plan(order)?;
    if order.job != Job::Infer {
        let step = training(&plan, order)?;
        let mut executor = chosen(order, &step.schedule)?;
        fill(&mut executor, &step, &plan, order.batch)?;
        return Ok((step.schedule, executor));
    }
    let inference = inference(&plan, order)?;
    let mut executor = chosen(order, &inference.schedule)?;
    for view in [Some(inference.parameters), inference.mirror].iter().flatten() {
        write_noise(&mut executor, view, 0.02)?;
    }
    write_noise(&mut executor, &inference.images, 1.0)?;
    Ok((inference.schedule, executor))
}

/// Compiles what an order needs into the user's cache, for an architecture: needs NVRTC and no device.
pub(crate) fn compile(order: &Order, architecture: &str) -> Outcome<Value> {
    let plan = plan(order)?;
    let infer = order.job == Job::Infer;
    let schedule = if infer { inference(&plan, order)?.schedule } else { training(&plan, order)?.schedule };
    let launched = schedule.steps().iter().filter_map(|step| match step {
        Step::Launch(launch) => Some(&launch.module),
        Step::Product(_) | Step::Zero(_) => None,
    });
    let modules: Vec<&Module> = launched.collect::<HashSet<_>>().into_iter().collect();
    let (compiler, cache) = (Compiler::load()?, Cache::of_user().ok_or("there is no HOME to keep a cache in")?);
    let next = AtomicUsize::new(0);
    let compile = || {
        let taken = || modules.get(next.fetch_add(1, Ordering::Relaxed));
        std::iter::from_fn(taken).try_for_each(|module| cache.get(compiler, module, architecture).map(drop))
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(compile)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic in a compiler's thread"))
    })?;
    let (major, minor) = compiler.version();
    Ok(json!({ "modules": modules.len(), "nvrtc": format!("{major}.{minor}") }))
}

fn on_device(order: &Order) -> Outcome<Value> {
    let (schedule, mut executor) = prepare(order)?;
    // The first run loads what is loaded when it is first used, which a capture does not allow.
    executor.run()?;
    executor.finish()?;
    executor.capture()?;
    let times = measure(order, || {
        executor.run()?;
        Ok(executor.finish()?)
    })?;
    let bytes = memory::place(&schedule).bytes() + WORKSPACE;
    Ok(json!({ "ms": times, "peak_mb": bytes as f64 / f64::from(1 << 20) }))
}

/// Where the time of a step goes: kernels, and products by their sizes, in the order of their names; of each how long
/// its launches take together, and how long the model of cost says that they take at least.
pub(crate) fn profile(order: &Order) -> Outcome<Value> {
    let (schedule, mut executor) = prepare(order)?;
    executor.run()?;
    let times = executor.profile(order.steps)?;
    let [mut kernels, mut products] = [0; 2].map(|_| BTreeMap::<String, (Cost, f64)>::new());
    for (step, time) in Executor::steps(&schedule).zip(times) {
        let sizes = cost::sizes(step).map(|[rows, inner, columns]| format!("{rows} x {inner} x {columns}"));
        let lines = [Some(kernels.entry(cost::name(step).into())), sizes.map(|sizes| products.entry(sizes))];
        for line in lines.into_iter().flatten() {
            let (cost, ms) = line.or_default();
            *cost += Cost::of(step, &H200);
            *ms += f64::from(time);
        }
    }
    Ok(json!({ "model": H200.name, "kernels": lines(kernels), "products": lines(products) }))
}

fn lines(costs: BTreeMap<String, (Cost, f64)>) -> Vec<Value> {
    let line = |(kernel, (cost, ms)): (String, (Cost, f64))| {
        let Work { bytes, multiply_adds, .. } = cost.work;
        let (bound, model_ms) = (cost.bound().name(), 1e3 * cost.seconds());
        json!({ "kernel": kernel, "count": cost.steps, "ms": ms, "bytes": bytes, "multiply_adds": multiply_adds, "bound": bound, "model_ms": model_ms })
    };
    costs.into_iter().map(line).collect()
}

/// Milliseconds of every step after the warm-up.
fn measure(order: &Order, mut step: impl FnMut() -> Outcome<()>) -> Outcome<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..order.warmup + order.steps {
        let start = Instant::now();
        step()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times.split_off(order.warmup))
}

fn fill(executor: &mut Executor, step: &TrainingStep, plan: &Plan, samples: usize) -> Outcome<()> {
    let state = step.state;
    for view in [Some(state.parameters), state.mirror, state.average].into_iter().flatten() {
        write_noise(executor, &view, 0.02)?;
    }
    for view in [state.m, state.v] {
        executor.write(&view, &vec![0; view.length * view.element.bytes()])?;
    }
    executor.write(&state.ends, &step.layout.ends().into_iter().flat_map(i32::to_le_bytes).collect::<Vec<u8>>())?;
    // What AdamW does long after its first update.
    let coefficients = [1.0, 0.1, 0.999, 0.001, LEARNING_RATE, 1.0, 1e-8];
    let repeated: Vec<f32> = coefficients.into_iter().cycle().take(state.coefficients.length).collect();
    write(executor, &state.coefficients, &repeated)?;
    write(executor, &state.ema_rate, &[1e-4])?;
    write_noise(executor, &step.images, 1.0)?;
    for view in step.drop_paths.iter().flatten() {
        write(executor, view, &vec![1.0; view.length])?;
    }
    if let Some(targets) = &step.targets {
        write(executor, targets, &vec![1.0 / plan.classes as f32; targets.length])?;
    }
    if let Some(tables) = &step.tables {
        let masks = random_masks(patches(plan)?, samples, &mut Random::new(6, 0, 0, Purpose::Mask))?;
        write_tables(executor, tables, &TableValues::from(&masks))?;
    }
    Ok(())
}
