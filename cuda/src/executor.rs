//! Runs a schedule on a device.
//!
//! All buffers lie in one allocation, where the placement says. Modules are loaded and products prepared once; after
//! that a run is a list of launches on one stream, which can be captured in a CUDA graph and replayed, whole or in parts.

use std::{collections::HashMap, ops::Range, sync::Arc};

use convnext_core::launch::schedule::{Schedule, Step, View};
use cudarc::driver::{
    CudaContext, CudaGraph, CudaStream, result,
    sys::{CUdeviceptr, CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode},
};

use crate::{
    cache::Cache,
    context::{Memory, context, room},
    detect::{self, Device},
    error::{ExecuteError, driver},
    memory::{self, Placement},
    modules::{Modules, ReadyLaunch, ready_bias},
    products::{Bias, Prepared, Products, WORKSPACE},
};

/// A step with everything looked up.
enum Ready {
    Launch(ReadyLaunch),
    /// With what adds the bias, if the library does not.
    Product(Box<Prepared>, Option<ReadyLaunch>),
    Zero {
        start: CUdeviceptr,
        bytes: usize,
    },
}

/// What is tried when a product is put onto a stream.
const MULTIPLY: &str = "multiply matrices";

/// Times that an algorithm is timed; the first loads it.
const TIMINGS: usize = 5;

/// Steps that are replayed together.
struct Part {
    steps: Range<usize>,
    graph: Option<CudaGraph>,
}

/// A schedule on a device.
///
/// Fields are dropped in order: the graph and what is prepared before the memory that they refer to.
pub struct Executor {
    parts: Vec<Part>,
    ready: Vec<Ready>,
    /// How many of the schedule's steps before each one are run; one more entry than steps.
    before: Vec<usize>,
    products: Products,
    memory: Memory,
    placement: Placement,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

impl Executor {
    /// Places the buffers, compiles and loads the kernels, and chooses algorithms for the products.
    ///
    /// `tf32` allows f32 products to round their factors to 10 bits of mantissa.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub fn new(device: &Device, schedule: &Schedule, cache: Option<&Cache>, tf32: bool) -> Result<Self, ExecuteError> {
        Self::with_slots(device, schedule, cache, tf32, 0)
    }

    /// The same, if beside it there is room for `slots` copies of the schedule's inputs, which the caller allocates.
    pub(super) fn with_slots(
        device: &Device,
        schedule: &Schedule,
        cache: Option<&Cache>,
        tf32: bool,
        slots: usize,
    ) -> Result<Self, ExecuteError> {
        device.supported()?;
        let placement = memory::place(schedule);
        memory::check(schedule, &placement)?;
        let context = context(device.index)?;
        room(&context, placement.bytes() + WORKSPACE + slots * placement.inputs)?;
        let stream = context.new_stream().map_err(driver("make a stream"))?;
        let memory = Memory::new(&context, placement.bytes())?;
        let products = Products::new(tf32)?;
        let mut modules = Modules::new(&context, device, cache)?;
        modules.load(schedule.steps())?;
        let address = |view: &View| memory.start + placement.range(view).start as u64;
        let ready = |step: &Step| -> Result<Ready, ExecuteError> {
            Ok(match step {
                Step::Launch(launch) => Ready::Launch(modules.ready(launch, address)?),
                Step::Product(product) => {
                    let prepared = products.prepare(product, address)?;
                    let bias =
                        if prepared.bias == Bias::Left { ready_bias(product, &mut modules, address)? } else { None };
                    Ready::Product(Box::new(prepared), bias)
                }
                Step::Zero(view) => Ready::Zero { start: address(view), bytes: placement.range(view).len() },
            })
        };
        let ready: Vec<Ready> = Self::steps(schedule).map(ready).collect::<Result<_, _>>()?;
        let mut before = vec![0];
        before.extend(schedule.steps().iter().scan(0, |sum, step| {
            *sum += usize::from(is_run(step));
            Some(*sum)
        }));
        Ok(Self { parts: Vec::new(), ready, before, products, memory, placement, stream, context })
    }

    /// Copies values to the device, and returns when the copy has been made.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    ///
    /// # Panics
    /// If there are more or fewer bytes than the view has.
    pub fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), ExecuteError> {
        let range = self.range(view);
        assert_eq!(range.len(), bytes.len(), "values of another length than their buffer");
        self.context.bind_to_thread().map_err(driver("use the context"))?;
        let start = self.address(view);
        // SAFETY: the range lies inside of our allocation; `bytes` is borrowed until the stream has finished.
        unsafe { result::memcpy_htod_async(start, bytes, self.stream.cu_stream()) }.map_err(driver("copy"))?;
        self.finish()
    }

    /// Copies values from the device, when everything before has finished.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    pub fn read(&self, view: &View) -> Result<Vec<u8>, ExecuteError> {
        let mut bytes = vec![0u8; self.range(view).len()];
        self.context.bind_to_thread().map_err(driver("use the context"))?;
        let start = self.address(view);
        // SAFETY: the range lies inside of our allocation; `bytes` is borrowed until the stream has finished.
        unsafe { result::memcpy_dtoh_async(&mut bytes, start, self.stream.cu_stream()) }.map_err(driver("copy"))?;
        self.finish()?;
        Ok(bytes)
    }

    /// Bytes of a view; every use of an address goes through here.
    fn range(&self, view: &View) -> Range<usize> {
        let range = self.placement.range(view);
        assert!(range.end <= self.memory.bytes, "a view of another schedule");
        range
    }

    /// Waits until everything before has finished.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`], also of what ran before.
    pub fn finish(&self) -> Result<(), ExecuteError> {
        self.stream.synchronize().map_err(driver("finish"))
    }

    /// Starts the schedule: the graph, if it was captured, else step by step.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    pub fn run(&mut self) -> Result<(), ExecuteError> {
        let whole = self.whole();
        self.context.bind_to_thread().map_err(driver("use the context"))?;
        match self.parts.iter().find_map(|part| part.graph.as_ref().filter(|_| part.steps == whole)) {
            Some(graph) => graph.launch().map_err(driver("replay the graph")),
            None => self.run_steps(whole),
        }
    }

    /// Starts a part of the schedule: the first time step by step, since libraries load what they need when it is
    /// used first, which a capture does not allow; the second time it is captured, and from then on replayed.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    pub fn replay(&mut self, steps: Range<usize>) -> Result<(), ExecuteError> {
        self.context.bind_to_thread().map_err(driver("use the context"))?;
        let at = match self.parts.iter().position(|part| part.steps == steps) {
            Some(at) => at,
            None => {
                self.run_steps(steps.clone())?;
                self.parts.push(Part { steps, graph: None });
                return Ok(());
            }
        };
        if self.parts[at].graph.is_none() {
            self.parts[at].graph = self.captured(steps.clone())?;
        }
        match &self.parts[at].graph {
            Some(graph) => graph.launch().map_err(driver("replay the graph")),
            None => self.run_steps(steps),
        }
    }

    /// Captures the schedule in a CUDA graph; later runs replay it.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`].
    pub fn capture(&mut self) -> Result<(), ExecuteError> {
        self.context.bind_to_thread().map_err(driver("use the context"))?;
        let steps = self.whole();
        let graph = self.captured(steps.clone())?;
        self.parts.retain(|part| part.steps != steps);
        self.parts.push(Part { steps, graph });
        Ok(())
    }

    /// The graph of some steps; `None` if there are none.
    fn captured(&self, steps: Range<usize>) -> Result<Option<CudaGraph>, ExecuteError> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(driver("begin a capture"))?;
        let ran = self.run_steps(steps);
        // Ended even if a step failed: a stream that captures can do nothing else.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0)).map_err(driver("end a capture"));
        ran?;
        graph
    }

    /// All steps of the schedule.
    fn whole(&self) -> Range<usize> {
        0..self.before.len() - 1
    }

    fn run_steps(&self, steps: Range<usize>) -> Result<(), ExecuteError> {
        let ready = &self.ready[self.before[steps.start]..self.before[steps.end]];
        ready.iter().try_for_each(|step| self.run_step(step))
    }

    fn run_step(&self, step: &Ready) -> Result<(), ExecuteError> {
        let stream = self.stream.cu_stream();
        match step {
            Ready::Launch(launch) => launch.run(&self.stream).map_err(driver("launch a kernel")),
            Ready::Product(product, bias) => {
                self.multiply(product)?;
                bias.iter().try_for_each(|bias| bias.run(&self.stream)).map_err(driver("add a bias"))
            }
            Ready::Zero { start, bytes } => {
                // SAFETY: the range was worked out from the placement, and lies inside of our allocation.
                unsafe { result::memset_d8_async(*start, 0, *bytes, stream) }.map_err(driver("set memory to zero"))
            }
        }
    }

    /// Milliseconds that each step takes, the least of `rounds` runs; steps that multiply nothing are left out, as
    /// [`Executor::steps`] leaves them out.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`]; [`ExecuteError::NoCuda`] if the driver is older than 12.8.
    pub fn profile(&self, rounds: usize) -> Result<Vec<f32>, ExecuteError> {
        detect::driver_at_least(TIMING_DRIVER, "profile")?;
        self.context.bind_to_thread().map_err(driver("use the context"))?;
        let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let mut least = vec![f32::INFINITY; self.ready.len()];
        for _ in 0..rounds {
            let mut events = vec![self.stream.record_event(timed).map_err(driver("record an event"))?];
            for step in &self.ready {
                self.run_step(step)?;
                events.push(self.stream.record_event(timed).map_err(driver("record an event"))?);
            }
            self.finish()?;
            for (least, pair) in least.iter_mut().zip(events.windows(2)) {
                *least = least.min(pair[0].elapsed_ms(&pair[1]).map_err(driver("read an event"))?);
            }
        }
        Ok(least)
    }

    /// Times several algorithms for every product, where it stands, and keeps the fastest; without this the library's first
    /// guess is taken. Choices stay in the cache: a product that comes again, in this program or another, is not timed
    /// again. Returns how many were timed. Products write where they always do: fill the memory after this.
    ///
    /// A run that is to be the same to the bit needs the same choices.
    ///
    /// # Errors
    /// [`ExecuteError::Driver`]; [`ExecuteError::NoCuda`] if the driver is older than 12.8.
    pub fn time_products(&mut self, cache: Option<&Cache>) -> Result<usize, ExecuteError> {
        detect::driver_at_least(TIMING_DRIVER, "timing products")?;
        self.context.bind_to_thread().map_err(driver("use the context"))?;
        let device = self.context.name().map_err(driver("say the device's name"))?;
        let mut ready = std::mem::take(&mut self.ready);
        let (mut known, mut timed) = (HashMap::new(), 0);
        let mut choose = |product: &mut Prepared| {
            let key = format!("{device} {}", self.products.key(product));
            if let Some(algorithm) = known.get(&key).copied().or_else(|| cache?.algorithm(&key)) {
                product.algorithm = algorithm;
            } else {
                self.fastest(product)?;
                timed += 1;
                cache.inspect(|cache| cache.keep_algorithm(&key, product.algorithm));
            }
            known.insert(key, product.algorithm);
            Ok(())
        };
        let products = ready.iter_mut().filter_map(|step| match step {
            Ready::Product(product, _) => Some(product),
            Ready::Launch(_) | Ready::Zero { .. } => None,
        });
        let chosen = products.into_iter().try_for_each(|product| choose(product));
        self.ready = ready;
        chosen.map(|()| timed)
    }

    /// Gives a product the fastest of its algorithms. One that does not run is passed over: it was a guess.
    fn fastest(&self, product: &mut Prepared) -> Result<(), ExecuteError> {
        let candidates = self.products.candidates(product).unwrap_or_default();
        let first = product.algorithm;
        let mut best = (f32::INFINITY, first);
        for algorithm in candidates {
            product.algorithm = algorithm;
            let milliseconds = match self.time(product) {
                Err(ExecuteError::Driver { what: MULTIPLY, .. }) => continue,
                time => time?,
            };
            if milliseconds < best.0 {
                best = (milliseconds, algorithm);
            }
        }
        product.algorithm = best.1;
        Ok(())
    }

    /// Milliseconds of a product, the least of a few.
    fn time(&self, product: &Prepared) -> Result<f32, ExecuteError> {
        let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let record = || self.stream.record_event(timed).map_err(driver("record an event"));
        let mut least = f32::INFINITY;
        for _ in 0..TIMINGS {
            let start = record()?;
            self.multiply(product)?;
            let end = record()?;
            self.finish()?;
            least = least.min(start.elapsed_ms(&end).map_err(driver("read an event"))?);
        }
        Ok(least)
    }

    fn multiply(&self, product: &Prepared) -> Result<(), ExecuteError> {
        let failed = |error: cudarc::cublaslt::result::CublasError| ExecuteError::Driver {
            what: MULTIPLY,
            error: format!("{:?}", error.0),
        };
        self.products.run(product, self.stream.cu_stream()).map_err(failed)
    }

    /// The steps of a schedule that are run: all but products of an empty matrix.
    pub fn steps(schedule: &Schedule) -> impl Iterator<Item = &Step> {
        schedule.steps().iter().filter(|step| is_run(step))
    }

    /// Where the buffers lie.
    pub(super) fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The address of a view.
    pub(super) fn address(&self, view: &View) -> CUdeviceptr {
        self.memory.start + self.range(view).start as u64
    }

    /// The address of the inputs.
    pub(super) fn inputs(&self) -> CUdeviceptr {
        self.memory.start
    }

    /// The stream that everything runs on.
    pub(super) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The context that everything belongs to.
    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}

/// The first driver with `cuEventElapsedTime_v2`.
const TIMING_DRIVER: (i32, i32) = (12, 8);

/// Whether a step has anything to do.
fn is_run(step: &Step) -> bool {
    !matches!(step, Step::Product(product) if product.is_empty())
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Memory must not be freed under a running kernel. An error here was one of `run` already.
        let _ = self.context.bind_to_thread();
        let _ = self.stream.synchronize();
    }
}
