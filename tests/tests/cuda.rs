//! CUDA for the variants that come with the program, without a device: every step's memory is checked by walking through
//! it, and every kernel is compiled for every architecture by the compiler that a device's machine has.

use std::{
    collections::{BTreeMap, HashSet},
    env,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use convnext::models::builtin;
use convnext_core::{
    cuda::{
        compile::{Cache, Compiler},
        detect::usable,
        executor::Executor,
        kernel::Module,
        memory,
        network::Sizes,
        schedule::{Element, Lifetime, Schedule, Step, View},
        training::{Options, autoencoder, classifier, inference},
    },
    plan::Plan,
};

fn options(samples: usize, real: Element) -> Options {
    Options { samples, real, max_norm: 1.0, ema: true, drop_path: true, bytes: true }
}

/// What a variant can be asked for: name and schedule.
fn schedules(plan: &Plan, samples: usize, real: Element) -> Vec<(&'static str, Schedule)> {
    let mut list = vec![
        ("finetune", classifier(plan, &options(samples, real)).unwrap().schedule),
        ("infer", inference(plan, Sizes { samples, real }).unwrap().schedule),
    ];
    if let Some(fcmae) = &plan.fcmae {
        list.push(("pretrain", autoencoder(plan, fcmae, &options(samples, real)).unwrap().schedule));
    }
    list
}

/// No read before a write, no overlap of what is needed together, and no more memory than the fullest moment needs, but
/// for an eighth (training steps meet it; inference, whose blocks overlap by one buffer, does not).
#[test]
fn every_step_fits_its_memory() {
    println!("{:8} {:9} {:5} {:>10} {:>10} {:>10}  MiB", "model", "job", "type", "kept", "shared", "floor");
    for entry in builtin() {
        for real in [Element::F32, Element::Bf16] {
            for (job, schedule) in schedules(&entry.plan, 64, real) {
                let placement = memory::place(&schedule);
                let name = entry.plan.name;
                memory::check(&schedule, &placement).unwrap_or_else(|error| panic!("{name} {job}: {error}"));
                let [kept, shared, floor] = [placement.persistent, placement.temporary, placement.floor]
                    .map(|bytes| bytes as f64 / f64::from(1 << 20));
                println!("{name:8} {job:9} {:5} {kept:10.1} {shared:10.1} {floor:10.1}", real.c_type());
                assert!(shared <= 1.125 * floor, "{name} {job}: {shared} MiB where {floor} would do");
            }
        }
    }
}

/// The flat buffers hold every parameter that the variant has.
#[test]
fn every_parameter_has_a_place() {
    for entry in builtin() {
        let plan = entry.plan;
        let count = |layout: &convnext_core::cuda::training::ParameterLayout| {
            layout.parameters().map(|(_, range)| range.len() as u64).sum::<u64>()
        };
        let step = classifier(&plan, &options(2, Element::Bf16)).unwrap();
        assert_eq!(count(&step.layout), plan.parameters, "{}", plan.name);
        if let Some(fcmae) = &plan.fcmae {
            let step = autoencoder(&plan, fcmae, &options(2, Element::Bf16)).unwrap();
            assert_eq!(count(&step.layout), fcmae.parameters, "{}", plan.name);
        }
    }
}

/// A batch of 4096 of the largest variant can be scheduled; what an int cannot count is refused.
#[test]
fn the_largest_batch_can_be_counted() {
    let huge = builtin().into_iter().find(|entry| entry.plan.name == "huge").unwrap().plan;
    let step = autoencoder(&huge, &huge.fcmae.unwrap(), &options(4096, Element::Bf16)).unwrap();
    assert!(memory::place(&step.schedule).bytes() > 1 << 37);
    assert!(classifier(&huge, &options(1 << 20, Element::Bf16)).is_err());
    assert!(classifier(&huge, &options(1, Element::I32)).is_err());
}

/// Kernel and architecture that may spill, and why: over patches of one cell, for 2816 channels, the weight gradient is
/// given 128 registers and spills 16 bytes of its 98 sums at most, once a run of cells.
const MAY_SPILL: [(&str, &str); 2] = [("depthwise_weight_gradient", "sm_80"), ("depthwise_weight_gradient", "sm_100")];

/// Architectures: A100, H100, B200.
const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "sm_100"];

/// The modules of all variants, each once.
fn modules() -> Vec<Module> {
    let mut seen = HashSet::new();
    for entry in builtin() {
        for real in [Element::Bf16, Element::F32] {
            for (_, schedule) in schedules(&entry.plan, 256, real) {
                for step in schedule.steps() {
                    if let Step::Launch(launch) = step {
                        seen.insert(launch.module.clone());
                    }
                }
            }
        }
    }
    let mut modules: Vec<_> = seen.into_iter().collect();
    modules.sort_by_key(|module| (module.source.name, module.defines()));
    modules
}

/// Registers at least and at most, and the most shared memory, of a kernel over all its constants.
type Range = BTreeMap<(String, String), [usize; 3]>;

/// Every kernel of every variant compiles for every architecture, and none spills.
///
/// `CUDA_ARCHITECTURES` restricts the architectures.
#[test]
#[ignore = "needs NVRTC, and minutes: see ARCHITECTURE.md, CUDA"]
fn every_kernel_compiles_and_none_spills() {
    let compiler = Compiler::load().unwrap();
    let (modules, at) = (modules(), AtomicUsize::new(0));
    let chosen = env::var("CUDA_ARCHITECTURES").unwrap_or_else(|_| ARCHITECTURES.join(" "));
    let jobs: Vec<_> =
        chosen.split_whitespace().flat_map(|arch| modules.iter().map(move |module| (arch, module))).collect();
    let (ranges, problems) = (Mutex::new(Range::new()), Mutex::new(Vec::new()));
    let work = || {
        while let Some((architecture, module)) = jobs.get(at.fetch_add(1, Ordering::Relaxed)) {
            match compiler.compile(module, architecture) {
                Ok(compiled) => {
                    let usage = compiled.usage();
                    let named =
                        module.source.kernels.iter().all(|kernel| usage.iter().any(|usage| usage.kernel == *kernel));
                    if !named || compiled.cubin.is_empty() {
                        problems.lock().unwrap().push(format!("{}: kernels are missing", module.source.name));
                    }
                    for usage in usage {
                        if usage.spill_stores + usage.spill_loads > 0
                            && !MAY_SPILL.contains(&(&usage.kernel, architecture))
                        {
                            problems.lock().unwrap().push(format!("{architecture}: {usage:?}\n{}", module.defines()));
                        }
                        let mut ranges = ranges.lock().unwrap();
                        let range = ranges.entry((usage.kernel, (*architecture).to_owned())).or_insert([255, 0, 0]);
                        *range =
                            [range[0].min(usage.registers), range[1].max(usage.registers), range[2].max(usage.shared)];
                    }
                }
                Err(error) => problems.lock().unwrap().push(error.to_string()),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!("NVRTC {:?}, {} modules", compiler.version(), modules.len());
    for ((kernel, architecture), [least, most, shared]) in ranges.into_inner().unwrap() {
        println!("{kernel:28} {architecture:7} {least:3} to {most:3} registers, {shared:5} bytes of shared memory");
    }
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Persistent buffers are those that someone fills or reads; everything else shares memory.
#[test]
fn inputs_and_results_are_kept() {
    let atto = builtin().into_iter().find(|entry| entry.plan.name == "atto").unwrap().plan;
    let step = autoencoder(&atto, &atto.fcmae.unwrap(), &options(2, Element::Bf16)).unwrap();
    let tables = step.tables.unwrap();
    let state = step.state;
    let views =
        [step.images, step.loss, tables.visible, tables.slots, tables.removed, state.parameters, state.m, state.v];
    for view in views {
        assert_eq!(step.schedule.buffers()[view.buffer].lifetime, Lifetime::Persistent);
    }
}

/// Where the time of a step goes, on a device: milliseconds, bytes and multiply-adds a second by kernel, and the whole step
/// as a graph. `CUDA_MODELS` and `CUDA_BATCH` choose (atto, tiny and base; 128).
///
/// Bytes are those of the views that a launch touches, each once: what it has to move at least.
#[test]
#[ignore = "needs a GPU"]
fn profile_of_a_step() {
    let models = env::var("CUDA_MODELS").unwrap_or_else(|_| "atto tiny base".into());
    let samples = env::var("CUDA_BATCH").map_or(128, |batch| batch.parse().unwrap());
    let device = usable().unwrap();
    println!("{} {:?}", device.name, device.capability);
    for name in models.split_whitespace() {
        let plan = builtin().into_iter().find(|entry| entry.plan.name == name).unwrap().plan;
        for (job, schedule) in schedules(&plan, samples, Element::Bf16) {
            let mut executor = Executor::new(&device, &schedule, Cache::of_user().as_ref(), true).unwrap();
            for buffer in 0..schedule.buffers().len() {
                fill(&mut executor, &schedule, buffer);
            }
            executor.run().unwrap();
            let times = executor.profile(5).unwrap();
            let mut table: BTreeMap<&str, [f64; 4]> = BTreeMap::new();
            for (step, time) in Executor::steps(&schedule).zip(times) {
                let (name, work) = match step {
                    Step::Launch(launch) => (launch.kernel, 0.0),
                    Step::Product(product) => ("(product)", product.multiply_adds() as f64),
                    Step::Zero(_) => ("(zero)", 0.0),
                };
                let views: HashSet<_> = step.accesses().into_iter().map(|(view, _)| view).collect();
                let bytes: usize = views.iter().map(|view| view.length * view.element.bytes()).sum();
                let row = table.entry(name).or_default();
                row.iter_mut().zip([1.0, f64::from(time), bytes as f64, work]).for_each(|(sum, value)| *sum += value);
            }
            executor.capture().unwrap();
            let mut replays = Vec::new();
            for _ in 0..20 {
                let start = Instant::now();
                executor.run().unwrap();
                executor.finish().unwrap();
                replays.push(start.elapsed().as_secs_f64() * 1e3);
            }
            replays.sort_by(f64::total_cmp);
            let median = replays[replays.len() / 2];
            println!("{name} {job}, batch {samples}: {median:.3} ms, {:.0} images/s", samples as f64 / median * 1e3);
            for (kernel, [count, time, bytes, work]) in table {
                let (bandwidth, rate) = (bytes / time / 1e6, 2.0 * work / time / 1e9);
                println!("  {kernel:28} {count:4} times {time:8.3} ms {bandwidth:8.0} GB/s {rate:8.1} TFLOP/s");
            }
        }
    }
}

/// Puts something sensible into an input: masks that keep the first patches, rules that end, small numbers.
fn fill(executor: &mut Executor, schedule: &Schedule, at: usize) {
    let buffer = &schedule.buffers()[at];
    if buffer.lifetime == Lifetime::Temporary {
        return;
    }
    let view = View { buffer: at, element: buffer.element, offset: 0, length: buffer.length };
    let length =
        |name: &str| schedule.buffers().iter().find(|buffer| buffer.name == name).map_or(0, |buffer| buffer.length);
    let (visible, removed, rules) = (length("mask.visible"), length("mask.removed"), length("rules.ends"));
    let samples = length("mask.slots").checked_div(49).unwrap_or(1).max(1);
    let (kept, gone) = (visible / samples, removed / samples);
    let value = |at: usize| match buffer.name.as_str() {
        "mask.visible" => (at % kept.max(1)) as u32,
        "mask.removed" => (kept + at % gone.max(1)) as u32,
        "mask.slots" => {
            let patch = (at % 49) as i32;
            (if (patch as usize) < kept { patch } else { kept as i32 - 1 - patch }) as u32
        }
        "rules.ends" => {
            if at + 1 == rules {
                length("parameters") as u32
            } else {
                0
            }
        }
        _ => 0.02f32.to_bits(),
    };
    let bytes: Vec<u8> =
        (0..buffer.length).flat_map(|at| value(at).to_le_bytes()[4 - buffer.element.bytes()..].to_vec()).collect();
    executor.write(&view, &bytes).unwrap();
}
