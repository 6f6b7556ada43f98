//! What was compiled and chosen, kept on disk between runs.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use convnext_core::launch::kernel::Module;
use sha2::{Digest, Sha256};

use crate::{
    compile::{CompileError, Compiler, options},
    products::Algorithm,
};

/// Counted up when what the files hold changes.
const VERSION: u32 = 1;

/// Bytes of the checksum that a file begins with.
const CHECKSUM: usize = 32;

/// Compiled modules on disk, by the hash of everything that they depend on.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// A cache in this folder, which need not exist.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The user's: `$XDG_CACHE_HOME/convnext/kernels`, or `~/.cache/convnext/kernels`; `None` without a home.
    pub fn of_user() -> Option<Self> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
        Some(Self::at(base.join("convnext").join("kernels")))
    }

    /// What [`Compiler::compile`] makes of the module: from the cache, or compiled and kept there. Where the cache cannot be
    /// written, modules are compiled each time.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn get(&self, compiler: Compiler, module: &Module, architecture: &str) -> Result<Vec<u8>, CompileError> {
        let path = self.folder.join(key(compiler, module, architecture));
        if let Some(cubin) = read(&path) {
            return Ok(cubin);
        }
        let cubin = compiler.compile(module, architecture)?.cubin;
        // Another run compiles again; nothing else is lost.
        let _ = write(&path, &cubin);
        Ok(cubin)
    }

    /// The algorithm that was the fastest for what `key` describes, if one was kept.
    pub(super) fn algorithm(&self, key: &str) -> Option<Algorithm> {
        let bytes = read(&self.product(key))?;
        let (words, []) = bytes.as_chunks::<8>() else { return None };
        let words: &[[u8; 8]; 8] = words.try_into().ok()?;
        Some(words.map(u64::from_le_bytes))
    }

    /// Keeps it.
    pub(super) fn keep_algorithm(&self, key: &str, algorithm: Algorithm) {
        // Another run looks for it again; nothing else is lost.
        let _ = write(&self.product(key), &algorithm.map(u64::to_le_bytes).concat());
    }

    fn product(&self, key: &str) -> PathBuf {
        self.folder.join(format!("product-{}.algorithm", hexadecimal(&Sha256::digest(key))))
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Text, options, architecture, compiler: whatever changes one of them changes the key.
fn key(compiler: Compiler, module: &Module, architecture: &str) -> String {
    let (major, minor) = compiler.version;
    let mut hash = Sha256::new();
    for part in [format!("{VERSION} {major} {minor}"), module.text()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    for option in options(module, architecture) {
        hash.update((option.len() as u64).to_le_bytes());
        hash.update(option);
    }
    let digest = hexadecimal(&hash.finalize());
    format!("{}-{digest}.cubin", module.source.name.trim_end_matches(".cu"))
}

/// The cubin in a file of the cache, if it is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    let (checksum, cubin) = bytes.split_at_checked(CHECKSUM)?;
    (checksum == Sha256::digest(cubin).as_slice()).then(|| cubin.to_vec())
}

/// Under its name only when it is whole: other processes may look for it.
fn write(path: &Path, cubin: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let partial = path.with_extension(format!("{}.part", std::process::id()));
    fs::write(&partial, [Sha256::digest(cubin).as_slice(), cubin].concat())?;
    fs::rename(partial, path)
}

#[cfg(test)]
mod tests {
    use convnext_core::launch::{element::Element, kernels::reduce::PARTIAL};

    use super::*;

    #[test]
    fn keys_differ_with_everything_that_matters() {
        let module = |threads| Module::new(&PARTIAL, Element::F32).with("THREADS", threads);
        let compiler = Compiler { version: (12, 9) };
        let keys = [
            key(compiler, &module(256), "sm_90"),
            key(compiler, &module(128), "sm_90"),
            key(compiler, &module(256), "sm_80"),
            key(Compiler { version: (12, 8) }, &module(256), "sm_90"),
        ];
        assert_eq!(keys[0], key(compiler, &module(256), "sm_90"));
        for (at, key) in keys.iter().enumerate() {
            assert!(!keys[..at].contains(key), "{keys:?}");
        }
    }

    #[test]
    fn algorithms_are_kept_by_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let algorithm = [1, 2, 3, 4, 5, 6, 7, u64::MAX];
        assert_eq!(cache.algorithm("one"), None);
        cache.keep_algorithm("one", algorithm);
        assert_eq!((cache.algorithm("one"), cache.algorithm("two")), (Some(algorithm), None));
        write(&cache.product("two"), &[0; 63]).unwrap();
        assert_eq!(cache.algorithm("two"), None);
    }

    #[test]
    fn a_damaged_file_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("a.cubin");
        assert_eq!(read(&path), None);
        write(&path, b"cubin").unwrap();
        assert_eq!(read(&path), Some(b"cubin".to_vec()));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read(&path), None);
        fs::write(&path, &bytes[..7]).unwrap();
        assert_eq!(read(&path), None);
    }
}
