//! NVRTC: the compiler of kernels, and what it reports of them.

use std::ffi::{CString, c_char};

use convnext_core::launch::kernel::Module;
use cudarc::nvrtc::{result, sys};
use thiserror::Error;

use crate::detect::{Device, NoCuda, compiler_present, compiler_version};

/// Options beside constants and architecture. Fused multiply-adds are on: they round less.
const OPTIONS: [&str; 3] = ["--std=c++17", "--ptxas-options=-v", "--fmad=true"];

/// NVRTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compiler {
    pub(super) version: (i32, i32),
}

/// A module for one architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// What the driver loads: code of the architecture, or for a virtual one PTX that ends with its NUL.
    pub cubin: Vec<u8>,
    /// What the compiler said.
    pub log: String,
}

/// Why a module did not compile.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name} does not compile ({error}) with {options:?}:\n{log}")]
pub struct CompileError {
    /// The kernel file.
    pub name: &'static str,
    /// What NVRTC calls it.
    pub error: String,
    /// The options.
    pub options: Vec<String>,
    /// What the compiler said.
    pub log: String,
}

impl Compiler {
    /// Loads NVRTC.
    ///
    /// # Errors
    /// [`NoCuda`] if it is not on this machine.
    pub fn load() -> Result<Self, NoCuda> {
        if !compiler_present() {
            return Err(NoCuda::because("NVRTC's library, libnvrtc.so, is not on this machine"));
        }
        let version = compiler_version().map_err(|error| NoCuda::because(format!("NVRTC does not answer: {error}")))?;
        Ok(Self { version })
    }

    /// Version, `(major, minor)`.
    pub fn version(self) -> (i32, i32) {
        self.version
    }

    /// What is compiled for a device: its architecture, e.g. `sm_90`, or if it is newer than NVRTC the newest virtual one
    /// that there is, e.g. `compute_90`, which the driver compiles for the device when it is loaded.
    ///
    /// # Errors
    /// [`NoCuda`] if NVRTC knows nothing that the device can run.
    pub fn architecture(self, device: &Device) -> Result<String, NoCuda> {
        let failed = |error| NoCuda::because(format!("NVRTC does not say what it compiles for: {error}"));
        let known = architectures().map_err(failed)?;
        let why = || {
            let (major, minor) = self.version;
            let name = &device.name;
            NoCuda::because(format!("NVRTC {major}.{minor} compiles for nothing that {name} runs; install a newer one"))
        };
        target(device, &known).ok_or_else(why)
    }

    /// Compiles for one architecture, e.g. `sm_90`, or a virtual one, e.g. `compute_90`.
    ///
    /// # Errors
    /// [`CompileError`] with options and log.
    pub fn compile(self, module: &Module, architecture: &str) -> Result<Compiled, CompileError> {
        let options = options(module, architecture);
        let failed = |error: &dyn ToString, log: String| CompileError {
            name: module.source.name,
            error: error.to_string(),
            options: options.clone(),
            log,
        };
        let text = CString::new(module.text()).map_err(|error| failed(&error, String::new()))?;
        let program = Program::new(&text).map_err(|error| failed(&error, String::new()))?;
        let compiled = program.compile(&options);
        let log = program.log();
        compiled.map_err(|error| failed(&error, log.clone()))?;
        let image = if architecture.starts_with(VIRTUAL) { program.ptx() } else { program.cubin() };
        let cubin = image.map_err(|error| failed(&error, log.clone()))?;
        Ok(Compiled { cubin, log })
    }
}

/// What the names of virtual architectures begin with.
const VIRTUAL: &str = "compute_";

/// Of the architectures that a compiler knows, as ten times the major number and the minor one: the device's own, or the
/// newest before it as a virtual one.
fn target(device: &Device, known: &[i32]) -> Option<String> {
    let (major, minor) = device.capability;
    let own = (10 * major + minor) as i32;
    if known.contains(&own) {
        return Some(device.architecture());
    }
    known.iter().filter(|&&number| number < own).max().map(|number| format!("{VIRTUAL}{number}"))
}

fn architectures() -> Result<Vec<i32>, result::NvrtcError> {
    let mut count = 0;
    // SAFETY: the pointer is to a live integer, which the call only writes.
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result()?;
    let mut known = vec![0; count.max(0) as usize];
    // SAFETY: there is room for as many integers as the call before said that this one writes.
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }.result()?;
    Ok(known)
}

pub(super) fn options(module: &Module, architecture: &str) -> Vec<String> {
    let fixed = OPTIONS.iter().map(|option| (*option).to_owned());
    fixed.chain([format!("--gpu-architecture={architecture}")]).chain(module.options()).collect()
}

/// A program of NVRTC; destroyed when dropped.
struct Program<'a> {
    program: sys::nvrtcProgram,
    /// NVRTC may refer to the text for as long as the program lives.
    _text: &'a CString,
}

impl<'a> Program<'a> {
    fn new(text: &'a CString) -> Result<Self, result::NvrtcError> {
        Ok(Self { program: result::create_program(text, None)?, _text: text })
    }

    fn compile(&self, options: &[String]) -> Result<(), result::NvrtcError> {
        // SAFETY: `program` was created by `new` and is destroyed by `drop` only. Options hold no NUL: they are ours.
        unsafe { result::compile_program(self.program, options) }
    }

    fn log(&self) -> String {
        // SAFETY: as above.
        let log = unsafe { result::get_program_log(self.program) }.unwrap_or_default();
        let bytes: Vec<u8> = log.into_iter().map(|c| c as u8).take_while(|&c| c != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn cubin(&self) -> Result<Vec<u8>, result::NvrtcError> {
        let mut length = 0;
        // SAFETY: `program` is alive; the pointer is to a live integer, which the call only writes.
        unsafe { sys::nvrtcGetCUBINSize(self.program, &mut length) }.result()?;
        let mut cubin = vec![0u8; length];
        // SAFETY: `cubin` has the length that the program asked for, and u8 and c_char have the same layout.
        unsafe { sys::nvrtcGetCUBIN(self.program, cubin.as_mut_ptr().cast::<c_char>()) }.result()?;
        Ok(cubin)
    }

    fn ptx(&self) -> Result<Vec<u8>, result::NvrtcError> {
        // SAFETY: `program` is alive.
        let ptx = unsafe { result::get_ptx(self.program) }?;
        Ok(ptx.into_iter().map(|c| c as u8).collect())
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: `program` is alive, and nothing uses it after this. A failure to destroy it leaks memory, no more.
        let _ = unsafe { result::destroy_program(self.program) };
    }
}

/// What the compiler says that a kernel takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// Name of the kernel.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: usize,
    /// Bytes that a thread stores because it has too few registers.
    pub spill_stores: usize,
    /// Bytes that it loads again.
    pub spill_loads: usize,
    /// Bytes of a thread's stack: arrays that could not be registers.
    pub stack: usize,
    /// Bytes of shared memory of a block.
    pub shared: usize,
}

impl Compiled {
    /// Reads the compiler's report. Empty for what came from a cache.
    pub fn usage(&self) -> Vec<Usage> {
        let mut list: Vec<Usage> = Vec::new();
        for line in self.log.lines() {
            if let Some(rest) = line.split_once("Compiling entry function '").map(|(_, rest)| rest) {
                let kernel = rest.split('\'').next().unwrap_or_default().to_owned();
                list.push(Usage { kernel, registers: 0, spill_stores: 0, spill_loads: 0, stack: 0, shared: 0 });
            }
            let Some(usage) = list.last_mut() else { continue };
            usage.registers = number_before(line, " registers").unwrap_or(usage.registers);
            usage.spill_stores = number_before(line, " bytes spill stores").unwrap_or(usage.spill_stores);
            usage.spill_loads = number_before(line, " bytes spill loads").unwrap_or(usage.spill_loads);
            usage.stack = number_before(line, " bytes stack frame").unwrap_or(usage.stack);
            usage.shared = number_before(line, " bytes smem").unwrap_or(usage.shared);
        }
        list
    }
}

fn number_before(line: &str, what: &str) -> Option<usize> {
    let (before, _) = line.split_once(what)?;
    before.rsplit([' ', ',']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use convnext_core::launch::{element::Element, kernels::reduce::PARTIAL};

    const REPORT: &str = "\
ptxas info    : 8 bytes gmem
ptxas info    : Compiling entry function 'one' for 'sm_90'
ptxas info    : Function properties for one
ptxas         .     16 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 1920 bytes smem
ptxas info    : Compiling entry function 'two' for 'sm_90'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, used 0 barriers
";

    #[test]
    fn the_report_is_read() {
        let usage = Compiled { cubin: Vec::new(), log: REPORT.into() }.usage();
        let one =
            Usage { kernel: "one".into(), registers: 255, spill_stores: 4, spill_loads: 12, stack: 16, shared: 1920 };
        let two = Usage { kernel: "two".into(), registers: 32, spill_stores: 0, spill_loads: 0, stack: 0, shared: 0 };
        assert_eq!(usage, [one, two]);
    }

    #[test]
    fn a_device_newer_than_the_compiler_gets_the_newest_virtual_architecture() {
        let target = |capability, known: &[i32]| {
            target(&Device { index: 0, name: "a device".into(), capability, memory: 0 }, known)
        };
        assert_eq!(target((9, 0), &[80, 90, 120]).as_deref(), Some("sm_90"));
        assert_eq!(target((10, 3), &[80, 90, 100]).as_deref(), Some("compute_100"));
        assert_eq!(target((13, 0), &[80, 120, 90]).as_deref(), Some("compute_120"));
        assert_eq!(target((8, 0), &[90]), None);
    }

    /// What the driver compiles is text, and ends with a NUL.
    #[test]
    #[ignore = "needs NVRTC: see docs/gpu.md"]
    fn a_virtual_architecture_gives_ptx() {
        let module = Module::new(&PARTIAL, Element::F32).with("THREADS", 256);
        let newest = *architectures().unwrap().iter().max().unwrap();
        let image = Compiler::load().unwrap().compile(&module, &format!("{VIRTUAL}{newest}")).unwrap().cubin;
        let text = std::ffi::CStr::from_bytes_with_nul(&image).unwrap().to_str().unwrap();
        assert!(text.contains(&format!(".target sm_{newest}")) && text.contains("sum_rows"), "{text}");
    }
}
