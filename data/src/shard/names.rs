//! Names of classes. They belong to a set of shards, `data/train-000000.tar` and its neighbours, and lie beside it in
//! `data/train.classes.txt`, one a line, class 0 first. A set without such a file takes `classes.txt` in its folder.
//!
//! Names are held in Unicode's form NFC, so that those of two disks are equal if they read the same.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::{ClassDifference, ClassNamesFault};

/// Name of the file that names the classes of all sets in its folder that have no file of their own.
pub const CLASS_NAMES: &str = "classes.txt";
/// Largest file of class names that is read.
const BYTES: u64 = 16 << 20;

/// The set that a shard belongs to: `data/train-000003.tar` -> `data/train`; without a number, `x.tar` -> `x`.
pub(crate) fn set_of(shard: &Path) -> PathBuf {
    let Some(name) = shard.file_name().and_then(|name| name.to_str()) else {
        return shard.to_owned();
    };
    let stem = name.strip_suffix(".tar").unwrap_or(name);
    let set = match stem.rsplit_once('-') {
        Some((set, number)) if !set.is_empty() && !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) => {
            set
        }
        _ => stem,
    };
    shard.with_file_name(set)
}

/// `data/train` -> `data/train.classes.txt`.
pub(super) fn names_path(set: &Path) -> PathBuf {
    let mut path = set.as_os_str().to_owned();
    path.push(".");
    path.push(CLASS_NAMES);
    path.into()
}

/// The names of the classes of a set whose largest label is `classes - 1`; `None` where nothing names them.
pub(crate) fn read(set: &Path, classes: u32) -> Result<Option<Vec<String>>, ClassNamesFault> {
    let own = names_path(set);
    let (path, text) = match read_text(&own)? {
        Some(text) => (own, text),
        None => {
            let shared = set.with_file_name(CLASS_NAMES);
            match read_text(&shared)? {
                Some(text) => (shared, text),
                None => return Ok(None),
            }
        }
    };
    let names = parse(&text, &path)?;
    if names.len() < classes as usize {
        return Err(too_few(path, names.len(), set, classes));
    }
    Ok(Some(names))
}

fn too_few(path: PathBuf, names: usize, set: &Path, classes: u32) -> ClassNamesFault {
    let own = names_path(set);
    let advice = match path == own {
        true => "add the missing lines".to_owned(),
        false => format!("perhaps it names those of another set: write the names of this one into {}", own.display()),
    };
    ClassNamesFault::Few { path, names, set: set.display().to_string(), classes, advice }
}

/// The names of classes that a file lists, one a line, class 0 first, in NFC.
///
/// # Errors
/// There is no such file, or its names cannot be used.
pub fn read_class_names(path: &Path) -> Result<Vec<String>, ClassNamesFault> {
    let missing = || ClassNamesFault::Unreadable { path: path.to_owned(), why: "there is no such file".to_owned() };
    parse(&read_text(path)?.ok_or_else(missing)?, path)
}

fn read_text(path: &Path) -> Result<Option<String>, ClassNamesFault> {
    let unreadable = |why: String| ClassNamesFault::Unreadable { path: path.to_owned(), why };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| unreadable(error.to_string()))?,
    };
    let mut bytes = Vec::new();
    file.take(BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > BYTES {
        return Err(unreadable(format!("it has more than {BYTES} bytes")));
    }
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|error| unreadable(format!("{}; save it as UTF-8", error.utf8_error())))
}

/// One name a line. Blanks around names, a byte-order mark, DOS line ends and empty lines at the end do not count.
fn parse(text: &str, path: &Path) -> Result<Vec<String>, ClassNamesFault> {
    let text = text.trim_start_matches('\u{feff}').trim_end();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    checked(text.lines(), path)
}

/// The names in NFC, trimmed, if there are as many different ones.
pub(crate) fn checked<'a>(
    names: impl IntoIterator<Item = &'a str>,
    path: &Path,
) -> Result<Vec<String>, ClassNamesFault> {
    let mut seen = HashMap::new();
    let mut checked = Vec::new();
    for (number, name) in names.into_iter().enumerate() {
        let (line, name) = (number + 1, composed(name));
        if name.is_empty() {
            return Err(ClassNamesFault::Empty { path: path.to_owned(), line });
        }
        if let Some(first) = seen.insert(name.clone(), line) {
            return Err(ClassNamesFault::Twice { path: path.to_owned(), name, lines: (first, line) });
        }
        checked.push(name);
    }
    Ok(checked)
}

/// In Unicode's composed form (NFC), without blanks around it.
pub(crate) fn composed(name: &str) -> String {
    name.trim().nfc().collect()
}

/// The number that each of `names` has in `to`.
pub(crate) fn numbers(names: &[String], to: &[String]) -> Result<Vec<u32>, ClassDifference> {
    let mut known = HashMap::new();
    for (number, name) in to.iter().enumerate() {
        if known.insert(composed(name), number as u32).is_some() {
            return Err(ClassDifference::Twice { name: name.clone() });
        }
    }
    let numbers: Option<Vec<u32>> = names.iter().map(|name| known.get(name).copied()).collect();
    numbers.ok_or_else(|| difference(names, to))
}

fn difference(names: &[String], to: &[String]) -> ClassDifference {
    let without = |these: &[String], those: &[String]| -> Vec<String> {
        let those: std::collections::HashSet<String> = those.iter().map(|name| composed(name)).collect();
        these.iter().filter(|name| !those.contains(&composed(name))).cloned().collect()
    };
    let (unknown, absent) = (without(names, to), without(to, names));
    let spelled: HashMap<String, &String> = absent.iter().map(|name| (folded(name), name)).collect();
    let near = |name: &String| Some((name.clone(), (*spelled.get(&folded(name))?).clone()));
    let near = unknown.iter().filter_map(near).collect();
    ClassDifference::Names { unknown, absent, near }
}

/// What is left of a name without case, blanks, punctuation and compatibility forms; all of it if that is nothing.
fn folded(name: &str) -> String {
    let letters: String = name.nfkc().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    if letters.is_empty() { name.to_owned() } else { letters }
}

/// The names of several lists, each once, those of the first list first.
pub(crate) fn union<'a>(lists: impl IntoIterator<Item = &'a [String]>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    lists.into_iter().flatten().filter(|name| seen.insert(name.as_str())).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, ClassNamesFault> {
        parse(text, Path::new("x"))
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_set_is_its_shards_without_their_number() {
        for (shard, set) in [
            ("data/train-000000.tar", "data/train"),
            ("data/train-0.tar", "data/train"),
            ("a-b-1234567.tar", "a-b"),
            ("x.tar", "x"),
            ("-000000.tar", "-000000"),
            ("../a.b-00.tar", "../a.b"),
        ] {
            assert_eq!(set_of(Path::new(shard)), Path::new(set), "{shard}");
        }
        assert_eq!(names_path(Path::new("d/train.v2")), Path::new("d/train.v2.classes.txt"));
    }

    #[test]
    fn lines_are_names_however_an_editor_saves_them() {
        let expected = strings(&["cat", "café", "a b"]);
        for text in
            ["cat\ncafé\na b\n", "\u{feff}cat\r\ncafé\r\na b\r\n", "cat\n cafe\u{301}\t\na b", "cat\ncafé\na b\n\n \n"]
        {
            assert_eq!(names(text).unwrap(), expected, "{text:?}");
        }
        assert_eq!(names("\n").unwrap(), strings(&[]));
        assert!(matches!(names("cat\n\ndog\n"), Err(ClassNamesFault::Empty { line: 2, .. })));
        let twice = names("café\ndog\ncafe\u{301}\n").unwrap_err();
        assert!(matches!(&twice, ClassNamesFault::Twice { lines: (1, 3), .. }), "{twice}");
    }

    #[test]
    fn names_have_the_numbers_of_those_expected() {
        let to = strings(&["ant", "bee", "cafe\u{301}", "dog"]);
        assert_eq!(numbers(&strings(&["dog", "café"]), &to).unwrap(), [3, 2]);
        let ClassDifference::Names { unknown, absent, near } =
            numbers(&strings(&["Bee", "ant", "fox"]), &to).unwrap_err()
        else {
            panic!()
        };
        assert_eq!((unknown, absent.len()), (strings(&["Bee", "fox"]), 3));
        assert_eq!(near, [("Bee".to_owned(), "bee".to_owned())]);
        assert!(matches!(numbers(&[], &strings(&["a", " a"])), Err(ClassDifference::Twice { .. })));
    }

    #[test]
    fn a_union_keeps_the_first_order() {
        let (a, b) = (strings(&["dog", "cat"]), strings(&["ant", "cat", "dog"]));
        assert_eq!(union([a.as_slice(), &b]), ["dog", "cat", "ant"]);
    }
}
