//! Where the time goes: how long every operation and every kernel took, for those who ask.
//!
//! An operation is timed on the thread that calls it; a kernel inside it on every thread that runs it, so that kernels
//! add up to CPU time and operations to wall time. Off until [`start`]; then a call costs two readings of the clock.

use std::{
    cmp::Reverse,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

static ON: AtomicBool = AtomicBool::new(false);
static SITES: Mutex<Vec<&'static Site>> = Mutex::new(Vec::new());
/// Time in kernels, of all threads together.
static KERNELS: AtomicU64 = AtomicU64::new(0);
/// The operation that runs now. There is one at a time.
static OPERATION: Mutex<Option<&Site>> = Mutex::new(None);

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A fused operation, forward or backward: wall time.
    Operation,
    /// A kernel inside operations: the time of all threads together.
    Kernel,
}

/// What was measured of an operation or a kernel since [`start`].
#[derive(Debug, Clone)]
pub struct Measured {
    /// Name.
    pub name: &'static str,
    /// Operation or kernel.
    pub kind: Kind,
    /// Calls.
    pub calls: u64,
    /// Time in them.
    pub time: Duration,
    /// Of an operation: time in the kernels inside it, of all threads together.
    pub kernels: Duration,
    /// Multiply-adds of the matrix products in them.
    pub multiply_adds: u64,
}

/// Begins anew.
pub fn start() {
    for site in lock(&SITES).iter() {
        site.clear();
    }
    ON.store(true, Relaxed);
}

/// Stops, and returns what was called, longest first.
pub fn stop() -> Vec<Measured> {
    ON.store(false, Relaxed);
    let mut found: Vec<_> = lock(&SITES).iter().map(|site| site.measured()).collect();
    found.retain(|site| site.calls > 0);
    found.sort_by_key(|site| Reverse(site.time));
    found
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts the multiply-adds of a matrix product, on its own site and on that of the operation around it.
pub(crate) fn count(site: &Site, multiply_adds: usize) {
    if ON.load(Relaxed) {
        site.multiply_adds.fetch_add(multiply_adds as u64, Relaxed);
        if let Some(operation) = *lock(&OPERATION) {
            operation.multiply_adds.fetch_add(multiply_adds as u64, Relaxed);
        }
    }
}

/// One place in the code whose calls are timed. See `timed!`.
pub(crate) struct Site {
    name: &'static str,
    kind: Kind,
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    kernels: AtomicU64,
    multiply_adds: AtomicU64,
    listed: AtomicBool,
}

impl Site {
    pub(crate) const fn new(name: &'static str, kind: Kind) -> Self {
        let [calls, nanoseconds, kernels, multiply_adds] = [const { AtomicU64::new(0) }; 4];
        Self { name, kind, calls, nanoseconds, kernels, multiply_adds, listed: AtomicBool::new(false) }
    }

    /// Times until the span is dropped.
    #[inline]
    pub(crate) fn span(&'static self) -> Option<Span> {
        ON.load(Relaxed).then(|| self.begin())
    }

    #[cold]
    fn begin(&'static self) -> Span {
        if !self.listed.swap(true, Relaxed) {
            lock(&SITES).push(self);
        }
        if self.kind == Kind::Operation {
            *lock(&OPERATION) = Some(self);
        }
        Span { site: self, kernels: KERNELS.load(Relaxed), start: Instant::now() }
    }

    fn clear(&self) {
        for counter in [&self.calls, &self.nanoseconds, &self.kernels, &self.multiply_adds] {
            counter.store(0, Relaxed);
        }
    }

    fn measured(&self) -> Measured {
        let [time, kernels] = [&self.nanoseconds, &self.kernels].map(|sum| Duration::from_nanos(sum.load(Relaxed)));
        let (calls, multiply_adds) = (self.calls.load(Relaxed), self.multiply_adds.load(Relaxed));
        Measured { name: self.name, kind: self.kind, calls, time, kernels, multiply_adds }
    }
}

/// Adds the time of its life to its site.
pub(crate) struct Span {
    site: &'static Site,
    /// [`KERNELS`] when it began.
    kernels: u64,
    start: Instant,
}

impl Drop for Span {
    fn drop(&mut self) {
        let time = self.start.elapsed().as_nanos() as u64;
        self.site.calls.fetch_add(1, Relaxed);
        self.site.nanoseconds.fetch_add(time, Relaxed);
        match self.site.kind {
            Kind::Operation => self.site.kernels.fetch_add(KERNELS.load(Relaxed) - self.kernels, Relaxed),
            Kind::Kernel => KERNELS.fetch_add(time, Relaxed),
        };
    }
}

/// `timed!(Kernel, "name")`: times until the end of the enclosing block.
macro_rules! timed {
    ($kind:ident, $name:expr) => {
        let _span = {
            static SITE: $crate::profile::Site = $crate::profile::Site::new($name, $crate::profile::Kind::$kind);
            SITE.span()
        };
    };
}

pub(crate) use timed;
