//! Runs a schedule on the CPU: kernels compiled as C++ behind `host.hpp`, products by plain loops.
//!
//! All buffers lie in one block of memory, where [`memory::place`] puts them, so that a schedule whose buffers overlap
//! gives wrong results. What a launch is to write holds NaNs before.
//!
//! With `CONVNEXT_CUDA_TESTS=device` in the environment schedules run on a device in its place. With the name of an
//! architecture, `sm_90` say, they run here, and NVRTC's cache is filled with what a device of it will need.

use std::{
    collections::HashMap,
    env, fs,
    io::Write,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

use convnext_core::launch::{
    element::Element,
    kernel::Module,
    schedule::{Access, Argument, Launch, Lifetime, Product, Schedule, Step, View},
};
use convnext_cuda::{
    cache::Cache,
    compile::Compiler,
    detect::{Device, usable},
    executor::Executor,
    memory::{self, Placement},
};
use half::bf16;
use sha2::{Digest, Sha256};

/// What is before every kernel, and what it is linked with.
const HEADER: &str = include_str!("host.hpp");
const RUNTIME: &str = include_str!("host.cpp");

/// Bounds of arrays, alignment of vectors and overflow of integers end the program with a message.
const OPTIONS: [&str; 8] = [
    "-std=c++17",
    "-O1",
    "-Wall",
    "-Werror",
    "-Wno-unknown-pragmas",
    "-fsanitize=bounds,alignment,signed-integer-overflow,integer-divide-by-zero,shift,float-cast-overflow",
    "-fno-sanitize-recover=all",
    "-ffp-contract=off",
];

/// The runtime is no kernel: it is to be fast.
const RUNTIME_OPTIONS: [&str; 4] = ["-std=c++17", "-O2", "-Wall", "-Werror"];

/// In which order the threads of a block run, and the blocks of a grid. On a device nobody chooses, and there are two runs:
/// step by step, and as a graph that is replayed.
pub(crate) fn orders() -> &'static [u32] {
    if device().is_some() { &[0, REPLAYED] } else { &[0, 1, 2] }
}

/// The order that replays a graph on a device.
const REPLAYED: u32 = 1;

/// Values as they lie in memory, rounded to the type.
pub(crate) fn encode(element: Element, values: &[f64]) -> Vec<u8> {
    let bytes = |&value: &f64| match element {
        Element::F32 => (value as f32).to_le_bytes().to_vec(),
        Element::Bf16 => bf16::from_f32(value as f32).to_le_bytes().to_vec(),
        Element::F64 => value.to_le_bytes().to_vec(),
        Element::U32 => (value as u32).to_le_bytes().to_vec(),
        Element::I32 => (value as i32).to_le_bytes().to_vec(),
        Element::U8 => vec![value as u8],
    };
    values.iter().flat_map(bytes).collect()
}

/// Values from memory.
pub(crate) fn decode(element: Element, bytes: &[u8]) -> Vec<f64> {
    let value = |bytes: &[u8]| match element {
        Element::F32 => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
        Element::Bf16 => bf16::from_le_bytes(bytes.try_into().unwrap()).into(),
        Element::F64 => f64::from_le_bytes(bytes.try_into().unwrap()),
        Element::U32 => u32::from_le_bytes(bytes.try_into().unwrap()).into(),
        Element::I32 => i32::from_le_bytes(bytes.try_into().unwrap()).into(),
        Element::U8 => bytes[0].into(),
    };
    bytes.chunks_exact(element.bytes()).map(value).collect()
}

/// The memory of a schedule.
#[derive(Clone)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    placement: Placement,
}

impl Memory {
    /// Memory full of NaNs.
    pub(crate) fn new(schedule: &Schedule) -> Self {
        let placement = memory::place(schedule);
        memory::check(schedule, &placement).unwrap();
        if let Some(Place::Architecture(architecture)) = place() {
            fill_cache(schedule, architecture);
        }
        Self { bytes: vec![0xff; placement.bytes()], placement }
    }

    fn slice(&self, view: &View) -> &[u8] {
        &self.bytes[self.placement.range(view)]
    }

    fn slice_mut(&mut self, view: &View) -> &mut [u8] {
        &mut self.bytes[self.placement.range(view)]
    }

    /// Fills a view with values as they lie in memory.
    pub(crate) fn set_bytes(&mut self, view: &View, bytes: &[u8]) {
        self.slice_mut(view).copy_from_slice(bytes);
    }

    /// A view's values as they lie in memory.
    pub(crate) fn get_bytes(&self, view: &View) -> &[u8] {
        self.slice(view)
    }

    /// Fills all inputs.
    pub(crate) fn set_inputs(&mut self, bytes: &[u8]) {
        self.bytes[..self.placement.inputs].copy_from_slice(bytes);
    }

    /// Fills a view.
    pub(crate) fn set(&mut self, view: &View, values: &[f64]) {
        assert_eq!(view.length, values.len(), "values of another length than their buffer");
        self.slice_mut(view).copy_from_slice(&encode(view.element, values));
    }

    pub(crate) fn get(&self, view: &View) -> Vec<f64> {
        decode(view.element, self.slice(view))
    }

    /// Runs all steps.
    pub(crate) fn run(&mut self, schedule: &Schedule, order: u32) {
        match device() {
            None => self.run_on_host(schedule, order),
            Some(device) => self.run_on_device(schedule, device, order == REPLAYED),
        }
    }

    /// Persistent buffers go there and come back; everything else holds NaNs before.
    fn run_on_device(&mut self, schedule: &Schedule, device: &Device, replay: bool) {
        let mut executor = Executor::new(device, schedule, Cache::of_user().as_ref(), false).unwrap();
        let views = |lifetime: Lifetime| {
            let buffers = schedule.buffers().iter().enumerate().filter(move |(_, buffer)| buffer.lifetime == lifetime);
            buffers.map(|(at, buffer)| View { buffer: at, element: buffer.element, offset: 0, length: buffer.length })
        };
        let fill = |executor: &mut Executor| {
            for view in views(Lifetime::Temporary).chain(views(Lifetime::Persistent)).filter(|view| view.length > 0) {
                executor.write(&view, self.slice(&view)).unwrap();
            }
        };
        fill(&mut executor);
        if replay {
            executor.run().unwrap();
            executor.capture().unwrap();
            fill(&mut executor);
        }
        executor.run().unwrap();
        for view in views(Lifetime::Persistent).filter(|view| view.length > 0) {
            self.slice_mut(&view).copy_from_slice(&executor.read(&view).unwrap());
        }
    }

    fn run_on_host(&mut self, schedule: &Schedule, order: u32) {
        schedule.steps().iter().for_each(|step| self.run_step(step, order));
    }

    /// Runs some of the steps.
    pub(crate) fn run_part(&mut self, schedule: &Schedule, steps: Range<usize>) {
        schedule.steps()[steps].iter().for_each(|step| self.run_step(step, 0));
    }

    fn run_step(&mut self, step: &Step, order: u32) {
        match step {
            Step::Launch(launch) => self.launch(launch, order),
            Step::Product(product) => self.product(product),
            Step::Zero(view) => self.slice_mut(view).fill(0),
        }
    }

    fn product(&mut self, product: &Product) {
        let Product { rows, inner, columns, .. } = *product;
        let (left, right) = (self.get(&product.left), self.get(&product.right));
        let bias = product.bias.map(|bias| self.get(&bias));
        let before = product.add.unwrap_or(product.out);
        let mut out = if product.accumulate { self.get(&before) } else { vec![0.0; rows * columns] };
        for row in 0..rows {
            for column in 0..columns {
                let mut sum = bias.as_ref().map_or(0.0, |bias| bias[column]);
                for at in 0..inner {
                    let l = if product.left_transposed { left[at * rows + row] } else { left[row * inner + at] };
                    let r = if product.right_transposed {
                        right[column * inner + at]
                    } else {
                        right[at * columns + column]
                    };
                    sum += l * r;
                }
                out[row * columns + column] += sum;
            }
        }
        self.set(&product.out, &out);
    }

    fn launch(&mut self, launch: &Launch, order: u32) {
        let views = views(launch);
        let request = self.request(launch, &views, order);
        let answer = call(&compiled(&launch.module), launch, request);
        let mut rest = &answer[..];
        for (view, access) in &views {
            let (bytes, tail) = rest.split_at(view.length * view.element.bytes());
            if *access != Access::Read {
                self.slice_mut(view).copy_from_slice(bytes);
            } else {
                assert_eq!(self.slice(view), bytes, "{} wrote to what it is to read", launch.kernel);
            }
            rest = tail;
        }
        assert!(rest.is_empty(), "more came back than was sent");
    }

    fn request(&self, launch: &Launch, views: &[(View, Access)], order: u32) -> Vec<u8> {
        let mut request = Vec::new();
        let word = |request: &mut Vec<u8>, value: u32| request.extend(value.to_le_bytes());
        for value in launch.grid.into_iter().chain([launch.threads, order, views.len() as u32]) {
            word(&mut request, value);
        }
        for (view, access) in views {
            let bytes = self.slice(view);
            request.extend((bytes.len() as u64).to_le_bytes());
            match access {
                Access::Write => request.extend(std::iter::repeat_n(0xff, bytes.len())),
                Access::Read | Access::Update => request.extend(bytes),
            }
        }
        word(&mut request, launch.arguments.len() as u32);
        for argument in &launch.arguments {
            match *argument {
                Argument::Int(value) => request.extend([0i32.to_le_bytes(), value.to_le_bytes()].concat()),
                Argument::Float(value) => request.extend([1u32.to_le_bytes(), value.to_le_bytes()].concat()),
                Argument::Null => word(&mut request, 3),
                Argument::Read(view) | Argument::Write(view) | Argument::Update(view) => {
                    let at = views.iter().position(|(other, _)| *other == view).unwrap();
                    word(&mut request, 2);
                    word(&mut request, at as u32);
                }
            }
        }
        request
    }
}

/// What the environment asks for beside, or in place of, runs on the host.
enum Place {
    Device(Device),
    Architecture(String),
}

fn place() -> Option<&'static Place> {
    static PLACE: OnceLock<Option<Place>> = OnceLock::new();
    let asked = || match env::var("CONVNEXT_CUDA_TESTS").as_deref() {
        Err(_) => None,
        Ok("device") => Some(Place::Device(usable().unwrap())),
        Ok(name) if name.starts_with("sm_") => Some(Place::Architecture(name.into())),
        Ok(other) => panic!("CONVNEXT_CUDA_TESTS is {other}, and can be device or an architecture"),
    };
    PLACE.get_or_init(asked).as_ref()
}

/// The device that schedules run on, if that is asked for.
fn device() -> Option<&'static Device> {
    place().and_then(|place| if let Place::Device(device) = place { Some(device) } else { None })
}

/// Compiles what an executor of this schedule will look for.
fn fill_cache(schedule: &Schedule, architecture: &str) {
    let (compiler, cache) = (Compiler::load().unwrap(), Cache::of_user().expect("a home for the cache"));
    for step in schedule.steps() {
        if let Step::Launch(launch) = step {
            cache.get(compiler, &launch.module, architecture).unwrap();
        }
    }
}

/// The views of a launch, each once: one that is both read and written is updated.
fn views(launch: &Launch) -> Vec<(View, Access)> {
    let mut views: Vec<(View, Access)> = Vec::new();
    for (view, access) in Step::Launch(launch.clone()).accesses() {
        match views.iter_mut().find(|(other, _)| *other == view) {
            Some((_, other)) if *other != access => *other = Access::Update,
            Some(_) => {}
            None => views.push((view, access)),
        }
    }
    views
}

fn call(program: &Path, launch: &Launch, request: Vec<u8>) -> Vec<u8> {
    let mut command = Command::new(program);
    command.arg(launch.kernel).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // It reads everything before it answers. If it stops early its message says more than the broken pipe.
    let _ = input.write_all(&request);
    drop(input);
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} ({}): {message}\n{launch:?}", launch.kernel, output.status);
    output.stdout
}

/// The program of a module, compiled at most once.
fn compiled(module: &Module) -> PathBuf {
    static PROGRAMS: Mutex<Option<HashMap<Module, Arc<OnceLock<PathBuf>>>>> = Mutex::new(None);
    let slot = {
        let mut programs = PROGRAMS.lock().unwrap();
        programs.get_or_insert_default().entry(module.clone()).or_default().clone()
    };
    slot.get_or_init(|| compile(module)).clone()
}

fn compile(module: &Module) -> PathBuf {
    let Host { header, runtime } = Host::get();
    let mut text = format!("#include \"{}\"\n{}{}", header.display(), module.defines(), module.text());
    text += "\nint main(int, char **arguments) {\n";
    for kernel in module.source.kernels {
        text += &format!("    host::add<{kernel}>(\"{kernel}\");\n");
    }
    text += "    return host::serve(arguments[1]);\n}\n";
    let program = folder().join(digest(&text));
    if !program.exists() {
        let source = program.with_extension("cpp");
        write(&source, &text);
        build(&OPTIONS, &[source.as_os_str(), runtime.as_os_str()], &program);
    }
    program
}

/// What is compiled once for all: the header, and what it declares.
struct Host {
    header: PathBuf,
    runtime: PathBuf,
}

impl Host {
    fn get() -> &'static Self {
        static HOST: OnceLock<Host> = OnceLock::new();
        HOST.get_or_init(|| {
            let folder = folder().join(digest(""));
            fs::create_dir_all(&folder).unwrap();
            let [header, source] = ["host.hpp", "host.cpp"].map(|name| folder.join(name));
            let [compiled, runtime] = ["host.hpp.gch", "host.o"].map(|name| folder.join(name));
            if !compiled.exists() {
                write(&header, HEADER);
                write(&source, RUNTIME);
                // Before the header, which is compiled for other options: where it lies, the compiler takes it and fails.
                build(&RUNTIME_OPTIONS, &["-c".as_ref(), source.as_os_str()], &runtime);
                build(&OPTIONS, &["-x".as_ref(), "c++-header".as_ref(), header.as_os_str()], &compiled);
            }
            Self { header, runtime }
        })
    }
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda-on-host");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A name for what is made of a text.
fn digest(text: &str) -> String {
    let mut hash = Sha256::new();
    for text in [text].into_iter().chain(OPTIONS).chain(RUNTIME_OPTIONS).chain([HEADER, RUNTIME]) {
        hash.update(text);
        hash.update([0]);
    }
    hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

/// Under its name only when it is whole: other processes may look for it.
fn write(path: &Path, text: &str) {
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&partial, text).unwrap();
    fs::rename(partial, path).unwrap();
}

fn build(options: &[&str], inputs: &[&std::ffi::OsStr], to: &Path) {
    let compiler = env::var("CXX").unwrap_or_else(|_| "g++".into());
    let partial = to.with_extension(format!("{}.part", std::process::id()));
    let mut command = Command::new(&compiler);
    command.args(options).args(inputs).arg("-o").arg(&partial);
    let output =
        command.output().unwrap_or_else(|error| panic!("these tests need the C++ compiler {compiler}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(partial, to).unwrap();
}
