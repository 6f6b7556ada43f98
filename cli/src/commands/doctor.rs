//! `convnext doctor`: what this machine offers, and what is missing and why.

use std::path::PathBuf;

use convnext_core::simd::Level;
use convnext_cuda::detect::{self, NoCuda};
use convnext_data::DECODER;
use convnext_pipeline::device;
use serde::Serialize;

use crate::{Outcome, host, numbers::bytes, output};

/// Shows what this machine offers: instruction sets, cores, memory, CUDA, NCCL and MPI, and why something is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext doctor
  convnext doctor --json")]
pub struct Args {
    /// Writes JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    versions: Versions,
    simd: Simd,
    cpu: Option<String>,
    cores: usize,
    threads: usize,
    memory: Memory,
    cuda: Cuda,
    nccl: Library,
    mpi: Library,
}

#[derive(Serialize)]
struct Versions {
    convnext: &'static str,
    /// Which decoders turn bytes into pixels: part of what makes a run repeatable.
    decoder: &'static str,
    os: &'static str,
    architecture: &'static str,
}

#[derive(Serialize)]
struct Simd {
    /// The level in use.
    level: Option<&'static str>,
    /// What is wrong with the variable that forces one.
    error: Option<String>,
    /// Levels of this machine, slowest first.
    available: Vec<&'static str>,
}

#[derive(Serialize)]
struct Memory {
    total: Option<u64>,
    available: Option<u64>,
    limit: Option<u64>,
    peak_rss_mb: Option<f64>,
}

#[derive(Serialize)]
struct Cuda {
    /// Whether `--device auto` computes on a GPU.
    usable: bool,
    /// Why not.
    why: Option<String>,
    /// What the driver finds, usable or not.
    devices: Vec<Gpu>,
    kernel_driver: Option<String>,
    driver: Library,
    compiler: Library,
    products: Library,
}

#[derive(Serialize)]
struct Gpu {
    /// As `--device` takes it.
    device: String,
    name: String,
    /// Compute capability.
    capability: String,
    /// Bytes.
    memory: u64,
    /// Why it cannot be used, if it cannot.
    why: Option<String>,
}

#[derive(Serialize)]
struct Library {
    name: &'static str,
    found: bool,
    path: Option<PathBuf>,
    why: Option<String>,
}

impl Library {
    fn find(name: &'static str, from: &str) -> Self {
        let path = host::find_library(name);
        let folders = host::known_folders();
        let why = || format!("no {name} in LD_LIBRARY_PATH or the {folders} usual folders; it comes with {from}");
        Self { name, found: path.is_some(), why: path.is_none().then(why), path }
    }
}

impl Simd {
    fn look() -> Self {
        let available = Level::available().into_iter().map(Level::name).collect();
        let forced = std::env::var(Level::VARIABLE).ok().map(|name| name.parse::<Level>());
        match forced.transpose() {
            Ok(forced) => Self { level: Some(forced.unwrap_or_else(Level::detect).name()), error: None, available },
            Err(error) => Self { level: None, error: Some(format!("{}: {error}", Level::VARIABLE)), available },
        }
    }
}

impl Cuda {
    fn look() -> Self {
        let why = |error: NoCuda| error.why;
        let found = detect::usable().err().map(why);
        Self {
            usable: found.is_none(),
            why: found,
            devices: detect::devices().unwrap_or_default().into_iter().map(Gpu::of).collect(),
            kernel_driver: host::nvidia_driver(),
            driver: Library::find("libcuda.so.1", "the NVIDIA driver"),
            compiler: Library::find("libnvrtc.so", "the CUDA toolkit (package cuda-nvrtc)"),
            products: Library::find("libcublasLt.so", "the CUDA toolkit (package libcublas)"),
        }
    }

    fn line(&self) -> String {
        match &self.why {
            None => "usable".to_owned(),
            Some(why) => format!("not usable: {why}"),
        }
    }
}

impl Gpu {
    fn of(device: detect::Device) -> Self {
        Self {
            device: format!("cuda:{}", device.index),
            capability: format!("{}.{}", device.capability.0, device.capability.1),
            memory: device.memory as u64,
            why: device.supported().err().map(|error| error.why),
            name: device.name,
        }
    }

    fn line(&self) -> String {
        let why = self.why.as_ref().map_or_else(String::new, |why| format!("; not usable: {why}"));
        format!("{}, capability {}, {}{why}", self.name, self.capability, bytes(self.memory))
    }
}

impl Report {
    fn look() -> Self {
        let host::Memory { total, available, limit } = host::Memory::now();
        Self {
            versions: Versions {
                convnext: env!("CARGO_PKG_VERSION"),
                decoder: DECODER,
                os: std::env::consts::OS,
                architecture: std::env::consts::ARCH,
            },
            simd: Simd::look(),
            cpu: device::cpu_name(),
            cores: host::cores(),
            threads: rayon::current_num_threads(),
            memory: Memory { total, available, limit, peak_rss_mb: host::peak_rss_mb() },
            cuda: Cuda::look(),
            nccl: Library::find("libnccl.so.2", "NCCL (package libnccl2)"),
            mpi: Library::find("libmpi.so", "an MPI such as Open MPI (package libopenmpi3)"),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    let report = Report::look();
    if args.json { output::json(&report) } else { output::text(&text(&report)) }
}

fn text(report: &Report) -> String {
    let Report { versions, simd, memory, cuda, .. } = report;
    let level = match (simd.level, &simd.error) {
        (_, Some(error)) => error.clone(),
        (level, None) => format!("{} (available: {})", level.unwrap_or("unknown"), simd.available.join(", ")),
    };
    let cpu = report.cpu.as_deref().unwrap_or("unknown");
    let gpus = cuda.devices.iter().map(|gpu| (format!("  {}", gpu.device), gpu.line()));
    let before = [
        ("convnext", format!("{} on {} {}", versions.convnext, versions.os, versions.architecture)),
        ("decoder", versions.decoder.to_owned()),
        ("CPU", cpu.to_owned()),
        ("SIMD level", level),
        ("cores", format!("{}, computing with {} threads", report.cores, report.threads)),
        ("memory", memory_line(memory)),
        ("CUDA", cuda.line()),
    ];
    let after = [
        ("  kernel driver", cuda.kernel_driver.clone().unwrap_or_else(|| "not loaded".to_owned())),
        ("  driver library", library(&cuda.driver)),
        ("  compiler", library(&cuda.compiler)),
        ("  products", library(&cuda.products)),
        ("NCCL", library(&report.nccl)),
        ("MPI", library(&report.mpi)),
    ];
    let named = |(name, value): (&str, String)| (name.to_owned(), value);
    let lines = before.map(named).into_iter().chain(gpus).chain(after.map(named));
    lines.map(|(name, value)| format!("{name:<18}{value}\n")).collect()
}

fn memory_line(memory: &Memory) -> String {
    let amount = |amount: Option<u64>| amount.map_or_else(|| "unknown".to_owned(), bytes);
    let available = amount(memory.available);
    match memory.limit {
        Some(limit) => {
            let total = amount(memory.total);
            format!("{}, {available} available; a control group's limit, the machine has {total}", bytes(limit))
        }
        None => format!("{}, {available} available", amount(memory.total)),
    }
}

fn library(library: &Library) -> String {
    match (&library.path, &library.why) {
        (Some(path), _) => path.display().to_string(),
        (None, why) => format!("not found: {}", why.as_deref().unwrap_or("unknown")),
    }
}
