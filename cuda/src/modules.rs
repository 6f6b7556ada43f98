//! Kernels: modules compiled and loaded, and launches of them with everything looked up.

use std::{
    collections::{HashMap, HashSet},
    ffi::c_void,
    sync::Arc,
};

use convnext_core::launch::{
    kernel::Module,
    kernels::bias::add_bias,
    schedule::{Argument, Launch, Product, Schedule, Step, View},
};
use cudarc::{
    driver::{CudaContext, CudaFunction, CudaModule, CudaStream, DriverError},
    nvrtc::Ptx,
};
use rayon::prelude::*;

use crate::{
    cache::Cache,
    compile::{CompileError, Compiler},
    detect::Device,
    error::{ExecuteError, driver},
};

/// Modules that are loaded.
pub(super) struct Modules<'a> {
    context: &'a Arc<CudaContext>,
    compiler: Compiler,
    architecture: String,
    cache: Option<&'a Cache>,
    loaded: HashMap<Module, Arc<CudaModule>>,
}

impl<'a> Modules<'a> {
    pub(super) fn new(
        context: &'a Arc<CudaContext>,
        device: &Device,
        cache: Option<&'a Cache>,
    ) -> Result<Self, ExecuteError> {
        let compiler = Compiler::load()?;
        let architecture = compiler.architecture(device)?;
        Ok(Self { context, compiler, architecture, cache, loaded: HashMap::new() })
    }

    /// Compiles what is neither loaded nor in the cache, on all cores; loads it.
    pub(super) fn load(&mut self, steps: &[Step]) -> Result<(), ExecuteError> {
        let launched = steps.iter().filter_map(|step| match step {
            Step::Launch(launch) => Some(&launch.module),
            Step::Product(_) | Step::Zero(_) => None,
        });
        let missing: HashSet<&Module> = launched.filter(|module| !self.loaded.contains_key(module)).collect();
        let compile = |module| {
            let image = match self.cache {
                Some(cache) => cache.get(self.compiler, module, &self.architecture)?,
                None => self.compiler.compile(module, &self.architecture)?.cubin,
            };
            Ok((module, image))
        };
        let images: Vec<_> = missing.into_par_iter().map(compile).collect::<Result<_, CompileError>>()?;
        for (module, image) in images {
            let loaded = self.context.load_module(Ptx::from_binary(image)).map_err(driver("load a module"))?;
            self.loaded.insert(module.clone(), loaded);
        }
        Ok(())
    }

    /// A launch, its kernel and the addresses of its views looked up.
    pub(super) fn ready(&self, launch: &Launch, address: impl Fn(&View) -> u64) -> Result<ReadyLaunch, ExecuteError> {
        let function = self.loaded[&launch.module].load_function(launch.kernel).map_err(driver("find a kernel"))?;
        let word = |argument: &Argument| match argument {
            Argument::Read(view) | Argument::Write(view) | Argument::Update(view) => address(view),
            Argument::Null => 0,
            Argument::Int(value) => u64::from(*value as u32),
            Argument::Float(value) => u64::from(value.to_bits()),
        };
        let (grid, arguments) = (launch.grid.into(), launch.arguments.iter().map(word).collect());
        Ok(ReadyLaunch { function, grid, threads: launch.threads, arguments })
    }
}

/// What adds a product's bias, if it has one.
pub(super) fn ready_bias(
    product: &Product,
    modules: &mut Modules,
    address: impl Fn(&View) -> u64,
) -> Result<Option<ReadyLaunch>, ExecuteError> {
    let mut more = Schedule::new();
    if let Some(bias) = product.bias {
        add_bias(&mut more, product.out, bias)?;
    }
    modules.load(more.steps())?;
    let launches =
        more.steps().iter().filter_map(|step| if let Step::Launch(launch) = step { Some(launch) } else { None });
    launches.map(|launch| modules.ready(launch, &address)).next().transpose()
}

/// A launch whose arguments are words that the driver copies: addresses, or the low half for numbers.
pub(super) struct ReadyLaunch {
    function: CudaFunction,
    grid: (u32, u32, u32),
    threads: u32,
    arguments: Vec<u64>,
}

impl ReadyLaunch {
    /// Puts it onto a stream.
    pub(super) fn run(&self, stream: &CudaStream) -> Result<(), DriverError> {
        let mut launch = stream.launch_builder(&self.function);
        for argument in &self.arguments {
            cudarc::driver::PushKernelArg::arg(&mut launch, argument);
        }
        let config =
            cudarc::driver::LaunchConfig { grid_dim: self.grid, block_dim: (self.threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the driver copies as many bytes of each word as the kernel's parameter has: eight of an address, the
        // first four of a number, which on a little-endian machine are its value. Number and types of the arguments, and
        // that kernels stay inside of the views they are given, is what the tests that run every launch on the CPU
        // prove; the views lie inside of an allocation that outlives the stream's work.
        unsafe { launch.launch(config) }.map(|_| ())
    }
}

// The driver copies arguments from words of eight bytes.
const _: () = assert!(cfg!(target_endian = "little") && size_of::<*const c_void>() == 8);
