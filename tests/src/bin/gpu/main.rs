//! What `tests/gpu/run.sh` carries to a machine with a GPU: without arguments, an order as JSON on standard input and a
//! report as JSON on standard output; with arguments, the command line.

mod bench;
mod data;
mod operation;
mod side;

use std::{
    error::Error,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
};

use convnext_core::{Entry, launch::element::Element};
use convnext_cuda::{compile::Compiler, detect};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    data::Batch,
    side::{OnCpu, OnDevice, Side},
};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Order {
    /// What there is.
    Describe {},
    /// Loss and gradients of one batch.
    Pass {
        on: On,
        job: Job,
        model: String,
        dtype: Dtype,
        /// In any known layout.
        weights: PathBuf,
        /// `images`, and `mask` or `targets`.
        inputs: PathBuf,
        /// Where gradients go, in the official layout.
        gradients: PathBuf,
    },
    /// Losses of a short training.
    Train { on: On, job: Job, model: String, dtype: Dtype, batch: usize, steps: u64 },
    /// Milliseconds of whole steps.
    Bench(bench::Order),
    /// Compiles what a `bench` of the same order needs, for an architecture; needs no device.
    Compile { architecture: String, order: bench::Order },
    /// Milliseconds of a step by kernel.
    Profile(bench::Order),
    /// Milliseconds of some of a block's kernels.
    Operation(operation::Order),
}

/// Which executor works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum On {
    Cpu,
    Cuda,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Job {
    Pretrain,
    Finetune,
    Infer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Dtype {
    F32,
    Bf16,
}

impl From<Dtype> for Element {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        return convnext::run(&convnext::models::builtin());
    }
    match obey() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn obey() -> Outcome<Value> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    match serde_json::from_str(&text)? {
        Order::Describe {} => describe(),
        Order::Pass { on, job, model, dtype, weights, inputs, gradients } => {
            let entry = find(&model)?;
            let batch = Batch::read(&inputs, &entry.plan, job)?;
            let mut side = side(on, &entry, job, dtype, batch.samples, side::Start::File(&weights))?;
            let loss = side.step(&batch, 1)?;
            side.save_gradients(&gradients)?;
            Ok(json!({ "loss": loss }))
        }
        Order::Train { on, job, model, dtype, batch, steps } => {
            let entry = find(&model)?;
            let batches = data::batches(&entry.plan, job, batch)?;
            let mut side = side(on, &entry, job, dtype, batch, side::Start::Noise)?;
            let step = |update: u64| side.step(&batches[update as usize % batches.len()], update);
            let losses = (1..=steps).map(step).collect::<Outcome<Vec<f32>>>()?;
            Ok(json!({ "losses": losses }))
        }
        Order::Bench(order) => bench::run(&order),
        Order::Compile { architecture, order } => bench::compile(&order, &architecture),
        Order::Profile(order) => bench::profile(&order),
        Order::Operation(order) => operation::run(&order),
    }
}

pub(crate) fn find(model: &str) -> Outcome<Entry> {
    let found = convnext::models::builtin().into_iter().find(|entry| entry.plan.name == model);
    found.ok_or_else(|| format!("there is no variant {model}").into())
}

fn describe() -> Outcome<Value> {
    let device = detect::usable()?;
    let (major, minor) = Compiler::load()?.version();
    Ok(json!({
        "device": device.name,
        "architecture": device.architecture(),
        "memory_mb": device.memory as f64 / f64::from(1 << 20),
        "nvrtc": format!("{major}.{minor}"),
    }))
}

fn side(on: On, entry: &Entry, job: Job, dtype: Dtype, samples: usize, start: side::Start) -> Outcome<Box<dyn Side>> {
    Ok(match on {
        On::Cpu => Box::new(OnCpu::new(entry, job, dtype, start)?),
        On::Cuda => Box::new(OnDevice::new(entry, job, dtype, samples, start)?),
    })
}
