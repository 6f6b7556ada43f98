//! Threads that stay awake between operations.
//!
//! A step is hundreds of parallel passes with short serial parts between them. rayon's threads sleep after some microseconds
//! without work, and to wake one takes up to a millisecond where its CPU went idle, as on a virtual machine. So during
//! steps they look for work somewhat longer, as the threads of OpenMP do.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use rayon::Yield;

/// How long a thread looks for work: longer than the serial parts of a step take, shorter than the wait for a batch may.
const PATIENCE: Duration = Duration::from_millis(5);

/// Threads that do so.
static AWAKE: AtomicUsize = AtomicUsize::new(0);

/// Keeps the threads of the current pool awake for the passes that follow, but for one: the caller, or the one that works in
/// its place.
pub(crate) fn stay_awake() {
    if AWAKE.load(Ordering::Relaxed) > 0 || rayon::current_num_threads() < 2 {
        return;
    }
    let caller = rayon::current_thread_index().unwrap_or(0);
    rayon::spawn_broadcast(move |context| {
        if context.index() != caller {
            look_for_work();
        }
    });
}

/// Works for others until there was nothing to do for some time. This ends even if it began inside of a job that another
/// waits for, so that it delays that one but blocks nobody.
fn look_for_work() {
    AWAKE.fetch_add(1, Ordering::Relaxed);
    let mut since = Instant::now();
    while since.elapsed() < PATIENCE {
        match rayon::yield_now() {
            Some(Yield::Executed) => since = Instant::now(),
            _ => thread::yield_now(),
        }
    }
    AWAKE.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn work_is_done_and_threads_rest_at_last() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for _ in 0..100 {
            // From outside of a pool, and from one of its threads.
            stay_awake();
            let sum: usize = pool.install(|| {
                stay_awake();
                (0..1000usize).into_par_iter().with_max_len(10).map(|i| (0..i).into_par_iter().sum::<usize>()).sum()
            });
            assert_eq!(sum, (1..1000).map(|i| i * (i - 1) / 2).sum::<usize>());
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while AWAKE.load(Ordering::Relaxed) > 0 {
            assert!(Instant::now() < deadline, "a thread looks for work for ever");
            thread::sleep(PATIENCE);
        }
    }

    /// Steps side by side, each of whose threads may be kept by the other's.
    #[test]
    fn callers_do_not_block_each_other() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.install(|| {
                            stay_awake();
                            (0..64usize)
                                .into_par_iter()
                                .with_max_len(1)
                                .map(|i| (0..i * 100).sum::<usize>())
                                .sum::<usize>()
                        });
                    }
                });
            }
        });
    }
}
