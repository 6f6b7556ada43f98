//! What this machine has. That it has nothing is a value, not a panic.

use cudarc::driver::{result, sys};
use thiserror::Error;

/// Why there is no CUDA here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no CUDA: {why}")]
pub struct NoCuda {
    /// What is missing, and what would help.
    pub why: String,
}

impl NoCuda {
    pub(crate) fn because(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number, as `--device cuda:N` takes it.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Compute capability, `(major, minor)`.
    pub capability: (u32, u32),
    /// Bytes of its memory.
    pub memory: usize,
}

impl Device {
    /// What NVRTC calls it, e.g. `sm_90`.
    pub fn architecture(&self) -> String {
        format!("sm_{}{}", self.capability.0, self.capability.1)
    }

    /// # Errors
    /// [`NoCuda`] if the device is older than what the kernels are compiled and checked for.
    pub fn supported(&self) -> Result<(), NoCuda> {
        if self.capability >= OLDEST {
            return Ok(());
        }
        let ((major, minor), (oldest, _)) = (self.capability, OLDEST);
        Err(NoCuda::because(format!(
            "{} has compute capability {major}.{minor}; the kernels need {oldest}.0 (A100, RTX 30) or newer",
            self.name
        )))
    }
}

/// The oldest devices with bf16 arithmetic.
const OLDEST: (u32, u32) = (8, 0);

/// The devices of this machine, in the driver's order; at least one.
///
/// # Errors
/// [`NoCuda`] if there is no driver, or it finds no device.
pub fn devices() -> Result<Vec<Device>, NoCuda> {
    if !driver_present() {
        return Err(NoCuda::because(
            "the driver's library, libcuda.so, is not on this machine; install the NVIDIA driver",
        ));
    }
    result::init().map_err(|error| driver("it does not start", error))?;
    let count = result::device::get_count().map_err(|error| driver("it does not count its devices", error))?;
    if count == 0 {
        return Err(NoCuda::because("the driver finds no device; is CUDA_VISIBLE_DEVICES set?"));
    }
    (0..count).map(device).collect()
}

fn driver(what: &str, error: result::DriverError) -> NoCuda {
    NoCuda::because(format!("the driver is there, but {what}: {:?}", error.0))
}

fn device(index: i32) -> Result<Device, NoCuda> {
    let failed = |error| driver("a device does not answer", error);
    let device = result::device::get(index).map_err(failed)?;
    let name = result::device::get_name(device).map_err(failed)?;
    let (memory, major, minor) = properties(device).map_err(failed)?;
    Ok(Device { index: index as usize, name, capability: (major as u32, minor as u32), memory })
}

fn properties(device: sys::CUdevice) -> Result<(usize, i32, i32), result::DriverError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    // SAFETY: `device` came from `cuDeviceGet` after `cuInit`; these calls only read what the driver knows of it.
    unsafe {
        Ok((
            result::device::total_mem(device)?,
            result::device::get_attribute(device, MAJOR)?,
            result::device::get_attribute(device, MINOR)?,
        ))
    }
}

/// The newest CUDA that the driver knows, `(major, minor)`.
fn driver_version() -> Result<(i32, i32), NoCuda> {
    let mut version = 0;
    // SAFETY: the pointer is to a live integer, which the call only writes.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|error| driver("it does not say its version", error))?;
    Ok((version / 1000, version % 1000 / 10))
}

/// That the driver knows a version of CUDA, which `what` needs.
pub(super) fn driver_at_least(needed: (i32, i32), what: &str) -> Result<(), NoCuda> {
    let found = driver_version()?;
    if found >= needed {
        return Ok(());
    }
    let why =
        format!("{what} needs a driver of CUDA {}.{}; this one is of {}.{}", needed.0, needed.1, found.0, found.1);
    Err(NoCuda::because(why))
}

/// cuBLASLt's major version.
fn products_major() -> i32 {
    // SAFETY: the call has no preconditions; the library is there, as the caller has seen.
    let version = unsafe { cudarc::cublaslt::sys::cublasLtGetVersion() };
    // 120805 is 12.8.5.
    (version / 10000) as i32
}

/// That the driver is not of an older major version than a library: it would not load what the library makes. A library
/// of a newer minor version is fine.
fn fits(library: &str, major: i32, driver: (i32, i32)) -> Result<(), NoCuda> {
    if major <= driver.0 {
        return Ok(());
    }
    Err(NoCuda::because(format!(
        "{library} here is CUDA {major}'s, and the driver knows CUDA {}.{} at most; update the driver, or install CUDA {}'s \
         libraries and put a folder first into LD_LIBRARY_PATH that has their {library} under this name, without a number \
         (a link will do): that name is taken before one with a number, and .{major} before .{}",
        driver.0, driver.1, driver.0, driver.0
    )))
}

/// Whether the driver's library can be loaded; asked first, since cudarc panics without it.
fn driver_present() -> bool {
    // SAFETY: loads libcuda.so, whose initialisers are NVIDIA's and have no preconditions, and lets it go.
    unsafe { sys::is_culib_present() }
}

/// Whether NVRTC can be loaded.
pub(crate) fn compiler_present() -> bool {
    // SAFETY: loads libnvrtc.so, whose initialisers have no preconditions, and lets it go.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

/// NVRTC's version, `(major, minor)`.
pub(crate) fn compiler_version() -> Result<(i32, i32), cudarc::nvrtc::result::NvrtcError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both pointers are to live integers, which the call only writes.
    unsafe { cudarc::nvrtc::sys::nvrtcVersion(&mut major, &mut minor) }.result()?;
    Ok((major, minor))
}

/// Whether cuBLASLt can be loaded.
fn products_present() -> bool {
    // SAFETY: loads libcublasLt.so, whose initialisers have no preconditions, and lets it go.
    unsafe { cudarc::cublaslt::sys::is_culib_present() }
}

/// The device that a run should take: the first that will do.
///
/// # Errors
/// [`NoCuda`] with what is missing: driver, device, NVRTC or cuBLASLt.
pub fn usable() -> Result<Device, NoCuda> {
    choose(None)
}

/// The device of this number, or without one the first that will do.
///
/// # Errors
/// [`NoCuda`] with what is missing: driver, device, NVRTC or cuBLASLt, or a driver that is as new as they are.
pub fn choose(index: Option<usize>) -> Result<Device, NoCuda> {
    let device = pick(devices()?, index)?;
    for (there, library) in [(compiler_present(), "libnvrtc.so"), (products_present(), "libcublasLt.so")] {
        if !there {
            return Err(NoCuda::because(format!(
                "{library} of CUDA 12 or 13 is not on this machine; install the CUDA toolkit's libraries, or put the folder \
                 that has it (of pip's nvidia-* wheels, say) into LD_LIBRARY_PATH"
            )));
        }
    }
    let driver = driver_version()?;
    let compiler = compiler_version().map_err(|error| NoCuda::because(format!("NVRTC does not answer: {error}")))?;
    fits("libnvrtc.so", compiler.0, driver)?;
    fits("libcublasLt.so", products_major(), driver)?;
    Ok(device)
}

/// The device of this number, or without one the first that is supported.
fn pick(devices: Vec<Device>, index: Option<usize>) -> Result<Device, NoCuda> {
    let count = devices.len();
    let wanted = index.or_else(|| devices.iter().position(|device| device.supported().is_ok())).unwrap_or(0);
    let none = || NoCuda::because(format!("there is no device {wanted}; the driver finds {count}, counted from 0"));
    let device = devices.into_iter().nth(wanted).ok_or_else(none)?;
    device.supported()?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_cuda_says_why() {
        match usable() {
            Ok(device) => assert!(device.capability >= OLDEST),
            Err(NoCuda { why }) => assert!(!why.is_empty()),
        }
    }

    #[test]
    fn the_first_that_will_do_is_picked_or_the_one_asked_for() {
        let device = |index, capability| Device { index, name: "a device".into(), capability, memory: 0 };
        let two = || vec![device(0, (7, 5)), device(1, (9, 0))];
        let index = |found: Result<Device, NoCuda>| found.map(|device| device.index).map_err(|error| error.why);
        assert_eq!(index(pick(two(), None)), Ok(1));
        assert_eq!(index(pick(two(), Some(1))), Ok(1));
        assert!(index(pick(two(), Some(0))).unwrap_err().contains("7.5"));
        assert!(index(pick(two(), Some(2))).unwrap_err().contains("no device 2; the driver finds 2"));
        assert!(index(pick(vec![device(0, (7, 5))], None)).unwrap_err().contains("7.5"));
    }

    #[test]
    fn libraries_of_a_newer_major_version_than_the_driver_s_are_refused() {
        for (major, driver) in [(12, (12, 0)), (12, (13, 0)), (13, (13, 0))] {
            assert_eq!(fits("libnvrtc.so", major, driver), Ok(()));
        }
        let why = fits("libnvrtc.so", 13, (12, 8)).unwrap_err().why;
        assert!(why.contains("libnvrtc.so here is CUDA 13's") && why.contains("CUDA 12.8 at most"), "{why}");
    }

    #[test]
    fn old_devices_are_refused() {
        let device = |capability| Device { index: 0, name: "a device".into(), capability, memory: 0 };
        assert_eq!(device((9, 0)).architecture(), "sm_90");
        assert_eq!(device((8, 0)).supported(), Ok(()));
        assert!(device((7, 5)).supported().unwrap_err().to_string().contains("compute capability 7.5"));
    }
}
