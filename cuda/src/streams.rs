//! A session's work on a device: the executor's stream, a second one for copies, and memory that copies need.

use std::{slice, sync::Arc};

use convnext_core::launch::schedule::View;
use cudarc::driver::{CudaContext, CudaEvent, CudaStream, result, sys::CUevent_flags};

use crate::{
    context::Memory,
    error::{ExecuteError, driver},
    executor::Executor,
    memory::Placement,
    session::{Backend, Command, Event, REPORTS, SLOTS, Stream},
    training::TrainingStep,
};

/// Page-locked memory of the host, which the device copies from and to while the host goes on; freed when dropped.
struct Pinned {
    start: *mut u8,
    bytes: usize,
}

impl Pinned {
    /// Zeros.
    fn new(context: &CudaContext, bytes: usize) -> Result<Self, ExecuteError> {
        context.bind_to_thread().map_err(driver("use the context"))?;
        // SAFETY: the context is current on this thread; the memory is set below, and freed in `drop` and nowhere else.
        let start = unsafe { result::malloc_host(bytes.max(1), 0) }.map_err(driver("lock memory of the host"))?;
        let start = start.cast::<u8>();
        // SAFETY: the driver gave as many bytes, which nothing else refers to.
        unsafe { start.write_bytes(0, bytes) };
        Ok(Self { start, bytes })
    }

    /// # Safety
    /// No copy from or to this memory is under way, and none is started for as long as the slice is alive.
    unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the memory is alive and was set by `new`; the caller promises that the device leaves it alone.
        unsafe { slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`; `Streams` waits for its streams before it is dropped.
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}

/// Memory of a batch on its way, on either side.
struct Slot {
    staging: Pinned,
    arrival: Memory,
    uploaded: CudaEvent,
    taken: CudaEvent,
}

/// A report on its way.
struct Entry {
    status: Pinned,
    reported: CudaEvent,
}

/// A training step on a device, with what feeds it.
///
/// Made for a [`Session`](super::session::Session), which is the only one to call it: that the host touches staging memory
/// and reports only when no copy is under way is the order of the session's commands, which its tests prove.
pub struct Streams {
    executor: Executor,
    step: TrainingStep,
    copy: Arc<CudaStream>,
    slots: [Slot; SLOTS],
    entries: [Entry; REPORTS],
}

/// Bytes of an update's status.
const STATUS: usize = 16;

impl Streams {
    /// For an executor of the step's schedule.
    ///
    /// # Errors
    /// [`ExecuteError`] if there is too little memory.
    pub(super) fn new(executor: Executor, step: TrainingStep) -> Result<Self, ExecuteError> {
        let (context, inputs) = (executor.context().clone(), executor.placement().inputs);
        let event = |flags| context.new_event(flags).map_err(driver("make an event"));
        // What the host waits for blocks its thread: one that spins for most of a step is one less for loading images.
        // cudarc takes a single flag, so these events keep their timing, which nobody reads.
        let awaited = || event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC));
        let slot = || {
            let (staging, arrival) = (Pinned::new(&context, inputs)?, Memory::new(&context, inputs)?);
            Ok::<_, ExecuteError>(Slot { staging, arrival, uploaded: awaited()?, taken: event(None)? })
        };
        let entry = || Ok::<_, ExecuteError>(Entry { status: Pinned::new(&context, STATUS)?, reported: awaited()? });
        let copy = context.new_stream().map_err(driver("make a stream"))?;
        Ok(Self { slots: [slot()?, slot()?], entries: [entry()?, entry()?, entry()?, entry()?], executor, step, copy })
    }

    fn event(&self, event: Event) -> &CudaEvent {
        match event {
            Event::Uploaded(slot) => &self.slots[slot].uploaded,
            Event::Taken(slot) => &self.slots[slot].taken,
            Event::Reported(entry) => &self.entries[entry].reported,
        }
    }

    fn stream(&self, stream: Stream) -> &CudaStream {
        match stream {
            Stream::Copy => &self.copy,
            Stream::Compute => self.executor.stream(),
        }
    }

    fn upload(&mut self, slot: usize) -> Result<(), ExecuteError> {
        let Slot { staging, arrival, .. } = &mut self.slots[slot];
        // SAFETY: the slice is read by the driver only from here on; the host fills it again after the slot's event.
        let bytes = unsafe { staging.as_mut_slice() };
        // SAFETY: both are as long as the inputs, and outlive the stream's work: `drop` waits for it.
        unsafe { result::memcpy_htod_async(arrival.start, bytes, self.copy.cu_stream()) }
            .map_err(driver("copy a batch"))
    }

    fn take(&self, slot: usize) -> Result<(), ExecuteError> {
        let (to, from) = (self.executor.inputs(), self.slots[slot].arrival.start);
        let (bytes, stream) = (self.executor.placement().inputs, self.executor.stream().cu_stream());
        // SAFETY: the inputs are the first bytes of the executor's memory, the arrival memory is as long as they are, and
        // both outlive the stream's work.
        unsafe { result::memcpy_dtod_async(to, from, bytes, stream) }.map_err(driver("take a batch"))
    }

    fn send_report(&mut self, entry: usize) -> Result<(), ExecuteError> {
        let from = self.executor.address(&self.step.state.status);
        // SAFETY: the host has read what the entry held before, and reads it again after the entry's event.
        let to = unsafe { self.entries[entry].status.as_mut_slice() };
        // SAFETY: the status is four f32, as many bytes as an entry has; both outlive the stream's work.
        unsafe { result::memcpy_dtoh_async(to, from, self.executor.stream().cu_stream()) }.map_err(driver("report"))
    }
}

impl Backend for Streams {
    type Error = ExecuteError;

    fn placement(&self) -> &Placement {
        self.executor.placement()
    }

    fn execute(&mut self, command: Command) -> Result<(), ExecuteError> {
        self.executor.context().bind_to_thread().map_err(driver("use the context"))?;
        match command {
            Command::Upload(slot) => self.upload(slot),
            Command::Take(slot) => self.take(slot),
            Command::Run(phase) => self.executor.replay(self.step.steps(phase)),
            Command::Report(entry) => self.send_report(entry),
            Command::Record(stream, event) => {
                self.event(event).record(self.stream(stream)).map_err(driver("record an event"))
            }
            Command::Wait(stream, event) => {
                self.stream(stream).wait(self.event(event)).map_err(driver("wait for an event"))
            }
            Command::Await(event) => self.event(event).synchronize().map_err(driver("finish")),
        }
    }

    fn staging(&mut self, slot: usize) -> &mut [u8] {
        // SAFETY: the session has awaited the last upload from this slot, and starts the next one when it has filled it.
        unsafe { self.slots[slot].staging.as_mut_slice() }
    }

    fn report(&mut self, entry: usize) -> [f32; 4] {
        // SAFETY: the session has awaited the copy to this entry, and starts the next one after this returns.
        let bytes = unsafe { self.entries[entry].status.as_mut_slice() };
        let value = |at: usize| f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        [value(0), value(4), value(8), value(12)]
    }

    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), ExecuteError> {
        self.executor.write(view, bytes)
    }

    fn read(&mut self, view: &View) -> Result<Vec<u8>, ExecuteError> {
        self.executor.read(view)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // Neither stream may use memory that is freed. An error here was one of `execute` already.
        let _ = self.copy.synchronize();
        let _ = self.executor.finish();
    }
}
