//! `--device cuda` from the command line to the kernels, on a device made of the CPU: `driver/driver.cpp` stands in for
//! the driver, the compiler and the library of products, and is strict about how it is called. What runs leave behind is
//! held to what they leave on the CPU.
//!
//! This shows that the calls are in order, that nothing is used before it is there or freed too early, that captured graphs
//! do what their steps did, and that either device goes on from the other's checkpoints. How a real device behaves it cannot
//! show.

mod common;

use std::{
    collections::HashSet,
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    thread,
};

use common::{Folder, command};
use convnext::models::builtin;
use convnext_core::{
    dfdx::tensor::Cpu,
    launch::{element::Element, operation::BatchShape},
    optim::AdamW,
};
use convnext_cuda::{
    WORKSPACE,
    cache::Cache,
    cost, detect,
    error::ExecuteError,
    executor::Executor,
    memory,
    predictor::Predictor,
    session::SLOTS,
    trainer::{Trainer, TrainerSettings, TrainerState},
    training::{self, Options},
};
use serde_json::Value;

/// How kernels are compiled, and the header before them.
const KERNEL_OPTIONS: &str = "-std=c++17 -O1 -fPIC -fvisibility=hidden -w -ffp-contract=off";

fn compile(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) {
    let output = Command::new("g++").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("these tests need the C++ compiler g++: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The libraries that a machine with a GPU has: three names of one file, compiled once.
fn libraries() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-in-driver");
        // Kernels of an earlier run may be those of another header.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let host = crate_folder.join("../cuda/tests/kernels");
        let [header, object, library] = ["host.hpp", "entry.o", "libcuda.so"].map(|name| folder.join(name));
        fs::copy(host.join("host.hpp"), &header).unwrap();
        let kernels = || KERNEL_OPTIONS.split(' ').map(OsString::from);
        let header_only = ["-x".into(), "c++-header".into(), header.clone().into(), "-o".into()];
        compile(kernels().chain(header_only).chain([folder.join("host.hpp.gch").into()]));
        let entry = ["-c".into(), "-I".into(), host.into(), crate_folder.join("tests/driver/entry.cpp").into()];
        compile(kernels().chain(entry).chain(["-O2".into(), "-o".into(), object.clone().into()]));
        let defines = [
            format!("-DHOST_HEADER=\"{}\"", header.display()),
            format!("-DHOST_OBJECT=\"{}\"", object.display()),
            format!("-DKERNEL_OPTIONS=\"{KERNEL_OPTIONS}\""),
        ];
        let options = ["-std=c++20", "-O3", "-Wall", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden"];
        let options = options.map(OsString::from).into_iter().chain(defines.map(OsString::from));
        let files =
            [crate_folder.join("tests/driver/driver.cpp").into(), "-o".into(), library.clone().into(), "-ldl".into()];
        compile(options.chain(files));
        for name in ["libnvrtc.so", "libcublasLt.so"] {
            symlink(&library, folder.join(name)).unwrap();
        }
        folder
    };
    FOLDER.get_or_init(make).clone()
}

/// What runs of the smallest variant are made by: a handful of steps.
const RECIPE: &str = "
seed = 3
[model]
name = 'micro'
init = 'fan_in'
[data]
mean = [0.5]
std = [0.25]
[augment]
pad = 2
flip = true
[optimizer]
clip = 1.0
[checkpoint]
every_steps = 2
keep_last = 10
";

const PRETRAIN: &str = "[pretrain]
epochs = 1
batch = 2
base_lr = 0.05
";

const FINETUNE: &str = "[finetune]
epochs = 2
batch = 2
accumulation = 2
base_lr = 0.05
start = 'scratch'
smoothing = 0.1
mixup = 0.2
cutmix = 0.5
drop_path = 0.3
layer_decay = { rate = 0.9, mode = 'single' }
ema = { decay = 0.9 }
";

/// A folder with a shard and recipes, and the libraries.
struct Place {
    folder: Folder,
    libraries: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = Folder::new();
        folder.idx(12);
        assert_eq!(folder.run("pack --images @images.idx --labels @labels.idx --output @train").code, 0);
        for (name, section) in [("pretrain", PRETRAIN), ("finetune", FINETUNE)] {
            fs::write(folder.path(&format!("{name}.toml")), format!("{RECIPE}{section}")).unwrap();
        }
        Self { folder, libraries: libraries() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// Runs the program, which must succeed; returns its standard output.
    fn run(&self, line: &str) -> String {
        let output = self.attempt(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn attempt(&self, line: &str) -> Output {
        let mut command = command();
        command.env("LD_LIBRARY_PATH", &self.libraries).env("XDG_CACHE_HOME", self.libraries.join("cache"));
        command.args(line.split_whitespace()).current_dir(self.path("")).output().unwrap()
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(&format!("{line} --json"))).unwrap()
    }

    /// The checkpoints of a run, oldest first.
    fn checkpoints(&self, run: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(run).join("checkpoints")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    /// All values of a part of a run's last checkpoint.
    fn values(&self, run: &str, part: &str) -> Vec<f64> {
        let bytes = fs::read(self.checkpoints(run).last().unwrap().join(format!("{part}.safetensors"))).unwrap();
        let (length, rest) = bytes.split_at(8);
        let values = &rest[u64::from_le_bytes(length.try_into().unwrap()) as usize..];
        values.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value).into()).collect()
    }

    /// Distance of a part of two runs' last checkpoints, of its norm.
    fn distance(&self, a: &str, b: &str, part: &str) -> f64 {
        let (a, b) = (self.values(a, part), self.values(b, part));
        assert_eq!(a.len(), b.len());
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        norm(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
    }

    /// Step, loss and gradient's norm of every line of a run's metrics that has them.
    fn metrics(&self, run: &str) -> Vec<(u64, f64, f64)> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let line = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let norm = line["gradient_norm"].as_f64()?;
            Some((line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap(), norm))
        };
        text.lines().filter_map(line).collect()
    }

    /// The metrics of two runs must have the same steps, and losses and norms that are as close as `tolerance`.
    fn compare(&self, a: &str, b: &str, tolerance: f64) {
        let (a, b) = (self.metrics(a), self.metrics(b));
        assert_eq!(a.iter().map(|line| line.0).collect::<Vec<_>>(), b.iter().map(|line| line.0).collect::<Vec<_>>());
        for ((step, loss, norm), (_, other_loss, other_norm)) in a.into_iter().zip(b) {
            for (what, found, expected) in [("loss", loss, other_loss), ("norm", norm, other_norm)] {
                let error = (found - expected).abs() / expected;
                println!("step {step}: {what} {found:.6} {expected:.6} {error:.1e}");
                assert!(error <= tolerance, "step {step}: {what} {found} is not {expected}");
            }
        }
    }

    /// Parts of two runs' last checkpoints must be near: six updates of Adam make errors of sums larger.
    fn near(&self, a: &str, b: &str, parts: &[&str]) {
        for part in parts {
            let error = self.distance(a, b, part);
            println!("{part} {error:.1e}");
            assert!(error < 1e-3, "{part} is wrong by {error:.1e} of its norm");
        }
    }

    /// Forgets the end of a run: its last checkpoint.
    fn cut(&self, run: &str) {
        let checkpoints = self.checkpoints(run);
        assert!(checkpoints.len() > 1);
        fs::remove_dir_all(checkpoints.last().unwrap()).unwrap();
    }
}

const PRETRAINING: &str = "pretrain --data train-*.tar --recipe pretrain.toml";
const FINETUNING: &str = "finetune --data train-*.tar --validation train-*.tar --recipe finetune.toml";

/// Six steps of pre-training; then the end of each run again, on the other device, from the first one's checkpoint.
#[test]
fn a_pretraining_run_is_the_cpu_s_and_goes_on_on_either() {
    let place = Place::new();
    place.run(&format!("{PRETRAINING} --out cpu --device cpu"));
    place.run(&format!("{PRETRAINING} --out cuda --device cuda"));
    place.compare("cuda", "cpu", 1e-4);
    place.near("cuda", "cpu", &["weights", "optimizer"]);
    let record: Value = serde_json::from_slice(&fs::read(place.path("cuda/run.json")).unwrap()).unwrap();
    assert_eq!(record["machine"], "stand-in");

    for (run, other) in [("cuda", "cpu"), ("cpu", "cuda")] {
        place.cut(run);
        place.run(&format!("{PRETRAINING} --out {run} --device {other} --resume"));
    }
    place.compare("cuda", "cpu", 1e-4);
    place.near("cuda", "cpu", &["weights", "optimizer"]);
}

/// Accumulation, drop path, mixup and CutMix, clipping, the moving average, measurement on the way; evaluation and prediction.
#[test]
fn a_finetuning_run_is_the_cpu_s() {
    let place = Place::new();
    for device in ["cpu", "cuda"] {
        place.run(&format!("{FINETUNING} --out {device} --device {device}"));
    }
    place.compare("cuda", "cpu", 1e-4);
    place.near("cuda", "cpu", &["weights", "optimizer", "ema"]);
    let measured = |device: &str| place.json(&format!("evaluate cuda --device {device} --out measured"));
    let (found, expected) = (measured("cuda:0"), measured("cpu"));
    assert_eq!((&found["top1"], &found["confusion"]), (&expected["top1"], &expected["confusion"]));
    let loss = |evaluation: &Value| evaluation["loss"].as_f64().unwrap();
    assert!((loss(&found) - loss(&expected)).abs() < 1e-5 * loss(&expected), "{found} {expected}");
    fs::write(place.path("one.pgm"), [&b"P5\n28 28\n255\n"[..], &[70; 784]].concat()).unwrap();
    let predicted = |device: &str| place.json(&format!("predict --weights cuda one.pgm --top 1 --device {device}"));
    let (found, expected) = (predicted("auto"), predicted("cpu"));
    assert_eq!(found["classes"][0][0], expected["classes"][0][0]);
}

/// bf16 is near; a step that is not finite is found there, and left out.
#[test]
fn precision_and_policy_reach_the_device() {
    let place = Place::new();
    place.run(&format!("{PRETRAINING} --out cpu --device cpu"));
    place.run(&format!("{PRETRAINING} --out bf16 --device cuda --set model.precision=bf16"));
    place.compare("bf16", "cpu", 5e-2);
    // So large a rate that after the first update nothing is finite.
    let far = place.attempt(&format!(
        "{PRETRAINING} --out far --device cuda --set pretrain.base_lr=1e38 --set optimizer.non_finite=skip"
    ));
    let error = String::from_utf8(far.stderr).unwrap();
    assert!(far.status.code() == Some(1) && error.contains("as in each of the last 5 steps"), "{error}");
    let state = fs::read_to_string(place.checkpoints("far").last().unwrap().join("state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    let (skipped, updates) = (state["counters"]["skipped"].as_f64().unwrap(), state["updates"].as_f64().unwrap());
    assert!(skipped > 0.0 && updates > 0.0 && updates + skipped == 6.0, "{state}");
}

#[test]
fn a_device_is_found_and_measured() {
    let place = Place::new();
    let doctor = place.json("doctor");
    assert_eq!((&doctor["cuda"]["usable"], &doctor["cuda"]["devices"][0]["name"]), (&true.into(), &"stand-in".into()));
    for job in ["pretrain", "infer"] {
        let report =
            place.json(&format!("bench --job {job} --model micro --batch 1 --steps 2 --warmup 0 --dtype bf16"));
        assert_eq!((&report["device"], &report["dtype"]), (&"cuda:0".into(), &"bf16".into()));
        assert!(report["img_s"].as_f64().unwrap() > 0.0);
    }
}

/// What a test does in a process of its own, since a process finds its libraries by what it was started with: runs the
/// test again on the stand-in, and says whether this is that process.
fn on_the_stand_in(test: &str) -> bool {
    if env::var_os("CONVNEXT_STAND_IN").is_some() {
        return true;
    }
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env("CONVNEXT_STAND_IN", "1");
    again.env("LD_LIBRARY_PATH", libraries()).env("XDG_CACHE_HOME", libraries().join("cache"));
    let Output { status, stdout, stderr } = again.output().unwrap();
    let [stdout, stderr] = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
    false
}

/// Two threads of a program each make, use and drop a model, over and over: a capture on one is not spoilt by what the
/// other does meanwhile, and the logits of the step as it is run, captured and replayed are the CPU's.
#[test]
fn two_models_on_two_threads_leave_each_other_alone() {
    if !on_the_stand_in("two_models_on_two_threads_leave_each_other_alone") {
        return;
    }
    let entry = builtin().into_iter().find(|entry| entry.plan.name == "micro").unwrap();
    let (plan, device) = (entry.plan, detect::usable().unwrap());
    let model = |number: usize| {
        let mut model = entry.classifier(&Cpu::default()).unwrap();
        model.set_drop_path(0.0);
        let weights: Vec<f32> =
            (0..model.layout().len()).map(|at| ((at * 7 + number) % 13) as f32 / 40.0 - 0.15).collect();
        model.write(&weights);
        (model, weights)
    };
    let images: Vec<f32> =
        (0..plan.height * plan.width * plan.channels).map(|at| (at % 17) as f32 / 8.0 - 1.0).collect();
    let work = |number: usize| {
        let (model, weights) = model(number);
        let expected = model.logits(&Cpu::default(), images.clone(), 1).unwrap();
        for _ in 0..4 {
            let batch = BatchShape { samples: 1, real: Element::F32 };
            let mut predictor = Predictor::new(&device, &plan, model.layout(), batch, false).unwrap();
            predictor.write(&weights).unwrap();
            for turn in 0..3 {
                let found = predictor.logits(&images).unwrap();
                let close = found.iter().zip(&expected).all(|(found, expected)| (found - expected).abs() < 1e-4);
                assert!(close, "thread {number}, turn {turn}: {found:?}, and on the CPU {expected:?}");
            }
        }
    };
    thread::scope(|scope| {
        let threads = [0, 1].map(|number| scope.spawn(move || work(number)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Products whose algorithms are timed are the same products; a size is timed once, and what was chosen is found again.
#[test]
fn algorithms_of_products_are_timed_once() {
    if !on_the_stand_in("algorithms_of_products_are_timed_once") {
        return;
    }
    let micro = builtin().into_iter().find(|entry| entry.plan.name == "micro").unwrap();
    let inference = training::inference(&micro.plan, BatchShape { samples: 1, real: Element::F32 }).unwrap();
    let folder = Folder::new();
    let cache = Cache::at(folder.path("kernels"));
    let run = |choose: bool| {
        let device = detect::usable().unwrap();
        let mut executor = Executor::new(&device, &inference.schedule, Some(&cache), false).unwrap();
        let timed = if choose { executor.time_products(Some(&cache)).unwrap() } else { 0 };
        for view in [inference.parameters, inference.images] {
            let values = (0..view.length).flat_map(|at| ((at % 13) as f32 / 40.0 - 0.15).to_le_bytes());
            executor.write(&view, &values.collect::<Vec<u8>>()).unwrap();
        }
        executor.run().unwrap();
        (timed, executor.read(&inference.logits).unwrap())
    };
    let products: Vec<_> = inference.schedule.steps().iter().filter_map(cost::sizes).collect();
    let sizes: HashSet<_> = products.iter().collect();
    let (_, first_guess) = run(false);
    let (timed, found) = run(true);
    assert!((sizes.len()..products.len()).contains(&timed), "{timed} of {products:?}");
    assert_eq!(found, first_guess);
    assert_eq!(run(true), (0, first_guess));
}

/// What a run allocates beside its schedule - scratch memory of the products, slots for batches on their way - counts
/// before anything is allocated.
#[test]
fn memory_that_is_missing_is_missed_at_once() {
    if !on_the_stand_in("memory_that_is_missing_is_missed_at_once") {
        return;
    }
    let entry = builtin().into_iter().find(|entry| entry.plan.name == "micro").unwrap();
    let options =
        Options { samples: 4096, real: Element::F32, max_norm: 0.0, ema: false, drop_path: false, bytes: false };
    let step = training::classifier(&entry.plan, &options).unwrap();
    let placement = memory::place(&step.schedule);
    let layout = entry.classifier(&Cpu::default()).unwrap().layout();
    let settings = TrainerSettings {
        adamw: AdamW::default(),
        rules: Vec::new(),
        ema: None,
        accumulation: 1,
        drop_path: 0.0,
        table: Vec::new(),
    };
    let state = TrainerState { parameters: Vec::new(), m: Vec::new(), v: Vec::new(), average: None, updates: 0 };
    let refused = Trainer::on_device(&detect::usable().unwrap(), step, layout, settings, &state, false).err().unwrap();
    let needed = placement.bytes() + WORKSPACE + SLOTS * placement.inputs;
    assert!(matches!(refused, ExecuteError::OutOfMemory { needed: found, .. } if found == needed), "{refused}");
}

/// The stand-in's libraries are those of CUDA 12.
#[test]
fn libraries_newer_than_the_driver_are_refused() {
    let mut doctor = command();
    doctor.env("LD_LIBRARY_PATH", libraries()).env("STAND_IN_DRIVER_VERSION", "11080");
    let report: Value = serde_json::from_slice(&doctor.args(["doctor", "--json"]).output().unwrap().stdout).unwrap();
    let why = report["cuda"]["why"].as_str().unwrap();
    assert!(why.contains("libnvrtc.so here is CUDA 12's") && why.contains("CUDA 11.8 at most"), "{why}");
}
