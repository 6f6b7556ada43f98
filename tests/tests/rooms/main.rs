//! The order of the rooms, as ARCHITECTURE.md gives it: which crate may know which, that no folder has a circle, and where
//! the things are that have one home.

mod modules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use modules::{Module, modules};

/// Every crate with those of ours that it may use. Who comes later may use who came earlier, never the other way.
const ROOMS: &[(&str, &[&str])] = &[
    ("convnext-macros", &[]),
    ("convnext-core", &["convnext-macros"]),
    ("convnext-macros-ui", &["convnext-core"]),
    ("convnext-files", &[]),
    ("convnext-weights", &["convnext-core", "convnext-files"]),
    ("convnext-cuda", &["convnext-core"]),
    ("convnext-pixels", &[]),
    ("convnext-data", &["convnext-files", "convnext-pixels"]),
    ("convnext-pipeline", &["convnext-core", "convnext-files", "convnext-weights", "convnext-cuda", "convnext-data"]),
    ("convnext-models", &["convnext-core"]),
    (
        "convnext",
        &[
            "convnext-core",
            "convnext-weights",
            "convnext-cuda",
            "convnext-data",
            "convnext-pipeline",
            "convnext-models",
        ],
    ),
    ("convnext-examples", &["convnext-core", "convnext-weights", "convnext-data", "convnext"]),
    (
        "convnext-tests",
        &["convnext-core", "convnext-weights", "convnext-cuda", "convnext-data", "convnext-pipeline", "convnext"],
    ),
];

/// What is named in one place only: the words, and the files or folders that may name them.
const HOMES: &[(&str, &[&str], &[&str])] = &[
    ("instructions", &["std::arch", "core::arch"], &["core/src/simd"]),
    ("CUDA's calls", &["cudarc"], &["cuda/src"]),
    ("dfdx's tape", &["add_backward_op", "split_tape"], &["core/src/nn/tape.rs"]),
    ("the map", &["memmap2"], &["data/src/shard/map.rs"]),
    ("threads that last", &["thread::Builder", "thread::spawn"], &["pipeline/src"]),
    (
        "permission for unsafe code",
        &["allow(unsafe_code"],
        &[
            "cuda/src/lib.rs",
            "core/src/simd/mod.rs",
            "data/src/shard/mod.rs",
            "pipeline/src/stream/mod.rs",
            "cli/src/lib.rs",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Name, folder, and those of our crates that it depends on, of every crate of the workspace.
fn crates() -> Vec<(String, PathBuf, BTreeSet<String>)> {
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<String> = packages.iter().map(|package| text(&package["name"])).collect();
    let of = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let known = dependencies.map(|dependency| text(&dependency["name"])).filter(|name| ours.contains(name));
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned();
        (text(&package["name"]), folder, known.collect())
    };
    packages.iter().map(of).collect()
}

#[test]
fn crates_know_only_those_before_them() {
    for (index, (room, before)) in ROOMS.iter().enumerate() {
        let earlier: Vec<&str> = ROOMS[..index].iter().map(|(name, _)| *name).collect();
        assert!(before.iter().all(|name| earlier.contains(name)), "{room} comes before what it may use");
    }
    let allowed: BTreeMap<&str, &[&str]> = ROOMS.iter().copied().collect();
    let crates = crates();
    assert_eq!(crates.len(), ROOMS.len(), "every crate has its place in the order");
    for (name, _, known) in crates {
        let may = allowed[name.as_str()];
        let strangers: Vec<&String> = known.iter().filter(|known| !may.contains(&known.as_str())).collect();
        assert!(strangers.is_empty(), "{name} may not depend on {strangers:?}");
    }
}

#[test]
fn no_folder_has_a_circle() {
    let mut circles = Vec::new();
    for (name, folder, _) in crates() {
        if name != "convnext-tests" {
            circles.extend(self::circles(&name, &modules(&folder.join("src"))));
        }
    }
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

/// The circles among the entries of each folder. What a folder's entries hold is taken together; a folder's own file
/// (`mod.rs`) is the folder seen from outside, so that it and what lies in it may know each other.
fn circles(name: &str, modules: &[Module]) -> Vec<String> {
    let folders: BTreeSet<&[String]> = modules.iter().filter_map(|module| Some(module.path.split_last()?.1)).collect();
    let mut circles = Vec::new();
    for folder in folders {
        let mut knows: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
        for module in modules {
            for used in &module.uses {
                if let (Some(from), Some(to)) = (entry(folder, &module.path), entry(folder, used))
                    && from != to
                {
                    let edge = format!("{} uses {}", module.path.join("/"), used.join("/"));
                    knows.entry(from).or_default().entry(to).or_insert(edge);
                }
            }
        }
        if let Some(circle) = circle(&knows) {
            let edges = (0..circle.len()).map(|at| knows[circle[at]][circle[(at + 1) % circle.len()]].as_str());
            circles.push(format!("{name}: {}", edges.collect::<Vec<_>>().join(", ")));
        }
    }
    circles
}

/// The entry of a folder that a module is, or lies in.
fn entry<'a>(folder: &[String], module: &'a [String]) -> Option<&'a str> {
    module.strip_prefix(folder)?.first().map(String::as_str)
}

/// Some circle, if there is one.
fn circle<'a>(knows: &BTreeMap<&'a str, BTreeMap<&'a str, String>>) -> Option<Vec<&'a str>> {
    fn visit<'a>(
        at: &'a str,
        knows: &BTreeMap<&'a str, BTreeMap<&'a str, String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = way.iter().position(|&earlier| earlier == at) {
            return Some(way[start..].to_vec());
        }
        if !done.insert(at) {
            return None;
        }
        way.push(at);
        let found = knows.get(at).into_iter().flat_map(BTreeMap::keys).find_map(|next| visit(next, knows, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    knows.keys().find_map(|start| visit(start, knows, &mut Vec::new(), &mut done))
}

#[test]
fn what_has_one_home_is_named_nowhere_else() {
    let root = root();
    let mut files = Vec::new();
    for (_, folder, _) in crates() {
        modules::sources(&folder.join("src"), &mut files);
    }
    for (what, words, homes) in HOMES {
        let mut found = false;
        for file in &files {
            let at = file.strip_prefix(&root).unwrap();
            let text = fs::read_to_string(file).unwrap();
            let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            let Some(word) = words.iter().find(|word| code.iter().any(|line| line.contains(*word))) else { continue };
            let own = at.file_name().is_some_and(|name| name == "tests.rs")
                || at.components().any(|c| c.as_os_str() == "tests");
            assert!(own || homes.iter().any(|home| at.starts_with(home)), "{what}: {} names {word}", at.display());
            found = true;
        }
        assert!(found, "{what} is nowhere: the list is out of date");
    }
}
