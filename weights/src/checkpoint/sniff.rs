//! What kind of file was given as weights. Its first bytes say so, whatever its name says.

use std::{io::Read, path::Path};

use super::{
    error::CheckpointError,
    files::{at, open_plain},
};
use crate::pytorch::PytorchFile;

/// Bytes that are looked at: a tar says what it is after 257.
const HEAD: u64 = 1024;

/// The two kinds of files of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Safetensors,
    Pytorch,
}

/// A file of something else: what it is, and what to do about it.
type Foreign = (&'static str, &'static str);

/// Which kind of weights a file holds; [`CheckpointError::NotWeights`] says what else it holds.
pub(super) fn format(path: &Path) -> Result<Format, CheckpointError> {
    let mut head = Vec::new();
    open_plain(path)?.take(HEAD).read_to_end(&mut head).map_err(at("read", path))?;
    if PytorchFile::is_pytorch(&head) {
        return Ok(Format::Pytorch);
    }
    if is_safetensors(&head) {
        return Ok(Format::Safetensors);
    }
    match binary(&head).or_else(|| text(&head)) {
        Some((what, advice)) => Err(CheckpointError::NotWeights { path: path.into(), what, advice }),
        None => Ok(Format::Safetensors),
    }
}

/// The length of a header that is JSON, then that header.
fn is_safetensors(head: &[u8]) -> bool {
    head.get(4..9) == Some(b"\0\0\0\0{")
}

const UNPACK: &str = "unpack it and give the file of weights in it";
const CONVERT: &str = "export the weights there as safetensors or with torch.save";
const PICTURE: Foreign = ("a picture", "pictures are given as images; weights are .safetensors or .pt files");
const PROGRAM: Foreign = ("a program", "weights are .safetensors or .pt files");

/// What files are that start with these bytes.
const MAGICS: [(&[u8], Foreign); 29] = [
    (b"\x1f\x8b", ("compressed by gzip", "unpack it with gunzip, or tar -xzf")),
    (b"\x28\xb5\x2f\xfd", ("compressed by zstd", "unpack it with unzstd")),
    (b"\xfd7zXZ\0", ("compressed by xz", "unpack it with unxz")),
    (b"BZh", ("compressed by bzip2", "unpack it with bunzip2")),
    (b"\x04\x22\x4d\x18", ("compressed by lz4", "unpack it with unlz4")),
    (b"7z\xbc\xaf\x27\x1c", ("a 7z archive", UNPACK)),
    (b"Rar!", ("a rar archive", UNPACK)),
    (b"PK\x05\x06", ("a zip archive without a single file", "copied only in part? Take another copy")),
    (b"\x89HDF\r\n\x1a\n", ("an HDF5 file, as of Keras and TensorFlow", CONVERT)),
    (b"\x93NUMPY", ("one array of numpy, without a name", "weights are many tensors, by name")),
    (b"GGUF", ("a GGUF file, as of llama.cpp", CONVERT)),
    (
        b"CNXTINDX",
        (
            "the index of a shard, which holds images",
            "shards are given as --data; weights are .safetensors or .pt files",
        ),
    ),
    (b"\x89PNG", PICTURE),
    (b"\xff\xd8\xff", PICTURE),
    (b"GIF8", PICTURE),
    (b"RIFF", PICTURE),
    (b"BM", PICTURE),
    (b"II*\0", PICTURE),
    (b"MM\0*", PICTURE),
    (b"\x7fELF", PROGRAM),
    (b"MZ", PROGRAM),
    (b"\xcf\xfa\xed\xfe", PROGRAM),
    (b"#!", PROGRAM),
    (b"%PDF", ("a PDF document", "weights are .safetensors or .pt files")),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
    (b"SQLite format 3", ("a database of SQLite", "weights are .safetensors or .pt files")),
];

const PICKLE: Foreign = (
    "a plain pickle, which torch.save did not write",
    "in a Python that you trust with it, load it and save its tensors with torch.save or as safetensors",
);

fn binary(head: &[u8]) -> Option<Foreign> {
    if let Some((_, found)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(*found);
    }
    match head {
        [] => Some(("empty", "copied or downloaded only in part? Take another copy")),
        _ if head.get(257..262) == Some(b"ustar") => Some((
            "a tar archive",
            "if it is a shard, it holds images and is given as --data; else unpack it and give the file of weights in it",
        )),
        _ if head.get(4..8) == Some(b"TFL3") => Some(("a model of TensorFlow Lite", CONVERT)),
        // A protobuf: its version, then the name of the program that wrote it, or a graph.
        [0x08, 1..=30, 0x12, len, b' '..=b'~', ..] if *len < 64 => Some(("a model in ONNX", CONVERT)),
        [0x08, 1..=30, 0x3a, ..] => Some(("a model in ONNX", CONVERT)),
        [0x08, 1, 0x12, ..] => Some(("a model that TensorFlow saved", CONVERT)),
        _ if head.len() >= 64 && head.iter().all(|byte| *byte == 0) => {
            Some(("nothing but zeros at its start", "downloaded only in part? Take another copy"))
        }
        _ => None,
    }
}

/// What a text is. The last character may be cut off.
fn text(head: &[u8]) -> Option<Foreign> {
    let text = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => str::from_utf8(head.get(..error.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    let control = |char: char| char.is_control() && !char.is_whitespace();
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.is_empty() || start.contains(control) {
        return None;
    }
    let lower = start.to_lowercase();
    Some(if start.starts_with("version https://git-lfs") {
        ("a git-lfs pointer, not the file", "run git lfs pull in its repository, or download the file itself")
    } else if lower.starts_with("<!doctype html") || lower.contains("<html") {
        ("HTML, a web page", "perhaps a login page or one that says that nothing was found; download the file itself")
    } else if start.starts_with('<') {
        ("XML, perhaps what a server answered instead of the file", "look into it, and download the file itself")
    } else if start.starts_with(['{', '[']) && lower.contains("weight_map") {
        ("the index of weights in several files", "give the folder of it, with those files in it")
    } else if start.starts_with('{') {
        ("JSON, which describes something", "weights are .safetensors or .pt files")
    } else {
        ("a text", "a recipe is given as --recipe; weights are .safetensors or .pt files")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn of(bytes: &[u8]) -> Result<Format, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        format(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn weights_are_known_by_their_first_bytes() {
        assert_eq!(of(b"\x7b\0\0\0\0\0\0\0{\"a\":{}}"), Ok(Format::Safetensors));
        assert_eq!(of(b"PK\x03\x04"), Ok(Format::Pytorch));
        assert_eq!(of(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."), Ok(Format::Pytorch));
        // What cannot be told is looked into.
        assert_eq!(of(b"\x01\x02\x03\xff\xfe"), Ok(Format::Safetensors));
    }

    #[test]
    fn other_files_are_called_what_they_are() {
        let tar = [&[b'x'; 257][..], b"ustar\0"].concat();
        for (bytes, expected) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"[..],
                "is a git-lfs pointer, not the file: run git lfs pull",
            ),
            (b"<!DOCTYPE html>\n<html>", "is HTML, a web page"),
            (b"\xef\xbb\xbf\n <HTML lang=en>", "is HTML"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "is XML"),
            (
                b"{\"metadata\": {}, \"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\"}}",
                "is the index of weights in several",
            ),
            (b"{\"a\": 1}", "is JSON"),
            (b"[model]\nname = \"atto\"\n", "is a text: a recipe is given as --recipe"),
            (b"Entry not found", "is a text"),
            ("é".repeat(HEAD as usize).as_bytes(), "is a text"),
            (b"", "is empty"),
            (&[0; 4096], "is nothing but zeros"),
            (&tar, "is a tar archive"),
            (b"CNXTINDX\x01\0\0\0", "is the index of a shard"),
            (b"\x1f\x8b\x08\0", "is compressed by gzip"),
            (b"\x28\xb5\x2f\xfd\0", "is compressed by zstd"),
            (b"\x89HDF\r\n\x1a\n\0\0", "is an HDF5 file"),
            (b"\x08\x07\x12\x07pytorch", "is a model in ONNX"),
            (b"\x08\x01\x12\xf8\xff\x01\n", "is a model that TensorFlow saved"),
            (b"\x93NUMPY\x01\0", "is one array of numpy"),
            (b"\x89PNG\r\n\x1a\n", "is a picture"),
            (b"\xff\xd8\xff\xe0", "is a picture"),
            (b"\x7fELF\x02", "is a program"),
            (b"\x80\x04\x95\x10", "is a plain pickle"),
        ] {
            let message = of(bytes).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
