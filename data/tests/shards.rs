//! Shards written, indexed, opened, read; and attacked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use convnext_data::shard::{
    CLASS_NAMES, ClassDifference, ClassNamesFault, IndexFault, Indexing, Limits, Opening, TarFault,
};
use convnext_data::{
    Access, Channels, Decoder, Encoding, Image, Mixing, SetError, Shard, ShardError, ShardSet, ShardWriter,
};
use tempfile::TempDir;

/// A PGM of 2x2 pixels.
fn pgm(value: u8) -> Vec<u8> {
    [b"P5\n2 2\n255\n".as_slice(), &[value; 4]].concat()
}

/// A folder with shards of `count` samples in all, at most four in each; sample i has label i % 3.
fn written(count: usize) -> (TempDir, Vec<PathBuf>) {
    let folder = TempDir::new().unwrap();
    let limits = Limits { samples: 4, ..Limits::default() };
    let mut writer = ShardWriter::create(folder.path(), "train", limits).unwrap();
    for i in 0..count {
        let label = Some(i as u32 % 3);
        writer.append(&format!("sample{i:03}"), Encoding::Pnm, &pgm(i as u8), label).unwrap();
    }
    let written = writer.finish().unwrap();
    assert_eq!(written.samples, count as u64);
    (folder, written.shards)
}

/// A tar with these members, end mark included.
fn tar_of(folder: &Path, members: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join("x.tar");
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap();
    path
}

fn index_fault(result: Result<Shard, ShardError>) -> IndexFault {
    match result.unwrap_err() {
        ShardError::Index { fault, .. } => fault,
        other => panic!("{other}"),
    }
}

fn tar_fault(path: &Path) -> TarFault {
    match Shard::index(path).unwrap_err() {
        ShardError::Tar { fault, tar } => {
            assert_eq!(tar, path);
            fault
        }
        other => panic!("{other}"),
    }
}

fn index_of(tar: &Path) -> PathBuf {
    let mut name = tar.as_os_str().to_owned();
    name.push(".idx");
    name.into()
}

type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Changes bytes without touching length or modification time: what a bad disk does.
fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn what_is_written_is_read() {
    let (_folder, paths) = written(10);
    assert_eq!(paths.len(), 3);
    for access in [Access::Mapped, Access::Read] {
        let set = ShardSet::open_with(&paths, &Opening { access, ..Opening::default() }).unwrap();
        assert_eq!((set.len(), set.classes()), (10, 3));
        set.require_labels().unwrap();
        let mut scratch = Vec::new();
        for id in 0..10 {
            let sample = set.sample(id).unwrap();
            assert_eq!(sample.label(), Some(id as u32 % 3));
            assert_eq!(sample.key(), format!("sample{id:03}"));
            assert_eq!(sample.verified(&mut scratch).unwrap(), pgm(id as u8));
            assert_eq!(sample.number(), id % 4);
        }
        assert!(matches!(set.sample(10), Err(ShardError::NoSample { id: 10, len: 10 })));
        assert!(matches!(set.sample(u64::MAX), Err(ShardError::NoSample { .. })));
        let summary = set.summary().unwrap();
        assert_eq!((summary.samples, summary.bytes, summary.encodings), (10, 150, [0, 0, 10, 0, 0, 0, 0, 0]));
        for shard in set.shards() {
            shard.verify().unwrap();
        }
    }
}

#[test]
fn the_same_samples_give_the_same_bytes() {
    let (_a, first) = written(6);
    let (_b, second) = written(6);
    for (a, b) in first.iter().zip(&second) {
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
    }
}

#[test]
fn a_sample_decodes_and_its_errors_name_it() {
    let folder = TempDir::new().unwrap();
    let path = tar_of(folder.path(), &[("good.pgm", &pgm(5)), ("bad.jpg", b"no image")]);
    Shard::index(&path).unwrap();
    let shard = Shard::open(&path).unwrap();
    let (mut decoder, mut scratch, mut image) = (Decoder::new(Channels::Rgb), Vec::new(), Image::default());
    shard.sample(0).unwrap().decode_into(&mut decoder, &mut scratch, &mut image).unwrap();
    assert_eq!(image.pixels, [5; 12]);
    let error = shard.sample(1).unwrap().decode_into(&mut decoder, &mut scratch, &mut image).unwrap_err();
    assert!(matches!(error, ShardError::Undecodable { .. }));
    let text = error.to_string();
    assert!(text.contains("x.tar, sample 1 (bad)"), "{text}");
}

#[test]
fn webdataset_groups_by_key() {
    let folder = TempDir::new().unwrap();
    let long = format!("{}/deep.jpeg", "d".repeat(150));
    let path = tar_of(
        folder.path(),
        &[
            ("a/one.jpg", b"1"),
            ("a/one.json", b"{}"),
            ("a/one.cls", b"7\n"),
            ("a/two.CLS", b" 3 "),
            ("a/two.PNG", b"22"),
            ("readme", b"hello"),
            ("b/three.seg.png", b"no"),
            ("b/three.ppm", b"333"),
            (&long, b"4444"),
        ],
    );
    assert_eq!(Shard::index(&path).unwrap().samples, 4);
    let shard = Shard::open(&path).unwrap();
    let all: Vec<_> = shard.samples().map(|s| s.unwrap()).map(|s| (s.label(), s.size(), s.encoding())).collect();
    assert_eq!(
        all,
        [
            (Some(7), 1, Encoding::Jpeg),
            (Some(3), 2, Encoding::Png),
            (None, 3, Encoding::Pnm),
            (None, 4, Encoding::Jpeg)
        ]
    );
    assert_eq!((shard.classes(), shard.unlabelled()), (8, 2));
    shard.verify().unwrap();
    let error = shard.require_labels().unwrap_err();
    assert!(matches!(error, ShardError::NoLabel { .. }));
    assert!(error.to_string().contains("x.tar, sample 2 (b/three)"), "{error}");
}

#[test]
fn each_wrong_tar_has_its_error() {
    let folder = TempDir::new().unwrap();
    let tar = |members: &[(&str, &[u8])]| tar_of(folder.path(), members);
    assert_eq!(tar_fault(&tar(&[("a.txt", b"")])), TarFault::NoSamples);
    assert_eq!(tar_fault(&tar(&[("a.jpg", b"1"), ("a.png", b"2")])), TarFault::TwoImages { key: "a".into() });
    assert_eq!(
        tar_fault(&tar(&[("a.cls", b"1"), ("a.cls", b"2"), ("a.jpg", b"")])),
        TarFault::TwoLabels { key: "a".into() }
    );
    let alone = [("b.jpg", &b"2"[..]), ("a.cls", b"3")];
    assert_eq!(tar_fault(&tar(&alone)), TarFault::LabelAlone { key: "a".into() });
    let apart = [("a.jpg", &b"1"[..]), ("b.jpg", b"2"), ("a.cls", b"3")];
    assert_eq!(tar_fault(&tar(&apart)), TarFault::LabelApart { key: "a".into() });
    let apart = [("a.cls", &b"3"[..]), ("b.jpg", b"2"), ("a.jpg", b"1")];
    assert_eq!(tar_fault(&tar(&apart)), TarFault::LabelApart { key: "a".into() });
    for text in ["", "cat", "-1", "4294967295", "1.0"] {
        let fault = tar_fault(&tar(&[("a.cls", text.as_bytes()), ("a.jpg", b"1")]));
        assert_eq!(fault, TarFault::Label { key: "a".into(), text: text.into() });
    }
    let path = folder.path().join("noise.tar");
    fs::write(&path, [7; 2000]).unwrap();
    assert!(matches!(tar_fault(&path), TarFault::Malformed { .. }));
    fs::write(&path, []).unwrap();
    assert!(matches!(tar_fault(&path), TarFault::Truncated { .. }));
    assert!(!index_of(&path).exists());
    let left =
        |e: &std::io::Result<fs::DirEntry>| e.as_ref().unwrap().file_name().to_string_lossy().contains("partial");
    assert_eq!(fs::read_dir(folder.path()).unwrap().filter(left).count(), 0);
}

#[test]
fn a_cut_tar_is_an_error_wherever_it_is_cut() {
    let (_folder, paths) = written(3);
    let whole = fs::read(&paths[0]).unwrap();
    for len in (0..whole.len() - 1024).step_by(61) {
        fs::write(&paths[0], &whole[..len]).unwrap();
        assert!(matches!(Shard::open(&paths[0]), Err(ShardError::Index { fault: IndexFault::TarLength { .. }, .. })));
        let fault = tar_fault(&paths[0]);
        assert!(matches!(fault, TarFault::Truncated { .. }), "{len}: {fault}");
    }
}

#[test]
fn each_lie_of_an_index_has_its_error() {
    let (_folder, paths) = written(4);
    let (path, index) = (&paths[0], index_of(&paths[0]));
    let sound = fs::read(&index).unwrap();
    let with = |change: Change| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        if bytes.len() >= 64 {
            let crc = crc32fast::hash(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        }
        fs::write(&index, bytes).unwrap();
        Shard::open(path)
    };
    assert!(with(&|_| {}).is_ok());
    assert_eq!(index_fault(with(&|b| b.clear())), IndexFault::Truncated { len: 0 });
    assert_eq!(index_fault(with(&|b| b.truncate(63))), IndexFault::Truncated { len: 63 });
    assert_eq!(index_fault(with(&|b| b[0] = b'X')), IndexFault::Magic);
    assert_eq!(index_fault(with(&|b| b[8] = 3)), IndexFault::Version { version: 3, record: 32 });
    assert!(matches!(index_fault(with(&|b| b[16] ^= 1)), IndexFault::TarLength { .. }));
    assert!(with(&|b| b[24] ^= 1).unwrap().is_moved());
    assert_eq!(index_fault(with(&|b| b.truncate(64 + 100))), IndexFault::Length { count: 4, len: 164 });
    assert!(matches!(index_fault(with(&|b| b[39] = 0xFF)), IndexFault::Length { .. }));
    assert!(matches!(index_fault(with(&|b| b[40] = 5)), IndexFault::Unlabelled { unlabelled: 5, count: 4 }));

    // Lies in records are found when the record is used, and by `verify`: those with a checksum that is right, too.
    let record = 64 + 32;
    let lies: [(&str, Change); 4] = [
        ("range", &|b| b[record + 7] = 0xFF),
        ("length", &|b| b[record + 15] = 0xFF),
        ("label", &|b| b[record + 20] = 200),
        ("encoding", &|b| b[record + 24] = 90),
    ];
    for (what, lie) in lies {
        let fault = |shard: &Shard| match shard.sample(1).unwrap_err() {
            ShardError::Index { fault, .. } => fault,
            other => panic!("{other}"),
        };
        assert_eq!(fault(&with(lie).unwrap()), IndexFault::RecordChecksum { sample: 1 });
        let sealed = with(&|b| {
            lie(b);
            let crc = crc32fast::hash(&[&1u64.to_le_bytes()[..], &b[record..record + 28]].concat());
            b[record + 28..record + 32].copy_from_slice(&crc.to_le_bytes());
        });
        let shard = sealed.unwrap();
        match what {
            "range" | "length" => assert!(matches!(fault(&shard), IndexFault::Range { sample: 1, .. })),
            "label" => assert_eq!(fault(&shard), IndexFault::Label { sample: 1, label: 200, classes: 3 }),
            _ => assert_eq!(fault(&shard), IndexFault::Encoding { sample: 1, code: 90 }),
        }
        assert!(shard.faults().count() > 0, "{what}");
    }

    fs::remove_file(&index).unwrap();
    let error = Shard::open(path).unwrap_err();
    assert!(matches!(error, ShardError::NoIndex { .. }));
    assert!(error.to_string().contains("convnext index"), "{error}");
}

#[test]
fn a_flipped_byte_is_found_and_named() {
    let (_folder, paths) = written(4);
    // Members of 512 + 512 bytes, image then label: the pixels of sample 2.
    damage(&paths[0], |bytes| bytes[4 * 1024 + 512 + 13] ^= 1);
    let shard = Shard::open(&paths[0]).unwrap();
    let mut scratch = Vec::new();
    assert!(shard.sample(1).unwrap().verified(&mut scratch).is_ok());
    let error = shard.sample(2).unwrap().verified(&mut scratch).unwrap_err();
    assert!(matches!(error, ShardError::Checksum { .. }));
    let text = error.to_string();
    assert!(text.contains("train-000000.tar, sample 2 (sample002)") && text.contains("restore"), "{text}");
    assert!(matches!(shard.verify(), Err(ShardError::Checksum { .. })));
    assert!(shard.sample(2).unwrap().bytes(&mut scratch).is_ok());
}

/// Another time, in seconds from now.
fn touch(path: &Path, seconds: i64) {
    let now = std::time::SystemTime::now();
    let by = std::time::Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { now - by } else { now + by };
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn an_index_outlives_a_copy_of_its_tar_and_no_other_tar() {
    let (_folder, paths) = written(4);
    let path = &paths[0];
    for seconds in [-5000, 5000] {
        touch(path, seconds);
        let shard = Shard::open(path).unwrap();
        assert!(shard.is_moved());
        shard.verify().unwrap();
    }
    // The label of sample 2: three members of 1024 bytes before it, and its own header. Whichever time is later.
    let sound = fs::read(path).unwrap();
    for seconds in [-5000, 5000] {
        let mut other = sound.clone();
        other[5 * 1024 + 512] = b'1';
        fs::write(path, other).unwrap();
        touch(path, seconds);
        assert_eq!(index_fault(Shard::open(path)), IndexFault::TarModified, "{seconds}");
    }
    Shard::index(path).unwrap();
    assert!(!Shard::open(path).unwrap().is_moved());
}

/// Makes of an index what version 1 was.
fn age(index: &Path) {
    let mut bytes = fs::read(index).unwrap();
    bytes[8] = 1;
    bytes[56..60].fill(0);
    bytes[64..].chunks_exact_mut(32).for_each(|record| record[28..].fill(0));
    let records = crc32fast::hash(&bytes[64..]);
    bytes[52..56].copy_from_slice(&records.to_le_bytes());
    let header = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&header.to_le_bytes());
    fs::write(index, bytes).unwrap();
}

#[test]
fn an_index_of_version_1_is_read_and_held_to_its_checksum() {
    let (_folder, paths) = written(4);
    let index = index_of(&paths[0]);
    age(&index);
    let shard = Shard::open(&paths[0]).unwrap();
    assert_eq!(shard.sample(2).unwrap().label(), Some(2));
    shard.verify().unwrap();
    touch(&paths[0], 5000);
    Shard::open(&paths[0]).unwrap();
    let mut bytes = fs::read(&index).unwrap();
    bytes[64 + 32 + 20] ^= 1;
    fs::write(&index, bytes).unwrap();
    assert_eq!(index_fault(Shard::open(&paths[0])), IndexFault::RecordsChecksum);
}

#[test]
fn labels_and_names_of_the_tar_are_verified() {
    let (_folder, paths) = written(4);
    // Labels and headers are in no picture's checksum.
    for at in [3 * 1024 + 512, 2 * 1024] {
        damage(&paths[0], |bytes| bytes[at] ^= 1);
        assert!(Shard::open(&paths[0]).unwrap().verify().is_err(), "byte {at}");
        damage(&paths[0], |bytes| bytes[at] ^= 1);
        Shard::open(&paths[0]).unwrap().verify().unwrap();
    }
}

#[test]
fn a_shard_that_is_cut_in_use_is_an_error_that_says_so() {
    for access in [Access::Mapped, Access::Read] {
        let (_folder, paths) = written(4);
        let shard = Shard::open_with(&paths[0], &Opening { access, ..Opening::default() }).unwrap();
        let (mut scratch, mut decoder, mut image) = (Vec::new(), Decoder::new(Channels::Rgb), Image::default());
        let file = File::options().write(true).open(&paths[0]).unwrap();
        file.set_len(2048 + 500).unwrap();
        assert!(shard.sample(0).unwrap().verified(&mut scratch).is_ok());
        let error = shard.sample(2).unwrap().verified(&mut scratch).unwrap_err();
        assert!(matches!(error, ShardError::Cut { len: 2548, .. }), "{error}");
        let error = shard.sample(3).unwrap().decode_into(&mut decoder, &mut scratch, &mut image).unwrap_err();
        assert!(error.to_string().contains("was cut to 2548 bytes while it was in use"), "{error}");
    }
}

/// Run by the test below in a process of its own: cuts a shard between the look at its length and the use of its bytes.
#[test]
#[ignore = "ends its process"]
fn cut_between_look_and_use() {
    let Some(path) = std::env::var_os("CONVNEXT_TEST_CUT").map(PathBuf::from) else { return };
    let shard = Shard::open(&path).unwrap();
    let mut scratch = Vec::new();
    let sample = shard.sample(0).unwrap();
    let bytes = sample.bytes(&mut scratch).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert!(bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>() < u64::MAX, "the pages are gone");
}

#[cfg(unix)]
#[test]
fn a_shard_that_is_cut_even_so_ends_the_process_with_its_name() {
    let folder = TempDir::new().unwrap();
    let path = tar_of(folder.path(), &[("a.pgm", &[7; 100_000])]);
    Shard::index(&path).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "cut_between_look_and_use"])
        .env("CONVNEXT_TEST_CUT", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert_eq!(child.status.code(), Some(1), "{said}");
    assert!(said.contains("x.tar: was cut"), "{said}");
}

#[test]
fn indices_may_lie_elsewhere() {
    let (folder, paths) = written(10);
    let indices = folder.path().join("indices");
    for path in &paths {
        fs::remove_file(index_of(path)).unwrap();
        Shard::index_with(path, &Indexing { indices: Some(&indices), ..Indexing::default() }).unwrap();
    }
    assert!(matches!(ShardSet::open(&paths), Err(SetError::Shard(ShardError::NoIndex { .. }))));
    let opening = Opening { indices: Some(indices), ..Opening::default() };
    assert_eq!(ShardSet::open_with(&paths, &opening).unwrap().len(), 10);
}

#[test]
fn many_may_index_a_shard_at_once() {
    let (folder, paths) = written(4);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| Shard::index(&paths[0]))).collect();
        for one in all {
            assert_eq!(one.join().unwrap().unwrap().samples, 4);
        }
    });
    Shard::open(&paths[0]).unwrap().verify().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let stopped = Shard::index_with(&paths[0], &Indexing { go_on: &|| false, ..Indexing::default() });
    assert!(matches!(stopped, Err(ShardError::Stopped { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn labels_of_json_members() {
    let folder = TempDir::new().unwrap();
    let tar = |members: &[(&str, &[u8])]| tar_of(folder.path(), members);
    let members: &[(&str, &[u8])] = &[
        ("a.json", b"{\"label\": 4, \"caption\": \"x\"}"),
        ("a.jpg", b"1"),
        ("b.jpg", b"2"),
        ("b.JSON", b"{\"class\": \"dog\"}"),
        ("c.cls", b"1"),
        ("c.jpg", b"3"),
        ("c.json", b"{\"target\": 1}"),
        ("d.jpg", b"3"),
        ("d.json", b"{"),
    ];
    let labels = |path: &Path| -> Vec<_> {
        Shard::open(path).unwrap().samples().map(|sample| sample.unwrap().label()).collect()
    };
    let path = tar(members);
    let indexed = Shard::index(&path).unwrap();
    assert_eq!((indexed.unlabelled, indexed.named, indexed.unreadable), (2, 1, 1));
    assert_eq!(labels(&path), [Some(4), None, Some(1), None]);
    fs::write(folder.path().join("x.classes.txt"), "cat\nemu\nfox\ndog\nelk\n").unwrap();
    Shard::index(&path).unwrap();
    assert_eq!(labels(&path), [Some(4), Some(3), Some(1), None]);
    Shard::open(&path).unwrap().verify().unwrap();
    let fault = tar_fault(&tar(&[("a.jpg", b"1"), ("a.cls", b"1"), ("a.json", b"{\"cls\": 2}")]));
    assert!(matches!(fault, TarFault::LabelsDiffer { .. }), "{fault}");
}

#[test]
fn links_are_followed_to_files_of_the_tar() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.tar");
    let mut builder = tar::Builder::new(File::create(&path).unwrap());
    let mut file = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    file("./a.png", b"1");
    file("./a.cls", b"7");
    for (kind, name, target) in [
        (tar::EntryType::Link, "b.png", "./a.png"),
        (tar::EntryType::Link, "b.cls", "a.cls"),
        (tar::EntryType::Symlink, "c.png", "a.png"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    }
    builder.into_inner().unwrap();
    let found = Shard::index_with(&path, &Indexing { left_out: 0.5, ..Indexing::default() }).unwrap();
    assert_eq!(found.left_out.get("symbolic link"), Some(&1));
    let shard = Shard::open(&path).unwrap();
    let samples: Vec<_> = shard.samples().map(|sample| sample.unwrap()).collect();
    assert_eq!(samples.iter().map(|sample| (sample.label(), sample.size())).collect::<Vec<_>>(), [(Some(7), 1); 2]);
    shard.verify().unwrap();
}

#[test]
fn pictures_that_cannot_be_read_are_counted_and_bounded() {
    let folder = TempDir::new().unwrap();
    let path = tar_of(
        folder.path(),
        &[("a.jpg", b"1"), ("b.avif", b"2"), ("b.cls", b"1"), ("c.v2.jpg", b"3"), ("a.mask.png", b"")],
    );
    let error = Shard::index(&path).unwrap_err();
    let ShardError::LeftOut { left_out: 3, pictures: 4, kinds, .. } = &error else { panic!("{error}") };
    assert_eq!(kinds, "1 .avif, 2 with a dot in the key");
    assert!(!index_of(&path).exists());
    assert_eq!(Shard::index_with(&path, &Indexing { left_out: 0.75, ..Indexing::default() }).unwrap().samples, 1);
}

#[test]
fn what_is_no_tar_is_called_what_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.tar");
    for (start, what) in [
        (&b"\x1f\x8b\x08"[..], "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\0", "xz"),
        (b"BZh9", "bzip2"),
        (b"PK\x03\x04", "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\n<!DOCTYPE html>", "web page"),
    ] {
        for len in [start.len(), 20_000] {
            let mut bytes = start.to_vec();
            bytes.resize(len, b'x');
            fs::write(&path, bytes).unwrap();
            let fault = tar_fault(&path).to_string();
            assert!(fault.contains(what) && !fault.contains("copy"), "{fault}");
        }
    }
    assert_eq!(tar_fault(folder.path()), TarFault::Folder);
}

#[test]
fn headers_that_claim_gigabytes_are_refused_unread() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("x.tar");
    for kind in [tar::EntryType::GNULongName, tar::EntryType::GNULongLink, tar::EntryType::XHeader] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(8 << 30);
        header.set_cksum();
        fs::write(&path, header.as_bytes()).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(9 << 30).unwrap(); // holes: no disk is filled
        assert!(matches!(tar_fault(&path), TarFault::LongHeader { .. }));
        header.set_size(u64::MAX - 100);
        header.set_cksum();
        fs::write(&path, [header.as_bytes().as_slice(), &[0; 2048]].concat()).unwrap();
        assert!(matches!(tar_fault(&path), TarFault::Truncated { .. }));
    }
}

#[test]
fn a_tar_behind_a_tar_is_told() {
    let (_folder, paths) = written(4);
    let one = fs::read(&paths[0]).unwrap();
    assert_eq!(Shard::index(&paths[0]).unwrap().another, None);
    fs::write(&paths[0], [one.as_slice(), &one].concat()).unwrap();
    let indexed = Shard::index(&paths[0]).unwrap();
    assert_eq!((indexed.samples, indexed.another), (4, Some(one.len() as u64)));
}

#[test]
fn random_damage_never_panics() {
    let (_folder, paths) = written(4);
    let index = index_of(&paths[0]);
    let sound = fs::read(&index).unwrap();
    for at in 0..sound.len() {
        for with in [0, 1, 0x7F, 0xFF] {
            let mut bytes = sound.clone();
            bytes[at] = with;
            fs::write(&index, &bytes).unwrap();
            if let Ok(shard) = Shard::open(&paths[0]) {
                let _ = shard.verify();
                shard.samples().flatten().for_each(|sample| drop(sample.to_string()));
            }
        }
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let limits = Limits { samples: 1, ..Limits::default() };
    let mut writer = ShardWriter::create(folder.path(), "x", limits).unwrap();
    for key in ["a", "b", "c"] {
        writer.append(key, Encoding::Pnm, &pgm(0), None).unwrap();
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_set_that_was_not_finished_is_told_and_begun_anew() {
    let (folder, paths) = written(6);
    let marker = folder.path().join("train.packing");
    let create = |name| ShardWriter::create(folder.path(), name, Limits::default());

    // A marker that claims nothing is of a writer that died before it wrote anything: what is there is another's.
    fs::write(&marker, "").unwrap();
    assert!(matches!(ShardSet::open(&paths), Err(SetError::Shard(ShardError::Unfinished { .. }))));
    assert!(matches!(create("train").err(), Some(ShardError::Exists { .. })));
    ShardSet::open(&paths).unwrap();

    // One that claims the set, and is not held: its writer died, and what is there is its.
    let mut dead = create("dead").unwrap();
    dead.append("a", Encoding::Pnm, &pgm(1), None).unwrap();
    let claim = fs::read(folder.path().join("dead.packing")).unwrap();
    assert!(matches!(create("dead").err(), Some(ShardError::Busy { .. })));
    drop(dead);
    fs::write(&marker, claim).unwrap();
    fs::write(folder.path().join("train-000007.tar.partial"), "x").unwrap();
    let mut writer = create("train").unwrap();
    writer.append("a", Encoding::Pnm, &pgm(1), Some(0)).unwrap();
    let again = writer.finish().unwrap().shards;
    assert_eq!(ShardSet::open(&again).unwrap().len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_writer_refuses_to_mix_sets_and_odd_keys() {
    let (folder, _) = written(1);
    let again = |name| ShardWriter::create(folder.path(), name, Limits::default());
    assert!(matches!(again("train").err(), Some(ShardError::Exists { .. })));
    assert!(again("tra").is_ok());
    for key in ["", "a.b", "/a", "../a", "ä", &"x".repeat(91)] {
        let error = again("other").unwrap().append(key, Encoding::Png, b"", None).unwrap_err();
        assert!(matches!(error, ShardError::Key { .. }), "{key}");
    }
    assert!(matches!(again("a/b").err(), Some(ShardError::Key { .. })));
}

/// A set called `name` in `folder` whose sample `i` has label `labels[i]`, its classes named where names are given.
fn packed(folder: &Path, name: &str, labels: &[u32], names: Option<&[&str]>) -> Vec<PathBuf> {
    let mut writer = ShardWriter::create(folder, name, Limits::default()).unwrap();
    if let Some(names) = names {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        writer.name_classes(&names).unwrap();
    }
    for (i, &label) in labels.iter().enumerate() {
        writer.append(&format!("s{i}"), Encoding::Pnm, &pgm(i as u8), Some(label)).unwrap();
    }
    writer.finish().unwrap().shards
}

fn labels(set: &ShardSet) -> Vec<u32> {
    (0..set.len()).map(|id| set.sample(id).unwrap().require_label().unwrap()).collect()
}

#[test]
fn class_names_belong_to_a_set_and_not_to_a_folder() {
    let folder = TempDir::new().unwrap();
    let train = packed(folder.path(), "train", &[0, 1, 2], Some(&["cat", "dog", "emu"]));
    let test = packed(folder.path(), "test", &[0], Some(&["emu"]));
    assert_eq!(ShardSet::open(&train).unwrap().class_names().unwrap(), ["cat", "dog", "emu"]);
    assert_eq!(ShardSet::open(&test).unwrap().class_names().unwrap(), ["emu"]);
    assert_eq!(fs::read_to_string(folder.path().join("train.classes.txt")).unwrap(), "cat\ndog\nemu\n");

    // Sets without a file of their own, and sets of before there were such files.
    let other = packed(folder.path(), "other", &[0, 1], None);
    assert_eq!(ShardSet::open(&other).unwrap().class_names(), None);
    fs::write(folder.path().join(CLASS_NAMES), "\u{feff}one\r\ntwo\r\n\r\n").unwrap();
    assert_eq!(ShardSet::open(&other).unwrap().class_names().unwrap(), ["one", "two"]);
    assert_eq!(ShardSet::open(&train).unwrap().class_names().unwrap(), ["cat", "dog", "emu"]);
    assert!(matches!(ShardSet::open(&[]), Err(SetError::Shard(ShardError::NoShards))));
}

#[test]
fn labels_follow_names() {
    let folder = TempDir::new().unwrap();
    let shards = packed(folder.path(), "val", &[2, 0, 1], Some(&["ant", "cafe\u{301}", "dog"]));
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let set = ShardSet::open(&shards).unwrap().relabelled(&names(&["ant", "bee", "café", "dog"])).unwrap();
    assert_eq!(labels(&set), [3, 0, 2]);
    assert_eq!((set.classes(), set.class_names().unwrap().len()), (4, 4));
    let set = set.relabelled(&names(&["dog", "café", "bee", "ant"])).unwrap();
    assert_eq!(labels(&set), [0, 3, 1]);
    let difference = set.relabelled(&names(&["Dog", "café", "ant"])).unwrap_err();
    let ClassDifference::Names { unknown, absent, near } = &difference else { panic!("{difference}") };
    assert_eq!((unknown.as_slice(), absent.as_slice()), (&names(&["dog", "bee"])[..], &names(&["Dog"])[..]));
    assert_eq!(near, &[("dog".to_owned(), "Dog".to_owned())]);

    let numbered = packed(folder.path(), "numbered", &[1], None);
    let numbered = ShardSet::open(&numbered).unwrap().relabelled(&names(&["a", "b"])).unwrap();
    assert_eq!((labels(&numbered), numbered.class_names()), (vec![1], None));
}

#[test]
fn sets_are_joined_by_the_names_of_their_classes() {
    let folder = TempDir::new().unwrap();
    let join = |sets: [&[PathBuf]; 2]| ShardSet::open(&sets.concat()).unwrap();
    let a = packed(folder.path(), "a", &[0, 1], Some(&["dog", "cat"]));
    let b = packed(folder.path(), "b", &[0, 1, 2], Some(&["ant", "cat", "dog"]));
    let set = join([&a, &b]);
    assert_eq!(set.class_names().unwrap(), ["dog", "cat", "ant"]);
    assert_eq!((labels(&set), set.is_joined_by_name()), (vec![0, 1, 2, 1, 0], true));
    assert!(!join([&a, &a]).is_joined_by_name());

    // What a number means beside names, nobody knows; who looks at no labels need not.
    let numbered = packed(folder.path(), "c", &[0], None);
    let set = join([&a, &numbered]);
    let unusable = |fault| matches!(fault, SetError::Shard(ShardError::ClassNames(ClassNamesFault::Mixed { .. })));
    assert!(
        unusable(set.require_labels().unwrap_err()) && unusable(set.sample(0).unwrap().require_label().unwrap_err())
    );
    assert!(matches!(set.relabelled(&["dog".into(), "cat".into()]), Err(ClassDifference::Unusable(_))));

    // So with names that are fewer than the classes.
    fs::write(folder.path().join("a.classes.txt"), "dog\n").unwrap();
    let set = ShardSet::open(&a).unwrap();
    let error = set.require_labels().unwrap_err().to_string();
    assert!(error.contains("a.classes.txt") && error.contains("add the missing lines"), "{error}");
    assert!(set.sample(1).is_ok());
}

/// Sorted and shuffled, of small pictures: what an order reads follows from the labels in the index.
#[test]
fn a_sorted_set_is_mixed_more() {
    let folder = TempDir::new().unwrap();
    let set = |name: &str, label: &dyn Fn(u32) -> u32| {
        let mut writer =
            ShardWriter::create(folder.path(), name, Limits { samples: 2000, ..Limits::default() }).unwrap();
        for number in 0..6000 {
            let pixels = format!("P5\n1 1\n255\n{}", char::from(b'a' + (number % 26) as u8));
            writer.append(&format!("{number:06}"), Encoding::Pnm, pixels.as_bytes(), Some(label(number))).unwrap();
        }
        ShardSet::open(&writer.finish().unwrap().shards).unwrap().mixing().unwrap()
    };
    assert_eq!(set("mixed", &|number| number % 60), Mixing::default());
    let Mixing { block, window } = set("sorted", &|number| number / 100);
    assert!(block == 64 && window > 1000, "{block} x {window}");
}
