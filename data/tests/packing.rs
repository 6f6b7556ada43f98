//! Packing IDX files, class folders and lists.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use convnext_data::decode::Format;
use convnext_data::pack::{
    FolderSource, IdxFault, IdxSource, ListSource, Options, PackError, Packed, Recode, Source, encode_jpeg, encode_png,
    pack,
};
use convnext_data::{Channels, Decoder, Encoding, Image, ShardSet};
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
    let packed = pack(source, to, options, &mut |_, _| ())?;
    let set = ShardSet::open(&packed.written.shards)?;
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
    let packed = pack(&source, &to, &Options::default(), &mut |done, of| seen.push((done, of))).unwrap();
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
    assert_eq!(set.summary().unwrap().encodings, [0, 0, 50, 0, 0, 0, 0]);
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
    encode_jpeg(image(3).view(), 90, &mut jpeg).unwrap();
    encode_png(image(1).view(), &mut png).unwrap();
    encode_png(image(4).view(), &mut transparent).unwrap();
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
    let source = FolderSource::open(tree.path()).unwrap();
    let options = Options { shuffle: false, ..Options::default() };
    let (_, set) = run(&source, out.path(), &options).unwrap();
    assert_eq!(set.class_names().unwrap(), ["cats", "dogs"]);
    let found: Vec<_> =
        (0..set.len()).map(|id| set.sample(id).unwrap()).map(|s| (s.key(), s.label(), s.encoding())).collect();
    assert_eq!(
        found,
        [
            ("00000000-deeper-felix".to_owned(), Some(0), Encoding::Png),
            ("00000001-cats-tom".to_owned(), Some(0), Encoding::Jpeg),
            ("00000002-dogs-rex-v1-2".to_owned(), Some(1), Encoding::Png),
        ]
    );
    let kept = set.sample(1).unwrap();
    assert_eq!(kept.bytes(&mut Vec::new()).unwrap(), fs::read(tree.path().join("cats/tom.jpg")).unwrap());
}

#[test]
fn images_are_resized_and_encoded_on_request() {
    let tree = tree();
    let source = FolderSource::open(tree.path()).unwrap();
    for (recode, format) in [
        (Recode::Jpeg(85), Some(Format::Jpeg)),
        (Recode::Png, Some(Format::Png)),
        (Recode::Raw, Some(Format::Pnm)),
        (Recode::Keep, None),
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

#[test]
fn a_bad_image_is_named_or_left_out() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let bad = file(&tree, "dogs/broken.jpg", b"\xFF\xD8\xFF no");
    let source = FolderSource::open(tree.path()).unwrap();
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
    assert!(matches!(FolderSource::open(folder.path()), Err(PackError::NoClasses { .. })));
    assert!(matches!(FolderSource::open(&folder.path().join("missing")), Err(PackError::File(_))));
}

#[test]
fn a_list_names_images_and_labels() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let list = "# comment\ncats/tom.jpg\t4\n\ndogs/rex v1.2.png\n";
    let source = ListSource::open(&file(&tree, "list.tsv", list.as_bytes())).unwrap();
    let options = Options { shuffle: false, ..Options::default() };
    let (_, set) = run(&source, out.path(), &options).unwrap();
    assert_eq!((set.len(), set.classes()), (2, 5));
    assert_eq!(set.sample(1).unwrap().label(), None);
    let wrong = file(&tree, "wrong.tsv", b"cats/tom.jpg\t1\ncats/tom.jpg\tcat\n");
    assert!(matches!(ListSource::open(&wrong), Err(PackError::List { line: 2, .. })));
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
    set.shards()[0].verify().unwrap();
}
