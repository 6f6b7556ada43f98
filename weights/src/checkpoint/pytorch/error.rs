//! One variant per way a PyTorch file can be wrong.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::{
    Dtype,
    archive::{DIRECTORY_CAP, ENTRY_NAME_CAP},
    object::{HELD_CAP, RANK_CAP, TENSOR_CAP, TEXTS_CAP},
    pickle::PICKLE_CAP,
    state::{DEPTH_CAP, NAME_CAP, VISIT_CAP},
};

pub(super) const RESAVE: &str = "In a Python that you trust with the file, save the tensors alone: \
    torch.save(model.state_dict(), \"weights.pt\"), \
    or safetensors.torch.save_file(model.state_dict(), \"weights.safetensors\")";

const DISTRUST: &str = "torch.save never writes this, do not trust the file";

/// Why a PyTorch file could not be read. Every message names the file and says what to do.
#[derive(Debug, Error)]
pub enum PytorchError {
    /// The operating system refused.
    #[error("{}: could not {action}: {source}", path.display())]
    Io {
        /// What was tried, e.g. `read`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Neither a zip archive nor a file of the older format.
    #[error("{}: neither of the two formats that torch.save writes; is it really a .pt or .pth file? {RESAVE}", .0.display())]
    NotPytorch(PathBuf),
    /// The file ends too early.
    #[error("{}: ends within {part}; copied only in part?", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is cut off.
        part: &'static str,
    },

    // The zip archive.
    /// The file does not end as a zip archive does.
    #[error("{}: does not end as a zip archive of torch.save does; copied only in part?", .0.display())]
    NoDirectory(PathBuf),
    /// The records at the end disagree on where the directory of the archive lies.
    #[error("{}: the archive's end says two things about its directory. {DISTRUST}", .0.display())]
    DirectoryPlace(PathBuf),
    /// A directory that claims more memory than any checkpoint's needs.
    #[error("{}: an archive directory of {claimed} bytes, more than the {DIRECTORY_CAP} allowed; not a file to trust", path.display())]
    DirectoryTooLarge {
        /// The file.
        path: PathBuf,
        /// Length that the file claims.
        claimed: u64,
    },
    /// The directory is no list of entries, or of another number of them.
    #[error("{}: the archive's directory is damaged; take another copy", .0.display())]
    Directory(PathBuf),
    /// An entry with a name that leads elsewhere.
    #[error("{}: has an entry `{entry}`, which is no plain name of at most {ENTRY_NAME_CAP} bytes inside one folder. {DISTRUST}", path.display())]
    EntryName {
        /// The file.
        path: PathBuf,
        /// The name.
        entry: String,
    },
    /// Two entries of one name.
    #[error("{}: has two entries `{entry}`. {DISTRUST}", path.display())]
    EntryTwice {
        /// The file.
        path: PathBuf,
        /// The name.
        entry: String,
    },
    /// An entry that is a folder, or that others use as one.
    #[error("{}: uses its entry `{entry}` as a folder. {DISTRUST}", path.display())]
    EntryFolder {
        /// The file.
        path: PathBuf,
        /// The name.
        entry: String,
    },
    /// Entries in two folders.
    #[error("{}: holds the folders `{first}` and `{second}` where torch.save writes one; packed anew by another program? {RESAVE}", path.display())]
    Folders {
        /// The file.
        path: PathBuf,
        /// Folder of the first entry.
        first: String,
        /// Another.
        second: String,
    },
    /// A compressed entry.
    #[error("{}: its entry `{entry}` is compressed (method {method}); torch.save stores. Pack the archive anew with `zip -0`, or: {RESAVE}", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Number of the compression method.
        method: u16,
    },
    /// An encrypted entry.
    #[error("{}: its entry `{entry}` is encrypted. Decrypt the file first, or: {RESAVE}", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// An entry that leaves the file or reaches into the directory.
    #[error("{}: its entry `{entry}` reaches beyond the archive's data; copied only in part?", path.display())]
    EntryRange {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// Two entries that share bytes.
    #[error("{}: its entries `{entry}` and `{other}` lie over each other. {DISTRUST}", path.display())]
    EntryOverlap {
        /// The file.
        path: PathBuf,
        /// The one that starts first.
        entry: String,
        /// The other.
        other: String,
    },
    /// An entry's own header disagrees with the directory.
    #[error("{}: its entry `{entry}` is another one in the archive's directory; damaged, take another copy", path.display())]
    EntryMismatch {
        /// The file.
        path: PathBuf,
        /// Name in the directory.
        entry: String,
    },
    /// A zip archive that torch.save did not write.
    #[error("{}: a zip archive that torch.save did not write; it holds {holds}", path.display())]
    NoPickle {
        /// The file.
        path: PathBuf,
        /// What is in it, and what to do.
        holds: String,
    },
    /// An archive in the place of the pickle.
    #[error("{}: its entry `{entry}` is an archive itself; unpack that one and give it instead", path.display())]
    NestedArchive {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// A program, not a checkpoint.
    #[error("{}: a TorchScript program (it has `{entry}`); only tensors are read from .pt files. {RESAVE}", path.display())]
    TorchScript {
        /// The file.
        path: PathBuf,
        /// The entry that gives it away.
        entry: String,
    },
    /// Written on a big-endian machine.
    #[error("{}: its byte order is `{found}`, only `little` is read. {RESAVE}, on a little-endian machine", path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },

    // The older format.
    /// One of the pickles before or after the object is not what torch.save writes.
    #[error("{}: its {part} is not what torch.save writes; damaged, take another copy", path.display())]
    LegacyPart {
        /// The file.
        path: PathBuf,
        /// Which one, e.g. `list of storages`.
        part: &'static str,
    },

    // The pickle.
    /// A pickle that claims more memory than any checkpoint's needs.
    #[error("{}: a pickle of more than the {PICKLE_CAP} bytes allowed; not a file to trust", .0.display())]
    PickleTooLong(PathBuf),
    /// More values or texts than any checkpoint needs.
    #[error("{}: its pickle holds more than the {HELD_CAP} values or the {TEXTS_CAP} bytes of text allowed; not a file to trust", .0.display())]
    TooMuch(PathBuf),
    /// A line without an end, in a pickle of the first protocols.
    #[error("{}: its pickle has a line of more bytes than is allowed; damaged, take another copy", .0.display())]
    LineTooLong(PathBuf),
    /// A pickle of a protocol that is not known.
    #[error("{}: pickle protocol {found}, 0 to 5 are known. {RESAVE}", path.display())]
    Protocol {
        /// The file.
        path: PathBuf,
        /// Protocol of the file.
        found: u8,
    },
    /// No instruction of pickle, or one that refers to what is not in the file.
    #[error("{}: its pickle has {opcode} at byte {at}, which torch.save does not write; damaged, take another copy", path.display())]
    Opcode {
        /// The file.
        path: PathBuf,
        /// Name of the instruction, or its number.
        opcode: String,
        /// Its place in the pickle.
        at: u64,
    },
    /// A call of something that is no function.
    #[error("{}: wants to call {callee}. {DISTRUST}", path.display())]
    Call {
        /// The file.
        path: PathBuf,
        /// What would be called.
        callee: String,
    },
    /// A known function with arguments that torch.save does not give it.
    #[error("{}: calls `{function}` with {reason}; only plain tensors are read from .pt files. {RESAVE}", path.display())]
    Arguments {
        /// The file.
        path: PathBuf,
        /// The function.
        function: String,
        /// What is wrong with its arguments.
        reason: &'static str,
    },
    /// Attributes for something that has none.
    #[error("{}: wants to set attributes of {target}; an OrderedDict or an object may have some. {RESAVE}", path.display())]
    Build {
        /// The file.
        path: PathBuf,
        /// What would get them.
        target: String,
    },
    /// A note that was never taken.
    #[error("{}: its pickle refers to memo {index} at byte {at} and never set it; damaged, take another copy", path.display())]
    Memo {
        /// The file.
        path: PathBuf,
        /// Number of the note.
        index: u32,
        /// Place in the pickle.
        at: u64,
    },
    /// An instruction finds too few values.
    #[error("{}: its pickle has too few values for {opcode} at byte {at}; damaged, take another copy", path.display())]
    Underflow {
        /// The file.
        path: PathBuf,
        /// The instruction.
        opcode: String,
        /// Its place in the pickle.
        at: u64,
    },
    /// An instruction finds a value of another type.
    #[error("{}: its pickle gives {found} to {opcode} at byte {at}; damaged, take another copy", path.display())]
    Operand {
        /// The file.
        path: PathBuf,
        /// The instruction.
        opcode: String,
        /// What it was given.
        found: &'static str,
        /// Its place in the pickle.
        at: u64,
    },
    /// Values are left when the pickle ends.
    #[error("{}: its pickle ends with {values} values left over. {DISTRUST}", path.display())]
    Unbalanced {
        /// The file.
        path: PathBuf,
        /// How many.
        values: usize,
    },
    /// A text that is no UTF-8.
    #[error("{}: its pickle holds a text that is not UTF-8 at byte {at}; damaged, take another copy", path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// Place in the pickle.
        at: u64,
    },
    /// A dict that sets one key twice.
    #[error("{}: sets `{key}` twice in one dict. {DISTRUST}", path.display())]
    KeyTwice {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// Bytes after the end.
    #[error("{}: {bytes} bytes after the end of {part}. {DISTRUST}", path.display())]
    Leftover {
        /// The file.
        path: PathBuf,
        /// Of what.
        part: &'static str,
        /// How many.
        bytes: u64,
    },

    // Tensors and their storages.
    /// A reference to a storage in another form than torch.save's.
    #[error("{}: refers to a storage by {reason}; only tensors are read from .pt files. {RESAVE}", path.display())]
    PersistentId {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One storage with two types or lengths.
    #[error("{}: gives storage `{key}` two types or lengths. {DISTRUST}", path.display())]
    StorageTwice {
        /// The file.
        path: PathBuf,
        /// Key of the storage.
        key: String,
    },
    /// A storage whose data are not in the file.
    #[error("{}: storage `{key}` is not in the file; copied only in part?", path.display())]
    StorageMissing {
        /// The file.
        path: PathBuf,
        /// Key of the storage.
        key: String,
    },
    /// Data of a storage that no tensor has.
    #[error("{}: lists storage `{key}`, which no tensor has. {DISTRUST}", path.display())]
    StorageUnknown {
        /// The file.
        path: PathBuf,
        /// Key of the storage.
        key: String,
    },
    /// A storage of another length than the pickle says.
    #[error("{}: storage `{key}` has {found} bytes where {elements} elements of {dtype} were promised; copied only in part?", path.display())]
    StorageLength {
        /// The file.
        path: PathBuf,
        /// Key of the storage.
        key: String,
        /// Elements according to the pickle.
        elements: u64,
        /// Their type.
        dtype: Dtype,
        /// Bytes that there are.
        found: u64,
    },
    /// A tensor with too many dimensions.
    #[error("{}: a tensor of {found} dimensions, more than the {RANK_CAP} allowed; not a file to trust", path.display())]
    Rank {
        /// The file.
        path: PathBuf,
        /// Number of dimensions.
        found: usize,
    },
    /// A tensor whose extent no 64-bit number holds.
    #[error("{}: a tensor of shape {shape:?} on storage `{key}` is beyond all memory; not a file to trust", path.display())]
    Overflow {
        /// The file.
        path: PathBuf,
        /// Key of the storage.
        key: String,
        /// Shape of the tensor.
        shape: Vec<usize>,
    },
    /// A tensor that leaves its storage.
    #[error("{}: a tensor of shape {shape:?} leaves storage `{key}`, which has {elements} elements; damaged, take another copy", path.display())]
    OutOfStorage {
        /// The file.
        path: PathBuf,
        /// Key of the storage.
        key: String,
        /// Shape of the tensor.
        shape: Vec<usize>,
        /// Length of the storage.
        elements: u64,
    },
    /// A tensor that repeats the elements of its storage until it is larger than that.
    #[error("{}: a tensor of shape {shape:?} is larger than its storage `{key}` of {elements} elements. Call .contiguous() on it before it is saved", path.display())]
    Expanded {
        /// The file.
        path: PathBuf,
        /// Key of the storage.
        key: String,
        /// Shape of the tensor.
        shape: Vec<usize>,
        /// Length of the storage.
        elements: u64,
    },
    /// More tensors than any checkpoint has.
    #[error("{}: more than the {TENSOR_CAP} tensors allowed; not a file to trust", .0.display())]
    TooManyTensors(PathBuf),

    // The object as a whole.
    /// The object is not a dict.
    #[error("{}: holds {found} where a dict of tensors is read. {RESAVE}", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// A dict without tensors.
    #[error("{}: holds no named tensors. {RESAVE}", .0.display())]
    NoTensors(PathBuf),
    /// The dict of tensors that was asked for is not there.
    #[error("{}: has no {wanted}; its dicts of tensors are {}", path.display(), listed(found))]
    NoSection {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// Keys of the outermost dict under which there are tensors.
        found: Vec<String>,
    },
    /// Dicts inside dicts without an end, as when one contains itself.
    #[error("{}: `{name}` lies more than {DEPTH_CAP} dicts deep, or contains itself. {RESAVE}", path.display())]
    TooDeep {
        /// The file.
        path: PathBuf,
        /// Name so far.
        name: String,
    },
    /// Dicts that are shared until there are too many of them.
    #[error("{}: more than the {VISIT_CAP} dict entries allowed; not a file to trust", .0.display())]
    TooManyEntries(PathBuf),
    /// A name that is too long.
    #[error("{}: a tensor's name is longer than the {NAME_CAP} bytes allowed: `{start}`...; not a file to trust", path.display())]
    NameTooLong {
        /// The file.
        path: PathBuf,
        /// How it starts.
        start: String,
    },
    /// Two tensors of one name.
    #[error("{}: two tensors are called `{name}`. {RESAVE}", path.display())]
    NameTwice {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },

    // Reading one tensor.
    /// A tensor that is not in the file.
    #[error("{}: has no tensor `{name}`; is it of another model?", path.display())]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A tensor that is not of floating-point numbers.
    #[error("{}: `{name}` is {dtype}; float32, float16, bfloat16 and float64 are read. Call .float() on it before it is saved", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// The caller's memory has another length than the tensor.
    #[error("{}: `{name}` has {elements} elements, {asked} were asked for; is it of another model?", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Elements of the tensor.
        elements: usize,
        /// Length of the caller's memory.
        asked: usize,
    },
    /// A tensor that is strewn over too much of its storage.
    #[error("{}: `{name}` is strewn over {span} elements. Call .contiguous() on it before it is saved", path.display())]
    Strewn {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Elements from its first to its last.
        span: u64,
    },
}

fn listed(keys: &[String]) -> String {
    const MOST: usize = 8;
    let shown: Vec<_> = keys.iter().take(MOST).map(|key| format!("`{key}`")).collect();
    match keys.len() {
        0 => "none; the whole file is one".into(),
        len if len > MOST => format!("{} and {} more", shown.join(", "), len - MOST),
        _ => shown.join(", "),
    }
}

/// Puts the action and the path on an I/O error.
pub(super) fn at<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PytorchError + 'a {
    move |source| PytorchError::Io { action, path: path.into(), source }
}

/// As [`at`] for a read that the file may be too short for: says that `part` is cut off.
pub(super) fn cut<'a>(part: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PytorchError + 'a {
    move |source| match source.kind() {
        io::ErrorKind::UnexpectedEof => PytorchError::Truncated { path: path.into(), part },
        _ => at("read", path)(source),
    }
}

/// A text from a file, made safe to print: no control characters, no great length.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    text.escape_debug().take(LONGEST).collect()
}
