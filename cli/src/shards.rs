//! Shards by patterns, and folders of images by their names.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use convnext_data::{Folder, ShardSet, shard::Opening};
use convnext_pipeline::{input::access, recipe::Io, tell};

use crate::{Failure, Outcome, passed_over};

/// The environment variable that names a folder of indices, for shards beside which nothing can be written.
pub(crate) const INDICES: &str = "CONVNEXT_INDEX_DIR";

/// Most patterns that one with braces may stand for.
const ALTERNATIVES: usize = 1 << 20;

/// The folder of indices, where one is set.
pub(crate) fn indices() -> Option<PathBuf> {
    std::env::var_os(INDICES).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// How shards are opened.
pub(crate) fn opening(io: Io) -> Opening {
    Opening { access: access(io), indices: indices() }
}

/// Opens the shards and folders of some patterns as one set, and says what is to be known of them.
pub(crate) fn open(patterns: &[String], io: Io) -> Outcome<Arc<ShardSet>> {
    open_set(patterns, io).map(Arc::new)
}

/// As [`open`], for callers that change the labels.
pub(crate) fn open_set(patterns: &[String], io: Io) -> Outcome<ShardSet> {
    open_paths(&expand(patterns)?, io)
}

/// Opens shards and folders as one set, and says what is to be known of them.
pub(crate) fn open_paths(paths: &[PathBuf], io: Io) -> Outcome<ShardSet> {
    paths.iter().try_for_each(|path| check_folder(path))?;
    let set = ShardSet::open_with(paths, &opening(io))?;
    tell_of(&set);
    tell::detail(format_args!("opened shards: {}, samples: {}", set.shards().count(), set.len()));
    Ok(set)
}

/// Fails for a folder of shards, whose shards are to be named: they may belong to several sets.
fn check_folder(path: &Path) -> Outcome {
    let is_shard = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "tar");
    match path.is_dir() && fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| is_shard(&entry))) {
        true => {
            let folder = path.display().to_string();
            let folder = folder.trim_end_matches('/');
            Err(Failure::failed(format!(
                "`{folder}` is a folder of shards; say which, for example '{folder}/train-*.tar'"
            )))
        }
        false => Ok(()),
    }
}

/// Says, once, what is unusual about shards and folders.
fn tell_of(set: &ShardSet) {
    set.folders().for_each(tell_of_folder);
    let moved: Vec<_> = set.shards().filter(|shard| shard.is_moved()).collect();
    if let [first, others @ ..] = moved.as_slice() {
        let more = if others.is_empty() { String::new() } else { format!(" and {} more", others.len()) };
        tell::say(format_args!(
            "{}{more}: modified since it was indexed, but the content is the same; `convnext index` makes it open faster",
            first.path().display()
        ));
    }
    if let Some((shard, why)) = set.shards().find_map(|shard| Some((shard, shard.not_mapped()?))) {
        let path = shard.path().display();
        tell::warn(format_args!("{path}: cannot be mapped into memory ({why}); shards are read with ordinary reads"));
    }
}

/// Says what a folder holds beside its images, and when shards would be faster.
fn tell_of_folder(folder: &Folder) {
    passed_over::tell(folder.passed_over());
    if folder.len() >= Folder::MANY {
        let path = folder.path().display();
        tell::say(format_args!(
            "{path}: {} files, each of which is opened in every epoch; shards are read faster, on network disks above all: \
             `convnext pack --folder {path} --output DIR/NAME`",
            folder.len()
        ));
    }
}

/// Says, where labels are used, that names joined several sets.
pub(crate) fn tell_of_classes(set: &ShardSet) {
    if let Some(names) = set.class_names().filter(|_| set.is_joined_by_name()) {
        tell::say(format_args!(
            "several sets of images, joined by the names of their classes: {} classes",
            names.len()
        ));
    }
}

/// The files and folders of some patterns, pattern by pattern, in the order of their names; each once.
pub(crate) fn expand(patterns: &[String]) -> Outcome<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut seen = HashSet::new();
    for pattern in patterns {
        for pattern in alternatives(pattern)? {
            for path in matches(&pattern)? {
                match seen.insert(path.clone()) {
                    true => paths.push(path),
                    false => tell::warn(format_args!("{}: is named twice, and taken once", path.display())),
                }
            }
        }
    }
    Ok(paths)
}

/// The files of one pattern, or the folder that it names.
fn matches(pattern: &str) -> Outcome<Vec<PathBuf>> {
    if Path::new(pattern).is_dir() {
        return Ok(vec![PathBuf::from(pattern)]);
    }
    let what = || format!("`{pattern}` is not a pattern of files");
    let paths = glob::glob(pattern).map_err(|error| Failure::because(what(), error))?;
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(|error| Failure::because(what(), error))?;
    if paths.is_empty() && Path::new(pattern).is_file() {
        // A name with brackets in it.
        paths.push(PathBuf::from(pattern));
    }
    let beside = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "idx" || extension == "txt");
    if let Some(other) = paths.iter().find(beside) {
        let other = other.display();
        return Err(Failure::failed(format!(
            "`{pattern}` matches {other}, which is not a shard; end the pattern in .tar"
        )));
    }
    match paths.is_empty() {
        true => Err(Failure::failed(format!(
            "no file matches `{pattern}`; quote the pattern, name a folder of images, or make shards with `convnext pack`"
        ))),
        false => Ok(paths),
    }
}

/// What a pattern with braces stands for, as shells have it: `{a,b}` for one or the other, `{000..120}` for numbers.
pub(crate) fn alternatives(pattern: &str) -> Outcome<Vec<String>> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(next) = open.pop() {
        match split(&next) {
            Some((before, parts, after)) => {
                open.extend(parts.into_iter().rev().map(|part| format!("{before}{part}{after}")));
            }
            None => done.push(next),
        }
        if open.len() + done.len() > ALTERNATIVES {
            return Err(Failure::failed(format!("`{pattern}` stands for more than {ALTERNATIVES} patterns")));
        }
    }
    Ok(done)
}

/// The first pair of braces that holds alternatives, and what is around it.
fn split(pattern: &str) -> Option<(&str, Vec<String>, &str)> {
    for (start, _) in pattern.match_indices('{') {
        let (mut depth, mut commas) = (0, Vec::new());
        for (at, c) in pattern[start..].char_indices().map(|(at, c)| (start + at, c)) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => commas.push(at),
                _ => {}
            }
            if depth == 0 {
                let inside = start + 1;
                let numbers = commas.is_empty().then(|| numbers(&pattern[inside..at])).flatten();
                let listed = || {
                    let starts = std::iter::once(inside).chain(commas.iter().map(|comma| comma + 1));
                    starts
                        .zip(commas.iter().copied().chain([at]))
                        .map(|(from, to)| pattern[from..to].to_owned())
                        .collect()
                };
                match numbers.or_else(|| (!commas.is_empty()).then(listed)) {
                    Some(parts) => return Some((&pattern[..start], parts, &pattern[at + 1..])),
                    None => break,
                }
            }
        }
    }
    None
}

/// `008..010` -> 008, 009, 010.
fn numbers(range: &str) -> Option<Vec<String>> {
    let (first, last) = range.split_once("..")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let width = if first.starts_with('0') { first.len() } else { 1 };
    let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
    let last = last.min(first.saturating_add(ALTERNATIVES));
    Some((first..=last).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_are_what_shells_make_of_them() {
        for (pattern, expected) in [
            ("a/x-*.tar", vec!["a/x-*.tar"]),
            ("{a,b}/x.tar", vec!["a/x.tar", "b/x.tar"]),
            ("{a,b{1,2}}/{x,}", vec!["a/x", "a/", "b1/x", "b1/", "b2/x", "b2/"]),
            ("t-{008..010}.tar", vec!["t-008.tar", "t-009.tar", "t-010.tar"]),
            ("{8..10}", vec!["8", "9", "10"]),
            ("{a}", vec!["{a}"]),
            ("{a,b", vec!["{a,b"]),
            ("{x}{a,b}", vec!["{x}a", "{x}b"]),
        ] {
            assert_eq!(alternatives(pattern).unwrap(), expected, "{pattern}");
        }
        assert!(alternatives("{0..99999999999}").is_err());
    }
}
