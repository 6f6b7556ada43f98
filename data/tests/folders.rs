//! Folders of images as parts of a set, beside their shards.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use convnext_data::pack::{FolderSource, Options, PackError, pack};
use convnext_data::{Channels, Decoder, Example, SetError, ShardSet, Target, TargetKind};
use tempfile::TempDir;

fn write(root: &Path, name: &str, value: u8) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, [b"P5\n2 1\n255\n", [value, 255 - value].as_slice()].concat()).unwrap();
}

fn tree() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (class, count) in [("bee", 5), ("ant", 7), ("cow", 1)] {
        (0..count).for_each(|number| write(folder.path(), &format!("{class}/deep/{number}.pgm"), number * 3));
    }
    folder
}

fn open(paths: &[&Path]) -> Result<ShardSet, SetError> {
    ShardSet::open(&paths.iter().map(|path| path.to_path_buf()).collect::<Vec<_>>())
}

fn example(set: &ShardSet, id: u64, kind: TargetKind) -> Result<Example, SetError> {
    let (mut decoder, mut example) = (Decoder::new(Channels::Grey), Example::default());
    set.sample(id)?.example_into(kind, &mut decoder, &mut Vec::new(), &mut example).map(|()| example)
}

#[test]
fn a_folder_holds_what_its_shards_hold_in_their_order() {
    let (tree, out) = (tree(), TempDir::new().unwrap());
    let source = FolderSource::open(tree.path(), None).unwrap();
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let packed = pack(&source, out.path(), &Options::default(), go_on).unwrap();
    let (folder, shards) = (open(&[tree.path()]).unwrap(), ShardSet::open(&packed.written.shards).unwrap());
    assert_eq!((folder.len(), folder.classes(), folder.class_names()), (13, 3, shards.class_names()));
    let (found, wanted) = (folder.summary().unwrap(), shards.summary().unwrap());
    assert_eq!(found, wanted);
    for id in 0..13 {
        let read = |set| example(set, id, TargetKind::Class).unwrap();
        let (file, sample) = (read(&folder), read(&shards));
        assert_eq!((file.image, file.target), (sample.image, sample.target), "{id}");
    }
    assert!(example(&folder, 0, TargetKind::Boxes).is_err());
    assert!(folder.require_targets(TargetKind::Boxes).unwrap_err().to_string().contains("boxes"));
}

#[test]
fn folders_and_shards_are_joined_by_the_names_of_their_classes() {
    let (tree, other) = (tree(), TempDir::new().unwrap());
    ["dog/1.pgm", "ant/1.pgm"].iter().for_each(|name| write(other.path(), name, 1));
    let set = open(&[tree.path(), other.path()]).unwrap();
    assert_eq!((set.class_names().unwrap().join(" ").as_str(), set.is_joined_by_name()), ("ant bee cow dog", true));
    let mut labels: Vec<_> = (13..15).map(|id| set.sample(id).unwrap().label().unwrap()).collect();
    labels.sort_unstable();
    assert_eq!(labels, [0, 3]);
    let names = ["cow", "dog", "bee", "ant"].map(str::to_owned);
    let set = open(&[other.path()]).unwrap().relabelled(&names).unwrap();
    assert_eq!((set.classes(), set.sample(0).unwrap().require_label().unwrap() % 2), (4, 1));
}

#[test]
fn a_flat_folder_has_no_labels() {
    let folder = TempDir::new().unwrap();
    (0..3).for_each(|number| write(folder.path(), &format!("{number}.pgm"), number));
    let set = open(&[folder.path()]).unwrap();
    assert_eq!((set.len(), set.classes(), set.summary().unwrap().unlabelled), (3, 0, 3));
    assert_eq!(example(&set, 0, TargetKind::None).unwrap().target, Target::None);
    assert!(set.require_labels().unwrap_err().to_string().contains("lies in no class folder"));
}

#[test]
fn a_file_that_is_broken_or_changed_is_a_bad_sample() {
    let tree = tree();
    fs::write(tree.path().join("cow/deep/0.pgm"), b"P5\n2").unwrap();
    let set = open(&[tree.path()]).unwrap();
    fs::remove_file(tree.path().join("bee/deep/0.pgm")).unwrap();
    fs::write(tree.path().join("ant/deep/0.pgm"), b"P5\n1 1\n255\n!").unwrap();
    let faults: Vec<SetError> = (0..13).filter_map(|id| example(&set, id, TargetKind::Class).err()).collect();
    assert_eq!(faults.len(), 3);
    let is = |wanted: fn(&SetError) -> bool| faults.iter().filter(|fault| wanted(fault)).count();
    assert_eq!(is(|fault| matches!(fault, SetError::Undecodable { path, .. } if path.ends_with("cow/deep/0.pgm"))), 1);
    assert_eq!(is(|fault| matches!(fault, SetError::Folder(PackError::File(_)))), 1);
    assert_eq!(is(|fault| matches!(fault, SetError::Changed { len: 13, found: 12, .. })), 1);
    assert_eq!(set.parts()[0].faults().len(), 2, "whether it can be decoded is another question");
}

#[test]
fn a_folder_of_other_files_is_refused() {
    let tree = tree();
    fs::write(tree.path().join("ant/movie.mov"), b"no image").unwrap();
    assert!(matches!(open(&[tree.path()]), Err(SetError::Folder(PackError::LeftOut { left: 1, .. }))));
    assert!(matches!(open(&[TempDir::new().unwrap().path()]), Err(SetError::Folder(PackError::NoClasses { .. }))));
}

/// Grey pictures of two pixels, `value` and `255 - value`, and one of another size: by hand.
#[test]
fn sizes_and_colours_are_those_of_the_pictures() {
    let folder = TempDir::new().unwrap();
    (0..4).for_each(|number| write(folder.path(), &format!("{number}.pgm"), number * 51));
    fs::write(folder.path().join("4.pgm"), [b"P5\n3 2\n255\n", [255; 6].as_slice()].concat()).unwrap();
    fs::write(folder.path().join("5.pgm"), b"P5\n").unwrap();
    let set = open(&[folder.path()]).unwrap();
    let sizes = set.sizes(100).unwrap();
    assert_eq!((sizes.pictures, sizes.unreadable, sizes.short_side), (5, 1, [1, 1, 2]));
    assert_eq!(sizes.channels, Channels::Grey);
    let colours = set.colours(Channels::Grey, 100).unwrap();
    // Four means of 0.5 and one of 1; squares of 0, 0.2, 0.4, 0.6 and what they lack to 1.
    let squares = [0.0f64, 0.2, 0.4, 0.6].map(|v| (v * v + (1.0 - v) * (1.0 - v)) / 2.0);
    let second = (squares.iter().sum::<f64>() + 1.0) / 5.0;
    assert!((colours.mean[0] - 0.6).abs() < 1e-12, "{colours:?}");
    assert!((colours.deviation[0] - (second - 0.36).sqrt()).abs() < 1e-12, "{colours:?}");
    assert_eq!(set.class_counts().unwrap(), [0; 0]);
    assert_eq!(open(&[tree().path()]).unwrap().class_counts().unwrap(), [7, 5, 1]);
    assert_eq!(set.sizes(2).unwrap().pictures + set.sizes(2).unwrap().unreadable, 2);
}
