//! What this machine is: cores, memory, libraries. Nothing is loaded to find out; what CUDA itself says is in `core`.

mod cgroup;

use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
};

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Most memory that this process has had in use, in MiB; `None` where the system does not tell.
pub(crate) fn peak_rss_mb() -> Option<f64> {
    Some(kibibytes("/proc/self/status", "VmHWM:")? as f64 / 1024.0)
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// All of the machine's.
    pub(crate) total: Option<u64>,
    /// What this process could take now.
    pub(crate) available: Option<u64>,
    /// What control groups allow, if they allow less.
    pub(crate) limit: Option<u64>,
}

impl Memory {
    /// As it is now.
    pub(crate) fn now() -> Self {
        let bytes = |field| kibibytes("/proc/meminfo", field).map(|kibibytes| kibibytes << 10);
        let (total, free) = (bytes("MemTotal:"), bytes("MemAvailable:"));
        // A group without a limit of its own says some enormous number.
        let allowed = cgroup::memory().filter(|allowed| total.is_none_or(|total| allowed.limit < total));
        let left = allowed.map(|allowed| allowed.left);
        Self { total, available: free.into_iter().chain(left).min(), limit: allowed.map(|allowed| allowed.limit) }
    }

    /// What this process may use at most.
    pub(crate) fn most(&self) -> Option<u64> {
        self.limit.or(self.total)
    }
}

fn kibibytes(file: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(field))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Where a shared library would be.
const FOLDERS: [&str; 14] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/usr/local/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/compat",
    "/usr/local/cuda/targets/x86_64-linux/lib",
    "/opt/cuda/lib64",
    "/usr/lib/x86_64-linux-gnu/openmpi/lib",
    "/opt/amazon/openmpi/lib64",
];

/// The first file in the known folders whose name is `name`, or `name` with a version behind it.
///
/// `LD_LIBRARY_PATH` is looked through first, as the loader does.
pub(crate) fn find_library(name: &str) -> Option<PathBuf> {
    let set = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let set: Vec<PathBuf> = env::split_paths(&set).filter(|folder| !folder.as_os_str().is_empty()).collect();
    set.into_iter().chain(FOLDERS.map(PathBuf::from)).find_map(|folder| in_folder(&folder, name))
}

fn in_folder(folder: &Path, name: &str) -> Option<PathBuf> {
    let fits = |file: &str| file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| fits(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect();
    found.sort();
    found.into_iter().next()
}

/// How many folders [`find_library`] knows by itself.
pub(crate) fn known_folders() -> usize {
    FOLDERS.len()
}

/// The version of the NVIDIA kernel driver, if it is loaded.
pub(crate) fn nvidia_driver() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_with_and_without_version() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["libx.so.12", "libxy.so", "libz.so"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = |name| in_folder(folder.path(), name).map(|path| path.file_name().unwrap().to_owned());
        assert_eq!(found("libx.so").unwrap(), "libx.so.12");
        assert_eq!(found("libz.so").unwrap(), "libz.so");
        assert_eq!(found("libx"), Some("libx.so.12".into()));
        assert_eq!(found("liby.so"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn linux_tells_about_memory() {
        assert!(Memory::now().total.unwrap() > 0);
        assert!(peak_rss_mb().unwrap() > 0.0);
    }
}
