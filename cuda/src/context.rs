//! A device's context and its memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use cudarc::driver::{CudaContext, result, sys::CUdeviceptr};

use crate::error::{ExecuteError, driver};

/// Memory of the device; freed when dropped.
pub(super) struct Memory {
    pub(super) start: CUdeviceptr,
    pub(super) bytes: usize,
}

impl Memory {
    pub(super) fn new(context: &CudaContext, bytes: usize) -> Result<Self, ExecuteError> {
        context.bind_to_thread().map_err(driver("use the context"))?;
        // SAFETY: the context is current on this thread; the memory is freed in `drop` and nowhere else.
        let start = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(driver("allocate memory"))?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`; whoever has it waits for the streams that use it before it is dropped.
        let _ = unsafe { result::free_sync(self.start) };
    }
}

/// The context of a device, one for the process: to make one takes a good part of a second.
pub(super) fn context(device: usize) -> Result<Arc<CudaContext>, ExecuteError> {
    static CONTEXTS: Mutex<BTreeMap<usize, Arc<CudaContext>>> = Mutex::new(BTreeMap::new());
    // What is in the map is whole whenever the lock is released.
    let mut contexts = CONTEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(context) = contexts.get(&device) {
        return Ok(context.clone());
    }
    let context = CudaContext::new(device).map_err(driver("open the device"))?;
    // With tracking the first stream of a context synchronises it, which spoils a capture on another thread.
    // SAFETY: events are tracked for `CudaSlice`s alone, and none is made: memory and its order are this crate's own.
    unsafe { context.disable_event_tracking() };
    contexts.insert(device, context.clone());
    Ok(context)
}

/// That as many bytes are free as everything together will need: said before anything is allocated or compiled.
pub(super) fn room(context: &CudaContext, needed: usize) -> Result<(), ExecuteError> {
    let (free, _) = context.mem_get_info().map_err(driver("say how much memory is free"))?;
    if needed > free { Err(ExecuteError::OutOfMemory { needed, free }) } else { Ok(()) }
}
