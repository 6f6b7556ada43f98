//! How the C library's allocator treats the activations: large, of the same sizes step after step.

/// Keeps freed memory for the next step.
///
/// By default the allocator gives large blocks back to the system at once; taking them again costs a page fault for every
/// 4 KiB, and every return interrupts the other cores. That was a tenth of a training step.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep() {
    /// The largest value that the library takes.
    const LARGE: libc::c_int = 32 << 20;
    // SAFETY: `mallopt` sets numbers of the allocator and nothing else; it is called before there are other threads.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// Other allocators are left alone.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep() {}
