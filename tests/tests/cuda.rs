//! CUDA for the variants that come with the program, without a device: every step's memory is checked by walking through
//! it, and every kernel is compiled for every architecture by the compiler that a device's machine has.

mod disassembly;

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
    launch::{
        element::Element,
        kernel::Module,
        kernels::bias::add_bias,
        operation::BatchShape,
        schedule::{Lifetime, Schedule, Step},
    },
    plan::Plan,
};
use convnext_cuda::{
    compile::{Compiler, Usage},
    memory,
    training::{Options, autoencoder, classifier, inference},
};

fn options(samples: usize, real: Element) -> Options {
    Options { samples, real, max_norm: 1.0, ema: true, drop_path: true, bytes: true }
}

/// What a variant can be asked for: name and schedule.
fn schedules(plan: &Plan, samples: usize, real: Element) -> Vec<(&'static str, Schedule)> {
    let mut list = vec![
        ("finetune", classifier(plan, &options(samples, real)).unwrap().schedule),
        ("infer", inference(plan, BatchShape { samples, real }).unwrap().schedule),
    ];
    if plan.fcmae.is_some() {
        list.push(("pretrain", autoencoder(plan, &options(samples, real)).unwrap().schedule));
    }
    list
}

/// No read before a write, no overlap of what is needed together, and no more memory than the fullest moment needs, but
/// for a hundredth.
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
                assert!(shared <= 1.01 * floor, "{name} {job}: {shared} MiB where {floor} would do");
            }
        }
    }
}

/// The flat buffers hold every parameter that the variant has.
#[test]
fn every_parameter_has_a_place() {
    for entry in builtin() {
        let plan = entry.plan;
        let count = |layout: &convnext_cuda::training::ParameterLayout| {
            layout.parameters().map(|(_, range)| range.len() as u64).sum::<u64>()
        };
        let step = classifier(&plan, &options(2, Element::Bf16)).unwrap();
        assert_eq!(count(&step.layout), plan.classifier().parameters(), "{}", plan.name);
        if let Some(network) = plan.autoencoder() {
            let step = autoencoder(&plan, &options(2, Element::Bf16)).unwrap();
            assert_eq!(count(&step.layout), network.parameters(), "{}", plan.name);
        }
    }
}

/// A batch of 4096 of the largest variant can be scheduled; what an int cannot count is refused.
#[test]
fn the_largest_batch_can_be_counted() {
    let huge = builtin().into_iter().find(|entry| entry.plan.name == "huge").unwrap().plan;
    let step = autoencoder(&huge, &options(4096, Element::Bf16)).unwrap();
    assert!(memory::place(&step.schedule).bytes() > 1 << 37);
    assert!(classifier(&huge, &options(1 << 20, Element::Bf16)).is_err());
    assert!(classifier(&huge, &options(1, Element::I32)).is_err());
}

/// Architectures: A100, H100, B200.
const ARCHITECTURES: [&str; 3] = ["sm_80", "sm_90", "sm_100"];

/// Kernels that may spill, and how many bytes of one thread on each of these: the most that any of the 706 modules does.
/// For some sizes the compiler gives up a register or a few so that one more block fits on a multiprocessor. Launch
/// bounds that forbid it cost 8 to 16 registers; which is faster, nobody has measured.
const MAY_SPILL: [(&str, [usize; 3]); 5] = [
    ("depthwise_forward", [120, 128, 104]),
    ("depthwise_input_gradient", [220, 48, 180]),
    ("depthwise_weight_gradient", [136, 140, 88]),
    ("hidden_apply", [0, 0, 16]),
    ("residual_backward", [0, 0, 4]),
];

/// How many bytes a kernel may spill on an architecture.
fn may_spill(kernel: &str, architecture: &str) -> usize {
    let column = ARCHITECTURES.iter().position(|known| *known == architecture).unwrap();
    MAY_SPILL.iter().find(|(listed, _)| *listed == kernel).map_or(0, |(_, bytes)| bytes[column])
}

/// Names between spaces, or `all`.
fn chosen(list: &str, all: &[&'static str]) -> Vec<&'static str> {
    if list == "all" {
        return all.to_vec();
    }
    let known = |name| *all.iter().find(|known| **known == name).unwrap_or_else(|| panic!("{name} is none of {all:?}"));
    list.split_whitespace().map(known).collect()
}

fn launched(schedule: &Schedule) -> impl Iterator<Item = Module> {
    schedule.steps().iter().filter_map(|step| match step {
        Step::Launch(launch) => Some(launch.module.clone()),
        Step::Product(_) | Step::Zero(_) => None,
    })
}

/// The modules of these variants, each once.
fn modules(models: &[&str]) -> Vec<Module> {
    let mut seen = HashSet::new();
    for entry in builtin().into_iter().filter(|entry| models.contains(&entry.plan.name)) {
        for real in [Element::Bf16, Element::F32] {
            for (_, schedule) in schedules(&entry.plan, 256, real) {
                seen.extend(launched(&schedule));
            }
        }
    }
    // An executor adds these where cuBLASLt adds no bias.
    for real in [Element::Bf16, Element::F32] {
        let mut schedule = Schedule::new();
        let [x, bias] = [8, 4].map(|length| schedule.temporary("matrix", real, length));
        add_bias(&mut schedule, x, bias).unwrap();
        seen.extend(launched(&schedule));
    }
    let mut modules: Vec<_> = seen.into_iter().collect();
    modules.sort_by_key(|module| (module.source.name, module.defines()));
    modules
}

/// Constants that change what a thread does, and so the registers it needs; the others change how far and how often.
const DECISIVE: [&str; 12] =
    ["REAL", "VECTOR", "RUN", "KERNEL", "TAP_ROWS", "TEAM", "SPARSE", "GRN", "SCALE", "DROP", "NORMALISED", "MIRROR"];

/// The part of the modules that this process compiles, and of how many: NVRTC compiles one module at a time, so that a process
/// for each core takes half as long. `CUDA_SHARE=2/2` is the second half.
fn share() -> (usize, usize) {
    let share = env::var("CUDA_SHARE").unwrap_or_else(|_| "1/1".into());
    let (part, parts) = share.split_once('/').expect("CUDA_SHARE is such as 1/2");
    let [part, parts] = [part, parts].map(|number| number.parse::<usize>().expect("CUDA_SHARE is such as 1/2"));
    assert!((1..=parts).contains(&part), "CUDA_SHARE is such as 1/2");
    (part - 1, parts)
}

/// Of modules whose decisive constants are the same, the narrowest and the widest.
fn representatives(modules: Vec<Module>) -> Vec<Module> {
    let mut kinds = BTreeMap::<_, Vec<Module>>::new();
    for module in modules {
        let decisive = module.constants.iter().filter(|(name, _)| DECISIVE.contains(name)).cloned();
        kinds.entry((module.source.name, decisive.collect::<Vec<_>>())).or_default().push(module);
    }
    let width = |module: &Module| {
        let wide = |(name, _): &&(&str, String)| ["CHANNELS", "FEATURES", "COLUMNS"].contains(name);
        module.constants.iter().filter(wide).filter_map(|(_, value)| value.parse::<usize>().ok()).max()
    };
    let ends = |mut alike: Vec<Module>| {
        alike.sort_by_key(width);
        let last = if alike.len() > 1 { alike.pop() } else { None };
        alike.truncate(1);
        alike.into_iter().chain(last)
    };
    kinds.into_values().flat_map(ends).collect()
}

/// What the compiler says of a kernel on an architecture, over all its constants.
#[derive(Debug, Clone, Copy)]
struct Range {
    constants: usize,
    least: usize,
    most: usize,
    shared: usize,
    spilled: usize,
}

impl Range {
    fn add(range: &mut Option<Self>, usage: &Usage) {
        let Usage { registers, shared, .. } = *usage;
        let range = range.get_or_insert(Self { constants: 0, least: registers, most: 0, shared: 0, spilled: 0 });
        *range = Self {
            constants: range.constants + 1,
            least: range.least.min(registers),
            most: range.most.max(registers),
            shared: range.shared.max(shared),
            spilled: range.spilled.max(spilled(usage)),
        };
    }
}

fn spilled(usage: &Usage) -> usize {
    usage.spill_stores.max(usage.spill_loads)
}

/// Kernels compile, and none spills more than is listed: of all variants those that stand for the others.
///
/// `CUDA_ARCHITECTURES` takes some of the architectures, `CUDA_SHARE` a [share](share) of the modules; with `CUDA_MODELS`
/// every module of those variants, or of `all`, counts.
#[test]
#[ignore = "needs NVRTC: see docs/gpu.md"]
fn every_kernel_compiles_and_none_spills() {
    let compiler = Compiler::load().unwrap();
    let names: Vec<_> = builtin().into_iter().map(|entry| entry.plan.name).collect();
    let architectures = env::var("CUDA_ARCHITECTURES").unwrap_or_else(|_| "all".into());
    let architectures = chosen(&architectures, &ARCHITECTURES);
    let modules = match env::var("CUDA_MODELS") {
        Ok(list) => modules(&chosen(&list, &names)),
        Err(_) => representatives(modules(&names)),
    };
    let jobs = architectures.iter().flat_map(|arch| modules.iter().map(move |module| (*arch, module)));
    let (part, parts) = share();
    let jobs: Vec<_> = jobs.skip(part).step_by(parts).collect();
    let ranges = Mutex::new(BTreeMap::<_, Option<Range>>::new());
    let spilling = Mutex::new(BTreeMap::<&str, usize>::new());
    let (problems, at, start) = (Mutex::new(Vec::new()), AtomicUsize::new(0), Instant::now());
    let blame = |problem: String| problems.lock().unwrap().push(problem);
    let work = || {
        while let Some((architecture, module)) = jobs.get(at.fetch_add(1, Ordering::Relaxed)) {
            let compiled = match compiler.compile(module, architecture) {
                Ok(compiled) => compiled,
                Err(error) => {
                    blame(error.to_string());
                    continue;
                }
            };
            let usage = compiled.usage();
            if usage.iter().any(|usage| spilled(usage) > 0) {
                *spilling.lock().unwrap().entry(*architecture).or_insert(0) += 1;
            }
            for kernel in module.source.kernels {
                if !usage.iter().any(|usage| usage.kernel == *kernel) || compiled.cubin.is_empty() {
                    blame(format!("{}: {kernel} is missing", module.source.name));
                }
            }
            for usage in usage {
                if spilled(&usage) > may_spill(&usage.kernel, architecture) {
                    blame(format!("{architecture}: {usage:?}\n{}", module.defines()));
                }
                Range::add(ranges.lock().unwrap().entry((usage.kernel.clone(), *architecture)).or_default(), &usage);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!(
        "NVRTC {:?}, {} modules for {architectures:?}, of which spill {:?}, {:.0?}",
        compiler.version(),
        modules.len(),
        spilling.into_inner().unwrap(),
        start.elapsed()
    );
    for ((kernel, architecture), range) in ranges.into_inner().unwrap() {
        let Some(Range { constants, least, most, shared, spilled }) = range else { continue };
        println!(
            "{kernel:28} {architecture:7} {constants:4} sets of constants, {least:3} to {most:3} registers, \
             {shared:5} bytes shared, {spilled:3} spilled"
        );
    }
    let problems = problems.into_inner().unwrap();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Persistent buffers are those that someone fills or reads; everything else shares memory.
#[test]
fn inputs_and_results_are_kept() {
    let atto = builtin().into_iter().find(|entry| entry.plan.name == "atto").unwrap().plan;
    let step = autoencoder(&atto, &options(2, Element::Bf16)).unwrap();
    let tables = step.tables.unwrap();
    let state = step.state;
    let views =
        [step.images, step.loss, tables.visible, tables.slots, tables.removed, state.parameters, state.m, state.v];
    for view in views {
        assert_eq!(step.schedule.buffers()[view.buffer].lifetime, Lifetime::Persistent);
    }
}
