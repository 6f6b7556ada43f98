//! Packing IDX files, class folders and lists.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use convnext_data::decode::{Chroma, Format};
use convnext_data::image::Jpeg;
use convnext_data::pack::{
    Classes, FolderSource, IdxFault, IdxSource, ListSource, Options, PackError, Packed, Recode, Source, pack,
    pack_split,
};
use convnext_data::{Channels, Decoder, Encoding, Image, ShardSet, encode};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

fn idx_images(count: u32) -> Vec<u8> {
    let header = [0x803u32, count, 2, 3].map(u32::to_be_bytes).concat();
    let pixels = (0..count).flat_map(|i| [i as u8; 6]).collect();
    [header, pixels].concat()
}

fn idx_labels(count: u32) -> Vec<u8> {
    let header = [0x801u32, count].map(u32::to_be_bytes).concat();
    [header, (0..count).map(|i| (i % 10) as u8).collect()].concat()
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

fn run(source: &dyn Source, to: &Path, options: &Options) -> Result<(Packed, ShardSet), PackError> {
    let packed = pack(source, to, options, &mut |_, _| ControlFlow::Continue(()))?;
    let set = ShardSet::open(&packed.written.shards).unwrap();
    Ok((packed, set))
}

fn all(set: &ShardSet, channels: Channels) -> Vec<(Image, Option<u32>)> {
    let mut decoder = Decoder::new(channels);
    (0..set.len())
        .map(|id| {
            let (sample, mut image) = (set.sample(id).unwrap(), Image::default());
            sample.decode_into(&mut decoder, &mut Vec::new(), &mut image).unwrap();
            (image, sample.label())
        })
        .collect()
}

fn idx_source(folder: &TempDir, count: u32) -> IdxSource {
    let images = file(folder, "images", &idx_images(count));
    let labels = file(folder, "labels", &idx_labels(count));
    IdxSource::open(&images, &labels).unwrap()
}

#[test]
fn idx_becomes_raw_images() {
    let folder = TempDir::new().unwrap();
    let source = idx_source(&folder, 50).with_class_names((0..10).map(|i| format!("class {i}")));
    let (mut seen, to) = (Vec::new(), folder.path().join("out"));
    let packed = pack(&source, &to, &Options::default(), &mut |done, of| {
        seen.push((done, of));
        ControlFlow::Continue(())
    });
    let packed = packed.unwrap();
    assert_eq!(seen, (1..=50).map(|done| (done, 50)).collect::<Vec<_>>());
    let set = ShardSet::open(&packed.written.shards).unwrap();
    assert_eq!((set.len(), set.classes(), set.class_names().unwrap().len()), (50, 10, 10));
    let mut values: Vec<u8> = all(&set, Channels::Grey)
        .into_iter()
        .map(|(image, label)| {
            assert_eq!((image.height, image.width), (2, 3));
            assert_eq!(label, Some(u32::from(image.pixels[0]) % 10));
            image.pixels[0]
        })
        .collect();
    assert_ne!(values, (0..50).collect::<Vec<u8>>(), "packed order is shuffled");
    values.sort_unstable();
    assert_eq!(values, (0..50).collect::<Vec<u8>>());
    assert_eq!(set.summary().unwrap().encodings, [0, 0, 50, 0, 0, 0, 0, 0]);
}

#[test]
fn gzip_is_unpacked() {
    let folder = TempDir::new().unwrap();
    let zipped = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        let mut encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap();
        path
    };
    let source = IdxSource::open(&zipped("i.gz", &idx_images(5)), &zipped("l.gz", &idx_labels(5))).unwrap();
    assert_eq!((source.len(), source.label(3)), (5, Some(3)));
}

#[test]
fn each_lie_of_an_idx_file_has_its_error() {
    let folder = TempDir::new().unwrap();
    let fault = |images: &[u8], labels: &[u8]| {
        let (images, labels) = (file(&folder, "i", images), file(&folder, "l", labels));
        match IdxSource::open(&images, &labels).unwrap_err() {
            PackError::Idx { fault, .. } => fault,
            other => panic!("{other}"),
        }
    };
    let (images, labels) = (idx_images(4), idx_labels(4));
    assert!(matches!(fault(&labels, &images), IdxFault::Truncated { .. } | IdxFault::Magic { .. }));
    assert!(matches!(fault(&images, &images), IdxFault::Magic { wanted: "labels", found: 0x803, .. }));
    assert_eq!(fault(&images[..10], &labels), IdxFault::Truncated { promised: 16, found: 10 });
    assert_eq!(fault(&images[..30], &labels), IdxFault::Truncated { promised: 24, found: 14 });
    assert_eq!(fault(&[&images[..], &[0]].concat(), &labels), IdxFault::Trailing { promised: 24 });
    assert_eq!(fault(&images, &idx_labels(3)), IdxFault::Count { images: 4, labels: 3 });
    let mut lie = images.clone();
    lie[4..12].fill(0xFF);
    assert!(matches!(fault(&lie, &labels), IdxFault::TooLarge { .. }));
    let mut lie = images.clone();
    lie[8..12].fill(0);
    assert_eq!(fault(&lie, &labels), IdxFault::NoPixels { height: 0, width: 3 });
}

#[test]
fn a_subset_has_so_many_of_each_class_and_follows_the_seed() {
    let folder = TempDir::new().unwrap();
    let source = idx_source(&folder, 200);
    let subset = |name: &str, per_class, seed| {
        let options = Options { name: name.into(), per_class: Some(per_class), seed, ..Options::default() };
        let (_, set) = run(&source, folder.path(), &options).unwrap();
        let mut values: Vec<u8> = all(&set, Channels::Grey).iter().map(|(image, _)| image.pixels[0]).collect();
        let mut classes: HashMap<u8, u64> = HashMap::new();
        values.iter().for_each(|v| *classes.entry(v % 10).or_default() += 1);
        assert!(classes.len() == 10 && classes.values().all(|&n| n == per_class));
        values.sort_unstable();
        values
    };
    let (six, again, other, five) = (subset("a", 6, 1), subset("b", 6, 1), subset("c", 6, 2), subset("d", 5, 1));
    assert_eq!(six, again);
    assert_ne!(six, other);
    assert!(five.iter().all(|v| six.contains(v)), "a smaller subset is part of a larger one");
}

/// Two classes: a JPEG, a PNG called .JPEG, a PNG with transparency; and things to pass over.
fn tree() -> TempDir {
    let folder = TempDir::new().unwrap();
    let image = |channels| Image::from_pixels(20, 40, channels, vec![100; 800 * channels]).unwrap();
    let (mut jpeg, mut png, mut transparent) = (Vec::new(), Vec::new(), Vec::new());
    encode::jpeg(image(3).view(), 90, Chroma::Full, &mut jpeg).unwrap();
    encode::png(image(1).view(), &mut png).unwrap();
    encode::png(image(4).view(), &mut transparent).unwrap();
    file(&folder, "cats/tom.jpg", &jpeg);
    file(&folder, "cats/deeper/felix.JPEG", &png);
    file(&folder, "cats/notes.txt", b"no image");
    file(&folder, "dogs/rex v1.2.png", &transparent);
    file(&folder, ".hidden/x.png", &png);
    file(&folder, "empty/readme.md", b"");
    folder
}

#[test]
fn a_tree_of_class_folders_is_packed_as_it_is() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let source = FolderSource::open(tree.path(), None).unwrap();
    let options = Options { shuffle: false, ..Options::default() };
    let (_, set) = run(&source, out.path(), &options).unwrap();
    assert_eq!(set.class_names().unwrap(), ["cats", "dogs"]);
    let found: Vec<_> =
        (0..set.len()).map(|id| set.sample(id).unwrap()).map(|s| (s.key(), s.label(), s.encoding())).collect();
    assert_eq!(
        found,
        [
            ("00000000-deeper-felix".to_owned(), Some(0), Some(Encoding::Png)),
            ("00000001-cats-tom".to_owned(), Some(0), Some(Encoding::Jpeg)),
            ("00000002-dogs-rex-v1-2".to_owned(), Some(1), Some(Encoding::Png)),
        ]
    );
    let kept = set.sample(1).unwrap();
    assert_eq!(kept.bytes(&mut Vec::new()).unwrap(), fs::read(tree.path().join("cats/tom.jpg")).unwrap());
}

#[test]
fn images_are_resized_and_encoded_on_request() {
    let tree = tree();
    let source = FolderSource::open(tree.path(), None).unwrap();
    for (recode, format) in [
        (Recode::Jpeg(85), Some(Format::Jpeg)),
        (Recode::Png, Some(Format::Png)),
        (Recode::Raw, Some(Format::Pnm)),
        (Recode::Keep(92), None),
    ] {
        let out = TempDir::new().unwrap();
        let options = Options { recode, resize: Some(8), ..Options::default() };
        let (_, set) = run(&source, out.path(), &options).unwrap();
        for id in 0..3 {
            let (sample, mut scratch) = (set.sample(id).unwrap(), Vec::new());
            let bytes = sample.verified(&mut scratch).unwrap();
            assert!(format.is_none() || Format::sniff(bytes) == format);
        }
        for (image, _) in all(&set, Channels::Rgb) {
            assert_eq!((image.height, image.width), (8, 16));
        }
    }
}

/// JPEGs that are kept have restart markers and the same pixels, or the same bytes; on any number of threads.
#[test]
fn jpegs_are_marked_unless_each_byte_is_to_stay() {
    let folder = TempDir::new().unwrap();
    let mut originals = Vec::new();
    for number in 0..9u8 {
        let pixels = (0..160 * 192 * 3).map(|i: usize| (i * (3 + usize::from(number)) % 251) as u8 ^ (i >> 9) as u8);
        let image = Image::from_pixels(160, 192, 3, pixels.collect()).unwrap();
        let mut bytes = Vec::new();
        let jpeg = Jpeg { quality: 90, chroma: (2, 2), restart_interval: 0 };
        jpeg.encode(image.view(), &mut bytes).unwrap();
        file(&folder, &format!("a/{number}.jpg"), &bytes);
        originals.push((Decoder::new(Channels::Rgb).decode(&bytes).unwrap(), bytes));
    }
    let source = FolderSource::open(folder.path(), None).unwrap();
    let packed = |recode, threads| {
        let out = TempDir::new().unwrap();
        let options = Options { recode, threads, shuffle: false, ..Options::default() };
        let (_, set) = run(&source, out.path(), &options).unwrap();
        (0..set.len()).map(|id| set.sample(id).unwrap().bytes(&mut Vec::new()).unwrap().to_vec()).collect::<Vec<_>>()
    };
    let verbatim: Vec<_> = originals.iter().map(|(_, bytes)| bytes.clone()).collect();
    assert!(packed(Recode::Verbatim(92), 2) == verbatim);
    let marked = packed(Recode::Keep(92), 1);
    for ((pixels, bytes), marked) in originals.iter().zip(&marked) {
        assert!(marked != bytes && Decoder::new(Channels::Rgb).decode(marked).unwrap() == *pixels);
    }
    for threads in [2, 3, 8, 20] {
        assert!(packed(Recode::Keep(92), threads) == marked, "{threads} threads");
    }
}

/// The colour of what is encoded anew is as fine as it was.
#[test]
fn chroma_is_stored_as_finely_as_it_came() {
    let folder = TempDir::new().unwrap();
    let pixels: Vec<u8> = (0..100 * 120 * 3).map(|i: usize| (i % 251) as u8).collect();
    let image = Image::from_pixels(100, 120, 3, pixels).unwrap();
    for (name, chroma) in [("a", Chroma::Full), ("b", Chroma::HalfWidth), ("c", Chroma::Quarter)] {
        let mut bytes = Vec::new();
        encode::jpeg(image.view(), 90, chroma, &mut bytes).unwrap();
        assert_eq!(Decoder::chroma(&bytes), Ok(chroma));
        file(&folder, &format!("x/{name}.jpg"), &bytes);
    }
    let mut png = Vec::new();
    encode::png(image.view(), &mut png).unwrap();
    file(&folder, "x/d.png", &png);
    let source = FolderSource::open(folder.path(), None).unwrap();
    for (recode, resize) in [(Recode::Keep(80), Some(64)), (Recode::Jpeg(80), None)] {
        let out = TempDir::new().unwrap();
        let options = Options { recode, resize, shuffle: false, ..Options::default() };
        let (_, set) = run(&source, out.path(), &options).unwrap();
        for (id, wanted) in [Chroma::Full, Chroma::HalfWidth, Chroma::Quarter, Chroma::Full].into_iter().enumerate() {
            let mut scratch = Vec::new();
            assert_eq!(
                Decoder::chroma(set.sample(id as u64).unwrap().bytes(&mut scratch).unwrap()),
                Ok(wanted),
                "{recode:?}"
            );
        }
    }
}

#[test]
fn either_side_can_be_limited() {
    let folder = TempDir::new().unwrap();
    for (name, height, width) in [("wide", 100, 400), ("tall", 300, 150), ("small", 50, 60)] {
        let mut bytes = Vec::new();
        encode::png(Image::new(height, width, 3).view(), &mut bytes).unwrap();
        file(&folder, &format!("x/{name}.png"), &bytes);
    }
    let source = FolderSource::open(folder.path(), None).unwrap();
    let sizes = |resize, max_side| {
        let out = TempDir::new().unwrap();
        let (_, set) =
            run(&source, out.path(), &Options { resize, max_side, shuffle: false, ..Options::default() }).unwrap();
        all(&set, Channels::Rgb).into_iter().map(|(image, _)| (image.height, image.width)).collect::<Vec<_>>()
    };
    // By name: small, tall, wide.
    assert_eq!(sizes(None, Some(200)), [(50, 60), (200, 100), (50, 200)]);
    assert_eq!(sizes(Some(75), None), [(50, 60), (150, 75), (75, 300)]);
    assert_eq!(sizes(Some(75), Some(200)), [(50, 60), (150, 75), (50, 200)]);
    assert_eq!(sizes(None, Some(1)), [(1, 1), (1, 1), (1, 1)]);
}

#[test]
fn a_bad_image_is_named_or_left_out() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let bad = file(&tree, "dogs/broken.jpg", b"\xFF\xD8\xFF no");
    let source = FolderSource::open(tree.path(), None).unwrap();
    let error = run(&source, out.path(), &Options::default()).unwrap_err();
    assert!(matches!(&error, PackError::Image { path, .. } if *path == bad), "{error}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "nothing half-written");
    let options = Options { skip_bad: true, ..Options::default() };
    let (packed, set) = run(&source, out.path(), &options).unwrap();
    assert_eq!((packed.skipped.len(), set.len()), (1, 3));
}

#[test]
fn a_tree_without_images_is_an_error() {
    let folder = TempDir::new().unwrap();
    file(&folder, "a/b.txt", b"");
    assert!(matches!(FolderSource::open(folder.path(), None), Err(PackError::NoClasses { .. })));
    assert!(matches!(FolderSource::open(&folder.path().join("missing"), None), Err(PackError::File(_))));
}

/// Formats by name and by content, notes, thumbnails, and what cannot be read.
fn mixed_tree() -> TempDir {
    let folder = tree();
    let image = |name: &str| fs::read(format!("{}/tests/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    file(&folder, "cats/a.WEBP", &image("lossy.webp"));
    file(&folder, "cats/b.gif", &image("two.gif"));
    file(&folder, "dogs/c.TIFF", &image("lzw.tif"));
    file(&folder, "dogs/d.bmp", &image("palette.bmp"));
    file(&folder, "dogs/3f2a", &image("lossless.webp"));
    file(&folder, "dogs/photo.heic", &image("cmyk.jpg"));
    for harmless in ["cats/.DS_Store", "cats/Thumbs.db", "dogs/labels.csv", "__MACOSX/x.jpg"] {
        file(&folder, harmless, b"no image");
    }
    folder
}

#[test]
fn every_format_is_packed_whatever_it_is_called() {
    let (tree, out) = (mixed_tree(), TempDir::new().unwrap());
    let source = FolderSource::open(tree.path(), None).unwrap();
    source.require_all().unwrap();
    assert_eq!((source.len(), source.passed_over().files()), (9, 0));
    assert_eq!(source.passed_over().empty, ["empty"], "a folder of notes holds nothing");
    let (_, set) = run(&source, out.path(), &Options::default()).unwrap();
    assert_eq!(set.summary().unwrap().encodings, [2, 2, 0, 2, 1, 1, 1, 0]);
    assert_eq!(all(&set, Channels::Rgb).len(), 9);
    let small = Options { name: "small".into(), resize: Some(4), ..Options::default() };
    let (_, set) = run(&source, out.path(), &small).unwrap();
    assert!(all(&set, Channels::Rgb).iter().all(|(image, _)| image.height.min(image.width) == 4));
}

#[test]
fn what_is_left_out_is_counted_and_fails_above_a_share() {
    let folder = mixed_tree();
    file(&folder, "cats/film.mp4", b"....ftyp");
    file(&folder, "cats/more.MP4", b"....ftyp");
    file(&folder, "bee/0.avif", b"....ftypavif");
    file(&folder, "cover.png", &[]);
    let source = FolderSource::open(folder.path(), None).unwrap();
    let found = source.passed_over();
    let kinds: Vec<_> = found.kinds.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    assert_eq!(kinds, [(".avif", 1), (".mp4", 2), ("beside the class folders", 1)]);
    assert_eq!(
        (&found.unreadable[..], found.by_kind().as_str()),
        (&["bee".to_owned()][..], "2 .mp4, 1 .avif, 1 beside the class folders")
    );
    let error = source.require_all().unwrap_err();
    assert!(matches!(&error, PackError::LeftOut { left: 4, all: 13, classes, .. } if classes == &["bee"]), "{error}");
    assert!(error.to_string().contains("2 .mp4") && error.to_string().contains("--skip-other"));
    // One in a hundred may be something else; a class may not vanish even so.
    let large = TempDir::new().unwrap();
    (0..198).for_each(|i| drop(file(&large, &format!("cats/{i}.png"), b"")));
    file(&large, "cats/x.svgz", b"");
    file(&large, "cats/y.svgz", b"");
    FolderSource::open(large.path(), None).unwrap().require_all().unwrap();
    file(&large, "cats/z.svgz", b"");
    assert!(FolderSource::open(large.path(), None).unwrap().require_all().is_err());
}

#[test]
fn a_flat_folder_is_a_set_without_labels() {
    let (flat, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let image = fs::read(format!("{}/tests/images/palette.png", env!("CARGO_MANIFEST_DIR"))).unwrap();
    (0..3).for_each(|i| drop(file(&flat, &format!("{i}.png"), &image)));
    fs::create_dir(flat.path().join("nothing")).unwrap();
    let source = FolderSource::open(flat.path(), None).unwrap();
    let (_, set) = run(&source, out.path(), &Options::default()).unwrap();
    assert_eq!((set.len(), set.classes(), set.class_names()), (3, 0, None));
    let classes = Classes::read(&file(&out, "classes", b"cat\n")).unwrap();
    assert!(matches!(FolderSource::open(flat.path(), Some(&classes)), Err(PackError::NoClasses { .. })));
}

#[test]
fn classes_have_the_numbers_of_their_list() {
    let (tree, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let image = fs::read(format!("{}/tests/images/palette.png", env!("CARGO_MANIFEST_DIR"))).unwrap();
    // The folder's name is decomposed, that of the list composed; it sorts before "cat" in one form only.
    for name in ["cafe\u{301}", "zebra"] {
        file(&tree, &format!("{name}/deep/er/0.png"), &image);
    }
    fs::create_dir(tree.path().join("bee")).unwrap();
    let list = file(&out, "list", "zebra\r\nbee\r\ncaf\u{e9}\r\nyak\r\n".as_bytes());
    let classes = Classes::read(&list).unwrap();
    let source = FolderSource::open(tree.path(), Some(&classes)).unwrap();
    assert_eq!(
        (&source.passed_over().empty[..], &source.passed_over().absent[..]),
        (&["bee".to_owned()][..], &["bee".to_owned(), "yak".to_owned()][..])
    );
    let options = Options { shuffle: false, ..Options::default() };
    let (_, set) = run(&source, out.path(), &options).unwrap();
    assert_eq!(set.class_names().unwrap(), ["zebra", "bee", "caf\u{e9}", "yak"]);
    let labels: Vec<_> = (0..2).map(|id| set.sample(id).unwrap().label()).collect();
    assert_eq!(labels, [Some(2), Some(0)]);

    let without = FolderSource::open(tree.path(), None).unwrap();
    assert_eq!(without.class_names().unwrap(), ["caf\u{e9}", "zebra"]);
    let other = Classes::read(&file(&out, "other", b"Zebra\nyak\n")).unwrap();
    let error = FolderSource::open(tree.path(), Some(&other)).unwrap_err();
    assert!(
        matches!(&error, PackError::Classes { unknown, absent, .. } if unknown.len() == 3 && absent.len() == 2),
        "{error}"
    );
    for wrong in ["", "\n", "a\nb\na\n"] {
        assert!(Classes::read(&file(&out, "wrong", wrong.as_bytes())).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_list_may_name_its_classes() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let classes = Classes::read(&file(&out, "classes", b"dog\ncat\n7\n")).unwrap();
    let list = file(&tree, "list.tsv", b"cats/tom.jpg\tcat\ncats/tom.jpg\t0\ncats/tom.jpg\t7\n");
    let source = ListSource::open(&list, Some(&classes)).unwrap();
    assert_eq!([0, 1, 2].map(|index| source.label(index)), [Some(1), Some(0), Some(2)]);
    for wrong in ["Cat", "3", "-1"] {
        let list = file(&tree, "wrong.tsv", format!("cats/tom.jpg\t{wrong}\n").as_bytes());
        assert!(matches!(ListSource::open(&list, Some(&classes)), Err(PackError::List { line: 1, .. })), "{wrong}");
    }
}

#[test]
fn what_is_no_file_or_too_long_is_refused() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let folder = tree.path().join("cats");
    assert!(matches!(FolderSource::open(&folder.join("tom.jpg"), None), Err(PackError::NoFolder { .. })));
    assert!(matches!(ListSource::open(&folder, None), Err(PackError::NoFile { .. })));
    assert!(matches!(Classes::read(&folder), Err(PackError::NoFile { .. })));
    assert!(matches!(IdxSource::open(&folder, &folder), Err(PackError::NoFile { .. })));
    assert!(matches!(Classes::read(Path::new("/dev/zero")), Err(PackError::TooLong { .. })));
    let source = ListSource::open(&file(&tree, "list.tsv", b"/dev/zero\ncats/tom.jpg\n"), None).unwrap();
    let error = run(&source, out.path(), &Options { shuffle: false, ..Options::default() }).unwrap_err();
    assert!(matches!(error, PackError::NoFile { .. }), "{error}");
    // A file with a hole: as long as anything, and nothing on the disk.
    let path = file(&tree, "hole.bmp", b"BM");
    File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    let source = ListSource::open(&file(&tree, "list.tsv", b"hole.bmp\ncats/tom.jpg\n"), None).unwrap();
    let error = run(&source, out.path(), &Options { max_pixels: 1 << 20, ..Options::default() }).unwrap_err();
    assert!(matches!(error, PackError::TooLong { most: 9_437_184, .. }), "{error}");
}

#[test]
fn the_limit_on_pixels_can_be_set() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let source = FolderSource::open(tree.path(), None).unwrap();
    let error = run(&source, out.path(), &Options { max_pixels: 799, ..Options::default() }).unwrap_err();
    assert!(error.to_string().contains("--max-pixels"), "{error}");
    run(&source, out.path(), &Options { max_pixels: 1600, ..Options::default() }).unwrap();
}

#[test]
fn packing_that_is_stopped_leaves_nothing() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let source = FolderSource::open(tree.path(), None).unwrap();
    let mut stop = |done: u64, _: u64| if done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let error = pack(&source, out.path(), &Options::default(), &mut stop).unwrap_err();
    assert!(matches!(error, PackError::Stopped));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_list_names_images_and_labels() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let list = "# comment\ncats/tom.jpg\t4\n\ndogs/rex v1.2.png\n";
    let source = ListSource::open(&file(&tree, "list.tsv", list.as_bytes()), None).unwrap();
    let options = Options { shuffle: false, ..Options::default() };
    let (_, set) = run(&source, out.path(), &options).unwrap();
    assert_eq!((set.len(), set.classes()), (2, 5));
    assert_eq!(set.sample(1).unwrap().label(), None);
    let wrong = file(&tree, "wrong.tsv", b"cats/tom.jpg\t1\ncats/tom.jpg\tcat\n");
    assert!(matches!(ListSource::open(&wrong, None), Err(PackError::List { line: 2, .. })));
}

#[test]
fn no_samples_are_an_error() {
    let folder = TempDir::new().unwrap();
    let source = idx_source(&folder, 5);
    let options = Options { limit: Some(0), ..Options::default() };
    assert!(matches!(run(&source, folder.path(), &options), Err(PackError::Empty { .. })));
}

/// The real thing, where Debian's `dataset-fashion-mnist` is installed.
#[test]
fn fashion_mnist_packs() {
    let folder = Path::new("/usr/share/datasets/fashion-mnist");
    let (images, labels) = (folder.join("t10k-images-idx3-ubyte.gz"), folder.join("t10k-labels-idx1-ubyte.gz"));
    if !images.exists() {
        eprintln!("skipped: {} is not installed", folder.display());
        return;
    }
    let out = TempDir::new().unwrap();
    let source = IdxSource::open(&images, &labels).unwrap();
    let options = Options { per_class: Some(60), ..Options::default() };
    let (packed, set) = run(&source, out.path(), &options).unwrap();
    assert_eq!((packed.written.samples, set.len(), set.classes()), (600, 600, 10));
    set.shards().next().unwrap().verify().unwrap();
}

/// Class folders of small images that all differ: so many of each.
fn classes(counts: &[(&str, usize)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (class, count) in counts {
        (0..*count).for_each(|number| drop(file(&folder, &format!("{class}/{number}.pgm"), &numbered(number))));
    }
    folder
}

fn numbered(number: usize) -> Vec<u8> {
    [b"P5\n1 1\n255\n", [number as u8].as_slice()].concat()
}

/// The names of a set's pictures by class, from their keys.
fn names_by_class(set: &ShardSet) -> Vec<(u32, String)> {
    let samples = (0..set.len()).map(|id| set.sample(id).unwrap());
    let mut names: Vec<_> =
        samples.map(|s| (s.label().unwrap(), s.key().split_once('-').unwrap().1.to_owned())).collect();
    names.sort();
    names
}

fn split(source: &dyn Source, share: f64, seed: u64) -> [Vec<(u32, String)>; 2] {
    let (out, options) = (TempDir::new().unwrap(), Options { seed, ..Options::default() });
    let packed = pack_split(source, out.path(), &options, share, &mut |_, _| ControlFlow::Continue(())).unwrap();
    packed.map(|packed| names_by_class(&ShardSet::open(&packed.written.shards).unwrap()))
}

#[test]
fn a_split_is_stratified_and_depends_on_names_alone() {
    let counts = [("a", 10), ("b", 3), ("c", 2), ("d", 1)];
    let tree = classes(&counts);
    let source = FolderSource::open(tree.path(), None).unwrap();
    let [train, validation] = split(&source, 0.2, 0);
    let of = |set: &[(u32, String)]| [0, 1, 2, 3].map(|class| set.iter().filter(|(of, _)| *of == class).count());
    assert_eq!((of(&train), of(&validation)), ([8, 2, 1, 1], [2, 1, 1, 0]));
    let mut all = [train.clone(), validation.clone()].concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 16, "each image is on one side");
    assert_ne!(split(&source, 0.2, 1)[1], validation);

    // A list of the same paths, in another order and elsewhere.
    let (elsewhere, mut lines) = (TempDir::new().unwrap(), Vec::new());
    for (class, (name, count)) in counts.iter().enumerate() {
        (0..*count).for_each(|number| {
            let path = format!("{name}/{number}.pgm");
            file(&elsewhere, &path, &numbered(number));
            lines.push(format!("{path}\t{class}"));
        });
    }
    lines.reverse();
    let names = file(&elsewhere, "names.txt", b"a\nb\nc\nd\n");
    let list = file(&elsewhere, "list.tsv", lines.join("\n").as_bytes());
    let list = ListSource::open(&list, Some(&Classes::read(&names).unwrap())).unwrap();
    assert_eq!(split(&list, 0.2, 0), [train, validation]);
}

#[test]
fn an_added_image_moves_at_most_one_other() {
    let tree = classes(&[("a", 12), ("b", 5)]);
    let held_out = || split(&FolderSource::open(tree.path(), None).unwrap(), 0.3, 7)[1].clone();
    let mut before = held_out();
    for number in 12..40 {
        file(&tree, &format!("a/{number}.pgm"), &numbered(number));
        let after = held_out();
        let moved = before.iter().filter(|name| !after.contains(name)).count()
            + after.iter().filter(|name| !before.contains(name) && name.1 != format!("a-{number}")).count();
        assert!(moved <= 1, "{number}: {before:?} {after:?}");
        before = after;
    }
}

#[test]
fn both_sets_of_a_split_are_there_or_none() {
    let (tree, out) = (classes(&[("a", 4), ("b", 4)]), TempDir::new().unwrap());
    let run = |tree: &TempDir| {
        let source = FolderSource::open(tree.path(), None).unwrap();
        pack_split(&source, out.path(), &Options::default(), 0.25, &mut |_, _| ControlFlow::Continue(()))
    };
    // Whichever side it is on.
    let broken = file(&tree, "b/x.pgm", b"P5\n1");
    assert!(matches!(run(&tree), Err(PackError::Image { .. })));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    fs::remove_file(broken).unwrap();
    run(&tree).unwrap();
    let names = |set: &str| fs::read_to_string(out.path().join(format!("{set}.classes.txt"))).unwrap();
    assert_eq!((names("train"), names("validation")), ("a\nb\n".to_owned(), "a\nb\n".to_owned()));
    assert!(matches!(run(&tree), Err(PackError::Shard(_))), "it is there already");
    assert!(matches!(run(&classes(&[("a", 1), ("b", 1)])), Err(PackError::NothingToHoldOut)));
}
