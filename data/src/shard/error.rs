//! What can go wrong with shards.

use std::path::PathBuf;

use convnext_files::FileError;

use crate::decode::DecodeError;
use crate::encode::EncodeError;
use crate::target::TargetKind;

/// A shard that cannot be used, or a sample of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// A set of shards without a shard.
    #[error("no shards given; check the path or pattern of --data")]
    NoShards,
    /// There is no index beside the tar.
    #[error("{}: has no index; run `convnext index {}`", tar.display(), tar.display())]
    NoIndex {
        /// The shard.
        tar: PathBuf,
    },
    /// The index is not what it should be.
    #[error("{}: {fault}", index.display())]
    Index {
        /// The index file.
        index: PathBuf,
        /// In which way.
        fault: IndexFault,
    },
    /// The tar cannot be indexed.
    #[error("{}: {fault}", tar.display())]
    Tar {
        /// The shard.
        tar: PathBuf,
        /// In which way.
        fault: TarFault,
    },
    /// The bytes of a sample are not those that were indexed.
    #[error(
        "{sample}: its bytes changed since they were indexed (checksum {found:08x}, was {expected:08x}); \
         restore the shard from a copy, or run `convnext index` if the change was meant"
    )]
    Checksum {
        /// The sample: shard, number and key.
        sample: String,
        /// The checksum in the index.
        expected: u32,
        /// The checksum of the bytes.
        found: u32,
    },
    /// A sample has no label and labels are needed.
    #[error(
        "{sample}: has no label (no .cls member with its key, and no label in a .json); pack the shard with labels, or use it for \
         pre-training, which needs none"
    )]
    NoLabel {
        /// The sample: shard, number and key.
        sample: String,
    },
    /// A sample has no target of the kind that is needed.
    #[error("{sample}: {kind} is needed, and there is none with its key; {}", members(*.kind))]
    NoTarget {
        /// The sample: shard, number and key.
        sample: String,
        /// What is needed.
        kind: TargetKind,
    },
    /// The bytes of a sample are what was packed, but they are no picture that can be decoded.
    #[error("{sample}: cannot be decoded: {source}; remove or re-encode it and pack again")]
    Undecodable {
        /// The sample: shard, number and key.
        sample: String,
        /// Why.
        source: DecodeError,
    },
    /// A segmentation has another size than its picture.
    #[error(
        "{sample}: its segmentation is {}x{}, and its picture {}x{}; make them equal and pack again",
        found.0, found.1, wanted.0, wanted.1
    )]
    SegmentationSize {
        /// The sample: shard, number and key.
        sample: String,
        /// Height and width of the segmentation.
        found: (usize, usize),
        /// Height and width of the picture.
        wanted: (usize, usize),
    },
    /// A class of a joined or relabelled set that no pixel can have.
    #[error("{sample}: class {class} does not fit into a segmentation, whose classes are 0 to 254")]
    SegmentationClass {
        /// The sample: shard, number and key.
        sample: String,
        /// The class.
        class: u32,
    },
    /// A segmentation cannot be written.
    #[error("{key}: its segmentation {source}")]
    Encode {
        /// The sample's key.
        key: String,
        /// Why.
        source: EncodeError,
    },
    /// A sample id outside the set.
    #[error("sample {id} was asked for, there are {len}; was the run started on other shards?")]
    NoSample {
        /// The id.
        id: u64,
        /// How many there are.
        len: u64,
    },
    /// The tar, or its index, was cut after it was opened.
    #[error(
        "{}: was cut to {len} bytes while it was in use, of {opened} when it was opened; restore it from a copy, and write \
         shards under a name of their own before they are given their final one", path.display()
    )]
    Cut {
        /// The file.
        path: PathBuf,
        /// Its length now.
        len: u64,
        /// Its length when it was opened.
        opened: u64,
    },
    /// More pictures than are allowed are of kinds that nothing here reads.
    #[error(
        "{}: {left_out} of {pictures} pictures cannot be read ({kinds}); convert them, or say which share may be left out \
         (`convnext index --left-out 1` for any)", tar.display()
    )]
    LeftOut {
        /// The shard.
        tar: PathBuf,
        /// Pictures that would be left out.
        left_out: u64,
        /// Pictures in all.
        pictures: u64,
        /// How many of which kind.
        kinds: String,
    },
    /// Indexing was asked to stop.
    #[error("{}: indexing was stopped; no index was written", tar.display())]
    Stopped {
        /// The shard.
        tar: PathBuf,
    },
    /// The set is being written, or was when its writer died.
    #[error(
        "{set}-*.tar are not all there: `convnext pack` is writing them, or was ended while it did; let it end, or run it \
         again, which starts anew ({} says so)", marker.display()
    )]
    Unfinished {
        /// The set, without the number of a shard.
        set: String,
        /// The file that says so.
        marker: PathBuf,
    },
    /// Another process is writing a set of this name.
    #[error(
        "{}: another `convnext pack` is writing shards of this name; let it end, or choose another name. If none is, remove \
         that file", marker.display()
    )]
    Busy {
        /// The file that it holds.
        marker: PathBuf,
    },
    /// The names of the classes cannot be used.
    #[error(transparent)]
    ClassNames(#[from] ClassNamesFault),
    /// Shards of this name are already there; writing would mix two sets.
    #[error("{}: is already there; remove the old shards or choose another name", path.display())]
    Exists {
        /// The first one found.
        path: PathBuf,
    },
    /// A key that no tar member can have.
    #[error("sample key {key:?}: should be 1 to 90 of the characters A-Z a-z 0-9 _ - and /")]
    Key {
        /// The key.
        key: String,
    },
}

impl ShardError {
    /// Whether the process has as many files open as it may.
    pub(crate) fn is_of_open_files(&self) -> bool {
        let Self::File(FileError { source, .. }) = self else { return false };
        #[cfg(unix)]
        let full = source.raw_os_error().is_some_and(|code| [libc::EMFILE, libc::ENFILE].contains(&code));
        #[cfg(not(unix))]
        let full = false;
        full
    }
}

/// Where in a shard a target of this kind lies.
fn members(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::None | TargetKind::Class => "a class is a .cls member, or \"label\" in a .json member",
        TargetKind::Classes => "they are numbers, \"labels\" in a .json member",
        TargetKind::Segmentation => "it is a .seg.png or .mask.png member, of one channel",
        TargetKind::Boxes => "they are \"boxes\", each [left, top, right, bottom], and \"labels\" in a .json member",
    }
}

/// The ways names of classes can be wrong. Where labels are not looked at, they do not matter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClassNamesFault {
    /// The file cannot be read as text.
    #[error("{}: class names cannot be read: {why}", path.display())]
    Unreadable {
        /// The file of names.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A line without a name, before the last one.
    #[error("{}: line {line} is empty; each line names a class, the first one class 0", path.display())]
    Empty {
        /// The file of names.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Two classes of one name.
    #[error(
        "{}: lines {} and {} both say {name:?} (blanks around a name and its Unicode form do not count); give each class \
         a name of its own", path.display(), lines.0, lines.1
    )]
    Twice {
        /// The file of names.
        path: PathBuf,
        /// The name.
        name: String,
        /// The lines, from 1.
        lines: (usize, usize),
    },
    /// Fewer names than classes.
    #[error("{}: names {names} classes, and the shards {set}-* have {classes}; {advice}", path.display())]
    Few {
        /// The file of names.
        path: PathBuf,
        /// Names in it.
        names: usize,
        /// The set, without the number of a shard.
        set: String,
        /// Classes of its shards.
        classes: u32,
        /// What to do.
        advice: String,
    },
    /// Some sets have names and others have none: what a number means in the latter, nobody knows.
    #[error(
        "the shards {named}-* have class names and {unnamed}-* have none, so that their labels cannot be compared; write \
         the names of the latter into {unnamed}.classes.txt, one a line, class 0 first"
    )]
    Mixed {
        /// A set with names.
        named: String,
        /// A set without.
        unnamed: String,
    },
}

/// Why the classes of a set are not those that are expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClassDifference {
    /// The set has names that are not expected.
    #[error("{}", describe(unknown, absent, near))]
    Names {
        /// Names of the set that are not among those expected.
        unknown: Vec<String>,
        /// Names that are expected and the set does not have.
        absent: Vec<String>,
        /// Pairs of the two that differ in case, blanks, punctuation or Unicode's compatibility forms alone.
        near: Vec<(String, String)>,
    },
    /// A name is expected twice.
    #[error("the class name {name:?} is expected twice; give each class a name of its own")]
    Twice {
        /// The name.
        name: String,
    },
    /// The set's own names cannot be used.
    #[error(transparent)]
    Unusable(#[from] ClassNamesFault),
}

fn describe(unknown: &[String], absent: &[String], near: &[(String, String)]) -> String {
    let mut text = format!("the shards have classes that are not expected: {}", listed(unknown));
    if !absent.is_empty() {
        text += &format!("; expected, and not in the shards: {}", listed(absent));
    }
    for (found, expected) in near.iter().take(LISTED) {
        text += &format!("; {found:?} and {expected:?} are spelled differently: make them the same");
    }
    text
}

/// Most names that a message lists.
const LISTED: usize = 10;

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(LISTED).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text += &format!(" and {} more", names.len() - LISTED);
    }
    text
}

/// The ways an index can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexFault {
    /// Other magic bytes.
    #[error("is no index of a shard; run `convnext index` to write one")]
    Magic,
    /// Shorter than a header.
    #[error("has {len} bytes, too few for a header; run `convnext index`")]
    Truncated {
        /// Its length.
        len: u64,
    },
    /// Written by another version.
    #[error(
        "has format version {version} with records of {record} bytes, this program reads versions 1 to 3; run `convnext index`"
    )]
    Version {
        /// Its version.
        version: u32,
        /// Bytes of a record.
        record: u32,
    },
    /// The header's checksum is wrong.
    #[error("its header is damaged; run `convnext index`")]
    HeaderChecksum,
    /// The number of records does not fit the length of the file.
    #[error("has {len} bytes, which {count} records do not fill; run `convnext index`")]
    Length {
        /// Number of records it claims.
        count: u64,
        /// Bytes it has.
        len: u64,
    },
    /// More samples without label than samples.
    #[error("claims {unlabelled} samples without label of {count}; run `convnext index`")]
    Unlabelled {
        /// Samples without label it claims.
        unlabelled: u64,
        /// Samples it claims.
        count: u64,
    },
    /// The tar has another length: truncated, or another tar.
    #[error(
        "the tar has {found} bytes, {recorded} when it was indexed: it was cut or replaced; restore it, or run \
         `convnext index`"
    )]
    TarLength {
        /// Length in the index.
        recorded: u64,
        /// Length of the tar.
        found: u64,
    },
    /// The tar has another modification time than when it was indexed, and what was looked at differs.
    #[error("belongs to another or changed tar (headers or labels of samples differ); run `convnext index`")]
    TarModified,
    /// The tar's members are not those of the index.
    #[error("the tar holds something else where sample {sample} was indexed; restore it, or run `convnext index`")]
    Differs {
        /// Number of the first such sample in the shard.
        sample: u64,
    },
    /// The tar has the samples of the index under other names.
    #[error("names of members changed since the tar was indexed; restore it, or run `convnext index`")]
    Keys,
    /// The checksum of a record is wrong.
    #[error("the record of sample {sample} is damaged; run `convnext index`")]
    RecordChecksum {
        /// Number of the sample in the shard.
        sample: u64,
    },
    /// The checksum of the records is wrong.
    #[error("its records are damaged; run `convnext index`")]
    RecordsChecksum,
    /// A record points outside the tar.
    #[error(
        "sample {sample} would lie at {offset} with {len} bytes, beyond the {tar} of the tar; run `convnext index`"
    )]
    Range {
        /// Number of the sample in the shard.
        sample: u64,
        /// Where it would lie.
        offset: u64,
        /// Bytes it would have.
        len: u64,
        /// Bytes of the tar.
        tar: u64,
    },
    /// A record has an unknown encoding.
    #[error("sample {sample} has the unknown encoding {code}; run `convnext index`")]
    Encoding {
        /// Number of the sample in the shard.
        sample: u64,
        /// What the record says.
        code: u8,
    },
    /// A record has an unknown kind of target.
    #[error("sample {sample} has the unknown kind of target {code}; run `convnext index`")]
    Target {
        /// Number of the sample in the shard.
        sample: u64,
        /// What the record says.
        code: u8,
    },
    /// A label is not among the classes of the header.
    #[error("sample {sample} has label {label}, of {classes} classes; run `convnext index`")]
    Label {
        /// Number of the sample in the shard.
        sample: u64,
        /// Its label.
        label: u32,
        /// Classes in the header.
        classes: u32,
    },
}

/// The ways a tar can be no shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TarFault {
    /// A folder.
    #[error("is a folder; name its shards, as in `FOLDER/*.tar`")]
    Folder,
    /// Another kind of file.
    #[error("is {what}; {advice}")]
    Foreign {
        /// What it is.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// Not a tar, or damaged.
    #[error("is no tar, or is damaged, at byte {at}: {why}; if it was sound once, copy it again")]
    Malformed {
        /// Where reading stopped.
        at: u64,
        /// What is wrong there.
        why: String,
    },
    /// A header that claims a name or more of absurd length.
    #[error(
        "has a header of {size} bytes at byte {at}, where names have at most {largest}; it is damaged, or made to harm"
    )]
    LongHeader {
        /// Where it is.
        at: u64,
        /// Bytes it claims.
        size: u64,
        /// Bytes that are read.
        largest: u64,
    },
    /// Ends inside a member, or before the end mark.
    #[error("is cut: it ends at byte {len} where at least {needed} are needed; copy it again")]
    Truncated {
        /// Its length.
        len: u64,
        /// Bytes that the last member seen and an end mark need.
        needed: u64,
    },
    /// No images.
    #[error("holds no pictures (members KEY.jpg, .png, .webp and so on); is it a WebDataset shard?")]
    NoSamples,
    /// A sparse member: its bytes are not contiguous.
    #[error("member {name:?} is stored sparse and cannot be mapped; write the tar without --sparse")]
    Sparse {
        /// The member.
        name: String,
    },
    /// Two images with one key.
    #[error("key {key:?} has two images; give each its own key")]
    TwoImages {
        /// The key.
        key: String,
    },
    /// Two labels with one key.
    #[error("key {key:?} has two .cls members; keep one")]
    TwoLabels {
        /// The key.
        key: String,
    },
    /// A link to something that is no file of the tar.
    #[error(
        "member {name:?} is a link to {target:?}, which is no file of this tar; write the tar with `tar --dereference`"
    )]
    Link {
        /// The member.
        name: String,
        /// What it links to.
        target: String,
    },
    /// A label without a picture.
    #[error("key {key:?} has a label and no picture; add the picture, or take the label out")]
    LabelAlone {
        /// The key.
        key: String,
    },
    /// A label whose picture is elsewhere in the tar.
    #[error(
        "key {key:?} has its label and its picture apart: members of one key must follow each other; write the tar with \
         `tar --sort=name`"
    )]
    LabelApart {
        /// The key.
        key: String,
    },
    /// A label that is no number.
    #[error(
        "key {key:?} has {text:?} in its .cls; it should hold a class number from 0 to 4294967294, or the name of a class \
         that a file of class names beside the shard has"
    )]
    Label {
        /// The key.
        key: String,
        /// Its content.
        text: String,
    },
    /// A label in a .json member that is no class number.
    #[error("key {key:?} has {text} as \"{place}\" in its .json; a class number is from 0 to 4294967294")]
    JsonLabel {
        /// The sample's key.
        key: String,
        /// The key in the JSON object.
        place: &'static str,
        /// Its value.
        text: String,
    },
    /// A class that the file of class names does not have.
    #[error(
        "key {key:?} has {name:?} as \"{place}\" in its .json, which the file of class names beside the shard does not \
         have; add it there"
    )]
    UnknownClass {
        /// The sample's key.
        key: String,
        /// The key in the JSON object.
        place: &'static str,
        /// The name.
        name: String,
    },
    /// Two labels that disagree.
    #[error("key {key:?} has two labels that disagree: {} and {}; keep the right one", said[0], said[1])]
    LabelsDiffer {
        /// The sample's key.
        key: String,
        /// Where they stand, and what they are.
        said: [String; 2],
    },
}
