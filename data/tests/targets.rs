//! Targets beyond one class: written, indexed, read; and attacked.

use std::fs;
use std::path::{Path, PathBuf};

use convnext_data::shard::{IndexFault, Indexed, Limits, Opening};
use convnext_data::target::{BoundingBox, IGNORED};
use convnext_data::{
    Access, Channels, Decoder, Encoding, Example, Image, Shard, ShardError, ShardSet, ShardWriter, Target, TargetKind,
    encode,
};
use tempfile::TempDir;

fn pgm(height: usize, width: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::pnm(Image::new(height, width, 1).view(), &mut bytes).unwrap();
    bytes
}

fn map(height: usize, width: usize, classes: &[u8]) -> Target {
    Target::Segmentation(Image::from_pixels(height, width, 1, classes.to_vec()).unwrap())
}

fn boxes() -> Target {
    Target::Boxes(vec![
        BoundingBox { left: 0.0, top: 0.5, right: 2.0, bottom: 2.0, class: 4 },
        BoundingBox { left: 1.0, top: 0.0, right: 3.0, bottom: 1.25, class: 0 },
    ])
}

/// One of each kind, in one shard.
fn each_kind() -> [Target; 5] {
    [Target::None, Target::Class(2), Target::Classes(vec![7, 1]), map(2, 3, &[0, 1, 2, 3, IGNORED, 5]), boxes()]
}

fn written(targets: &[Target]) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let mut writer = ShardWriter::create(folder.path(), "x", Limits::default()).unwrap();
    for (number, target) in targets.iter().enumerate() {
        writer.append(&format!("s{number}"), Encoding::Pnm, &pgm(2, 3), target.clone()).unwrap();
    }
    let path = writer.finish().unwrap().shards.remove(0);
    (folder, path)
}

fn index_of(tar: &Path) -> PathBuf {
    tar.with_extension("tar.idx")
}

/// A tar of these members, indexed.
fn indexed(folder: &TempDir, members: &[(&str, &[u8])]) -> (PathBuf, Indexed) {
    let path = folder.path().join("y.tar");
    let mut tar = tar::Builder::new(fs::File::create(&path).unwrap());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap();
    let indexed = Shard::index(&path).unwrap();
    (path, indexed)
}

fn read(shard: &Shard, number: u64, kind: TargetKind) -> Result<Target, ShardError> {
    let (mut decoder, mut scratch, mut example) = (Decoder::new(Channels::Grey), Vec::new(), Example::default());
    shard.sample(number)?.example_into(kind, &mut decoder, &mut scratch, &mut example)?;
    assert_eq!((example.image.height, example.image.width), (2, 3));
    Ok(example.target)
}

#[test]
fn what_is_written_is_read() {
    let (_folder, path) = written(&each_kind());
    for access in [Access::Mapped, Access::Read] {
        let shard = Shard::open_with(&path, &Opening { access, ..Opening::default() }).unwrap();
        for (number, target) in (0..).zip(each_kind()) {
            assert_eq!(read(&shard, number, target.kind()).unwrap(), target);
        }
        // The largest class is 7, of a list.
        assert_eq!((shard.classes(), shard.unlabelled()), (8, 4));
        assert_eq!(shard.verify().unwrap().targets, [1, 1, 1]);
        let error = read(&shard, 1, TargetKind::Boxes).unwrap_err();
        assert!(matches!(error, ShardError::NoTarget { kind: TargetKind::Boxes, .. }));
        let text = error.to_string();
        assert!(text.contains("x-000000.tar, sample 1 (s1)") && text.contains("[left, top, right, bottom]"), "{text}");
        assert!(shard.require_targets(TargetKind::None).is_ok());
        let missing = shard.require_targets(TargetKind::Segmentation).unwrap_err().to_string();
        assert!(missing.contains("sample 0 (s0)") && missing.contains(".seg.png"), "{missing}");
    }
}

#[test]
fn only_targets_beyond_a_class_change_the_index() {
    let version = |path: &Path| {
        let bytes = fs::read(index_of(path)).unwrap();
        (bytes[8], bytes[12], bytes.len())
    };
    let (_folder, plain) = written(&each_kind()[..2]);
    assert_eq!(version(&plain), (2, 32, 64 + 2 * 32));
    let (_folder, more) = written(&each_kind());
    assert_eq!(version(&more), (3, 96, 64 + 5 * 96));
    // The records are what they are without the others.
    let records = |path: &Path| fs::read(index_of(path)).unwrap()[64..64 + 2 * 32].to_vec();
    assert_eq!(records(&plain), records(&more));
}

#[test]
fn an_index_from_before_still_serves() {
    let (_folder, path) = written(&each_kind());
    let index = index_of(&path);
    let mut bytes = fs::read(&index).unwrap();
    bytes.truncate(64 + 5 * 32);
    (bytes[8], bytes[12]) = (2, 32);
    let crc = crc32fast::hash(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&index, bytes).unwrap();
    let shard = Shard::open(&path).unwrap();
    assert_eq!(read(&shard, 1, TargetKind::Class).unwrap(), Target::Class(2));
    assert!(matches!(read(&shard, 3, TargetKind::Segmentation), Err(ShardError::NoTarget { .. })));
    // Headers and labels are compared, and there is nothing to compare the targets with.
    shard.verify().unwrap();
}

#[test]
fn a_flipped_byte_of_a_target_is_found_and_named() {
    let (_folder, path) = written(&each_kind());
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    for (number, kind, what) in [(3, TargetKind::Segmentation, &b"IDAT"[..]), (4, TargetKind::Boxes, b"1.25")] {
        let at = bytes.windows(4).position(|window| window == what).unwrap();
        bytes[at + 3] ^= 1;
        fs::write(&path, &bytes).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
        let shard = Shard::open(&path).unwrap();
        let error = read(&shard, number, kind).unwrap_err();
        assert!(matches!(error, ShardError::Checksum { .. }), "{error}");
        assert!(error.to_string().contains(&format!("sample {number} (s{number})")), "{error}");
        assert!(matches!(shard.verify(), Err(ShardError::Checksum { .. })));
        bytes[at + 3] ^= 1;
    }
}

#[test]
fn a_lie_of_a_target_record_has_its_error() {
    let (_folder, path) = written(&each_kind());
    let (index, record) = (index_of(&path), 64 + 5 * 32 + 4 * 64);
    let mut bytes = fs::read(&index).unwrap();
    bytes[record + 44] = 1;
    fs::write(&index, &bytes).unwrap();
    let fault = |shard: &Shard| match read(shard, 4, TargetKind::Boxes).unwrap_err() {
        ShardError::Index { fault, .. } => fault,
        other => panic!("{other}"),
    };
    assert_eq!(fault(&Shard::open(&path).unwrap()), IndexFault::RecordChecksum { sample: 4 });
    bytes[record + 39] = 0xFF; // length of the annotation
    bytes[record + 44] = 2;
    let crc = crc32fast::hash(&[&4u64.to_le_bytes()[..], &bytes[record..record + 60]].concat());
    bytes[record + 60..record + 64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&index, &bytes).unwrap();
    let shard = Shard::open(&path).unwrap();
    assert!(matches!(fault(&shard), IndexFault::Range { sample: 4, .. }));
    assert!(shard.faults().count() > 0);
}

/// As PNG stores them: grey or numbers of a palette, of one to eight bits, the first value in the highest bits.
#[test]
fn segmentations_of_other_programs_are_read() {
    let folder = TempDir::new().unwrap();
    let packed = |colour, depth, data: &[u8]| {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
        encoder.set_color(colour);
        encoder.set_depth(depth);
        if colour == png::ColorType::Indexed {
            encoder.set_palette((0..768).map(|value| (value * 7 % 256) as u8).collect::<Vec<_>>());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    };
    use png::BitDepth::{Eight, Four, One, Sixteen, Two};
    use png::ColorType::{Grayscale, Indexed, Rgb};
    let good = [
        (packed(Grayscale, Eight, &[1, 2, 3, 4, 5, 255]), [1, 2, 3, 4, 5, 255]),
        (packed(Indexed, Eight, &[1, 2, 3, 4, 5, 255]), [1, 2, 3, 4, 5, 255]),
        (packed(Grayscale, Four, &[0x12, 0x30, 0x4F, 0x50]), [1, 2, 3, 4, 15, 5]),
        (packed(Indexed, Two, &[0b0110_1100, 0b1100_0100]), [1, 2, 3, 3, 0, 1]),
        (packed(Grayscale, One, &[0b1010_0000, 0b0110_0000]), [1, 0, 1, 0, 1, 1]),
    ];
    for (number, (png, classes)) in good.iter().enumerate() {
        let name = if number % 2 == 0 { "a.seg.png" } else { "A.MASK.PNG" };
        let key = &name[..1];
        let (path, found) = indexed(&folder, &[(&format!("{key}.pgm"), &pgm(2, 3)), (name, png)]);
        assert!(found.left_out.is_empty());
        let shard = Shard::open(&path).unwrap();
        assert_eq!(read(&shard, 0, TargetKind::Segmentation).unwrap(), map(2, 3, classes), "{number}");
    }
    let bad: [(Vec<u8>, &str); 4] = [
        (packed(Rgb, Eight, &[0; 18]), "Rgb PNG of 8 bits"),
        (packed(Grayscale, Sixteen, &[0; 12]), "Grayscale PNG of 16 bits"),
        (pgm(2, 3), "PNM"),
        (good[0].0[..60].to_vec(), "cut"),
    ];
    for (png, said) in bad {
        let (path, _) = indexed(&folder, &[("a.pgm", &pgm(2, 3)), ("a.seg.png", &png)]);
        let error = read(&Shard::open(&path).unwrap(), 0, TargetKind::Segmentation).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("sample 0 (a)"), "{error}");
    }
    let (path, _) = indexed(&folder, &[("a.pgm", &pgm(3, 2)), ("a.seg.png", &good[0].0)]);
    let error = read(&Shard::open(&path).unwrap(), 0, TargetKind::Segmentation).unwrap_err();
    assert!(matches!(error, ShardError::SegmentationSize { found: (2, 3), wanted: (3, 2), .. }), "{error}");
}

#[test]
fn other_members_are_what_they_were() {
    let folder = TempDir::new().unwrap();
    // A segmentation without a picture is a picture whose key has a dot, as any other.
    let alone = folder.path().join("z.tar");
    let mut tar = tar::Builder::new(fs::File::create(&alone).unwrap());
    let mut header = tar::Header::new_ustar();
    header.set_size(1);
    header.set_path("a.seg.png").unwrap();
    header.set_cksum();
    tar.append(&header, &b"1"[..]).unwrap();
    tar.into_inner().unwrap();
    assert!(matches!(Shard::index(&alone), Err(ShardError::LeftOut { left_out: 1, pictures: 1, .. })));
    let json = br#"{"label": 3, "labels": ["a", "dog"]}"#;
    let (path, found) = indexed(&folder, &[("a.pgm", &pgm(2, 3)), ("a.json", json), ("a.txt", b"words")]);
    assert_eq!((found.other_form, found.unreadable), (1, 0));
    let shard = Shard::open(&path).unwrap();
    assert_eq!(read(&shard, 0, TargetKind::Class).unwrap(), Target::Class(3));
    assert!(matches!(read(&shard, 0, TargetKind::Classes), Err(ShardError::NoTarget { .. })));
}

#[test]
fn targets_follow_the_names_of_classes() {
    let (_folder, path) = written(&[map(2, 3, &[0, 1, 2, 0, IGNORED, 1]), boxes(), Target::Classes(vec![2, 0])]);
    fs::write(path.with_file_name("x.classes.txt"), "ant\nbee\ncat\ndog\nelk\n").unwrap();
    let names = ["fox", "elk", "dog", "cat", "bee", "ant"].map(str::to_owned);
    let set = ShardSet::open(&[path]).unwrap().relabelled(&names).unwrap();
    let shard = set.shards().next().unwrap();
    assert_eq!(read(shard, 0, TargetKind::Segmentation).unwrap(), map(2, 3, &[5, 4, 3, 5, IGNORED, 4]));
    assert_eq!(read(shard, 2, TargetKind::Classes).unwrap(), Target::Classes(vec![3, 5]));
    let Target::Boxes(found) = read(shard, 1, TargetKind::Boxes).unwrap() else { panic!() };
    assert_eq!(found.iter().map(|object| object.class).collect::<Vec<_>>(), [1, 5]);
}

#[test]
fn a_segmentation_of_three_channels_is_not_written() {
    let folder = TempDir::new().unwrap();
    let mut writer = ShardWriter::create(folder.path(), "x", Limits::default()).unwrap();
    let target = Target::Segmentation(Image::new(2, 3, 3));
    assert!(matches!(writer.append("a", Encoding::Pnm, &pgm(2, 3), target), Err(ShardError::Encode { .. })));
}
