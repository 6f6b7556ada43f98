//! Files that are right, files that lie, and noise.

mod archive;
mod foreign;
mod forge;
mod legacy;
mod noise;
mod pickle;
mod state;
mod tensors;

use std::{fs, io::Write, path::Path};

use super::{Dtype, Problem, PytorchError, PytorchFile, Section};
use forge::{Described, Legacy, Member, Pickle, SIX};

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(bytes: &[u8]) -> Result<PytorchFile, PytorchError> {
    PytorchFile::open(file(bytes).path(), Section::Best)
}

/// Why the file is refused; the message names it.
fn refusal(bytes: &(impl AsRef<[u8]> + ?Sized)) -> PytorchError {
    let file = file(bytes.as_ref());
    let error = PytorchFile::open(file.path(), Section::Best).map(drop).unwrap_err();
    assert!(error.to_string().starts_with(&file.path().display().to_string()), "{error}");
    error
}

/// Asserts that a file is refused with the variant, for the reason that its message says, and returns that message.
macro_rules! refused {
    ($bytes:expr, $variant:ident, $reason:expr) => {{
        let error = refusal(&$bytes);
        let message = error.to_string();
        assert!(matches!(error.problem, Problem::$variant { .. }), "{error:?}");
        assert!(message.contains($reason), "{message}");
        message
    }};
}
use refused;

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn one_to(last: u8) -> Vec<u8> {
    f32s(&(1..=last).map(f32::from).collect::<Vec<_>>())
}

fn values(file: &mut PytorchFile, name: &str) -> Vec<f32> {
    let len = file.tensors().find(|tensor| tensor.0 == name).unwrap().1.iter().product();
    let mut values = vec![0.0; len];
    file.read(name, &mut values).unwrap();
    values
}

fn names(file: &PytorchFile) -> Vec<String> {
    file.tensors().map(|tensor| tensor.0.to_owned()).collect()
}

/// An archive with the pickle and six numbers as storage 0.
fn archive(pickle: &[u8]) -> Vec<u8> {
    forge::zip(&forge::members(pickle, &[&one_to(6)]))
}

/// An archive with the tensor as `a`.
fn with_tensor(tensor: Described<'_>) -> Vec<u8> {
    archive(&Pickle::new().raw(b"}").text("a").tensor(tensor).raw(b"s").stop())
}

/// `{"a": six numbers, "n": a counter}`, what torch.save makes of it.
fn small_pickle(mut pickle: Pickle, keys: [&str; 2]) -> Vec<u8> {
    let counter = Described { class: "LongStorage", key: keys[1], elements: 1, shape: &[], strides: &[], ..SIX };
    pickle.raw(b"}").put().raw(b"(").text("a").tensor(Described { key: keys[0], ..SIX });
    pickle.text("n").tensor(counter).raw(b"u").stop()
}

fn small_members() -> Vec<Member> {
    forge::members(&small_pickle(Pickle::new(), ["0", "1"]), &[&one_to(6), &7_i64.to_le_bytes()])
}

fn small_archive() -> Vec<u8> {
    forge::zip(&small_members())
}

fn small_legacy() -> Legacy {
    small_legacy_with(["93994417478768", "93994300692384"])
}

/// Keys are addresses; storages lie in the order of their keys.
fn small_legacy_with(keys: [&str; 2]) -> Legacy {
    let object = small_pickle(Pickle::legacy(), keys);
    let mut storages = [(keys[0], (6, one_to(6))), (keys[1], (1, 7_i64.to_le_bytes().to_vec()))];
    storages.sort();
    let data: Vec<_> = storages.iter().map(|(_, (count, data))| (*count, &**data)).collect();
    Legacy::new(object, &storages.each_ref().map(|storage| storage.0), &data)
}

fn check_small(bytes: &[u8]) {
    let mut file = open(bytes).unwrap();
    assert_eq!(file.tensors().collect::<Vec<_>>(), [("a", &[2, 3][..]), ("n", &[][..])]);
    assert_eq!(values(&mut file, "a"), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!((file.dtype("a"), file.dtype("n"), file.dtype("b")), (Some(Dtype::F32), Some(Dtype::I64), None));
}

#[test]
fn both_formats_are_read() {
    check_small(&small_archive());
    check_small(&small_legacy().bytes());
}

/// The forged files stand for torch's only if they are the same.
///
/// ```python
/// small = {"a": torch.tensor([[1., 2., 3.], [4., 5., 6.]]), "n": torch.tensor(7)}
/// torch.save(small, "small.zip.pt")
/// torch.save(small, "small.legacy.pt", _use_new_zipfile_serialization=False)
/// ```
#[test]
#[ignore = "TORCH_FILES has to name a folder with the two files"]
fn forged_files_are_those_of_torch() {
    let folder = std::env::var("TORCH_FILES").unwrap();
    assert_eq!(fs::read(Path::new(&folder).join("small.zip.pt")).unwrap(), small_archive());
    let legacy = fs::read(Path::new(&folder).join("small.legacy.pt")).unwrap();
    let numbers = legacy.split(|byte| !byte.is_ascii_digit()).filter(|digits| digits.len() > 8);
    let keys: Vec<_> = numbers.map(|digits| str::from_utf8(digits).unwrap()).take(2).collect();
    assert_eq!(legacy, small_legacy_with([keys[0], keys[1]]).bytes());
}

#[test]
fn torch_files_are_known_by_their_first_bytes() {
    for (bytes, expected) in [
        (&small_archive()[..], true),
        (&small_legacy().bytes(), true),
        // The older format in protocols 1 and 4.
        (b"L119547037146038801333356L\n.", true),
        (b"\x80\x04\x95\x0d\0\0\0\0\0\0\0\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", true),
        (b"\x80\x02}.", false),
        (b"{\"a\": 1}", false),
        (b"", false),
    ] {
        assert_eq!(PytorchFile::is_pytorch(bytes), expected);
    }
}

#[test]
fn other_files_are_refused() {
    refused!(b"\x80\x02}.", NotPytorch, "neither of the two formats");
    refused!(b"", NotPytorch, "neither of the two formats");
    let error = PytorchFile::open(Path::new("/no/such/file"), Section::Best).unwrap_err();
    assert!(matches!(error.problem, Problem::Io { action: "open", .. }), "{error:?}");
}
