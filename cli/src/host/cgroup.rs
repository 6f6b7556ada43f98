//! What control groups allow this process: the tightest limit on the way from its group up to the root.
//!
//! Version 2 has one hierarchy, version 1 one a controller. Inside a container the root of the mounted hierarchy is often
//! the container's own group, while `/proc/self/cgroup` names it as the host does; folders that are not there are passed
//! over, and the root is looked at too.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes of memory, as the tightest group has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    /// What the group may use.
    pub(super) limit: u64,
    /// What it could still take, page cache that would be given back included.
    pub(super) left: u64,
}

/// The memory that the groups of this process allow; `None` where nothing limits it.
pub(super) fn memory() -> Option<Allowed> {
    memory_in(Path::new("/sys/fs/cgroup"), &fs::read_to_string("/proc/self/cgroup").ok()?)
}

/// As [`memory`], of a hierarchy mounted at `root`; `groups` is the text of `/proc/self/cgroup`.
fn memory_in(root: &Path, groups: &str) -> Option<Allowed> {
    let folders = groups.lines().filter_map(|line| folders(root, line)).flatten();
    let allowed: Vec<Allowed> = folders.filter_map(|folder| allowed(&folder)).collect();
    let limit = allowed.iter().map(|allowed| allowed.limit).min()?;
    let left = allowed.iter().map(|allowed| allowed.left).min()?;
    Some(Allowed { limit, left })
}

/// The folders of a group and of those above it, from a line `number:controllers:path`.
fn folders(root: &Path, line: &str) -> Option<Vec<PathBuf>> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    let mounts = match controllers {
        "" => vec![root.to_owned(), root.join("unified")],
        _ if controllers.split(',').any(|controller| controller == "memory") => vec![root.join("memory")],
        _ => return None,
    };
    // A path may not lead out of the hierarchy.
    let path: PathBuf =
        Path::new(path).components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect();
    let above = |mount: &PathBuf| path.ancestors().map(|group| mount.join(group)).collect::<Vec<_>>();
    Some(mounts.iter().flat_map(above).collect())
}

/// Limit and use of one group, in either version's files.
fn allowed(folder: &Path) -> Option<Allowed> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    // `max` is no number: no limit.
    let limit = number("memory.max").or_else(|| number("memory.limit_in_bytes"))?;
    let used = number("memory.current").or_else(|| number("memory.usage_in_bytes")).unwrap_or(0);
    let statistics = read("memory.stat").unwrap_or_default();
    let cache = ["total_inactive_file ", "inactive_file "].iter().find_map(|name| {
        let line = statistics.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    });
    let used = used.saturating_sub(cache.unwrap_or(0));
    Some(Allowed { limit, left: limit.saturating_sub(used) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hierarchy with these files.
    fn hierarchy(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn found(files: &[(&str, &str)], groups: &str) -> Option<(u64, u64)> {
        memory_in(hierarchy(files).path(), groups).map(|allowed| (allowed.limit, allowed.left))
    }

    #[test]
    fn the_tightest_group_counts_wherever_it_is() {
        let nested = [
            ("a/memory.max", "3000\n"),
            ("a/memory.current", "1000"),
            ("a/b/memory.max", "max\n"),
            ("a/b/c/memory.max", "5000"),
            ("a/b/c/memory.current", "4900"),
            ("a/b/c/memory.stat", "anon 100\ninactive_file 4000\n"),
        ];
        assert_eq!(found(&nested, "0::/a/b/c\n"), Some((3000, 2000)));
        assert_eq!(found(&nested, "0::/a/b\n"), Some((3000, 2000)));
        assert_eq!(found(&nested, "0::/\n"), None);
    }

    #[test]
    fn version_1_has_a_folder_for_memory() {
        let files = [
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/docker/x/memory.limit_in_bytes", "2147483648\n"),
            ("memory/docker/x/memory.usage_in_bytes", "1073741824\n"),
            ("memory/docker/x/memory.stat", "inactive_file 1\ntotal_inactive_file 536870912\n"),
            ("cpu/docker/x/memory.max", "1"),
        ];
        let groups = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n";
        assert_eq!(found(&files, groups), Some((2 << 30, 1536 << 20)));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        assert_eq!(found(&[("memory.max", "4096"), ("memory.current", "96")], "0::/host/name\n"), Some((4096, 4000)));
        let one = [("memory/memory.limit_in_bytes", "4096")];
        assert_eq!(found(&one, "11:memory:/kubepods/burstable/pod1\n"), Some((4096, 4096)));
    }

    #[test]
    fn no_path_leads_out() {
        let files = [("g/memory.max", "max"), ("x/memory.max", "7")];
        assert_eq!(found(&files, "0::/../x\n"), Some((7, 7)), "the parts that are names are within");
        assert_eq!(found(&files, "nonsense\n0\n:::\n"), None);
    }
}
