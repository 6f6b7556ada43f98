//! Each way a checkpoint can lie is forged here, and must be told apart.

mod links;
mod which;

use std::{
    fs,
    io::{Error, ErrorKind, Write},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{
    directory::{read_weights, write_snapshot},
    files::at,
    manifest::{EMA, MANIFEST, OPTIMIZER, STATE, WEIGHTS},
    safetensors::HEADER_CAP,
    *,
};
use convnext_core::optim::Layout;

const KEEP: Keep = Keep { last: 3, best: None };

fn layout() -> Layout {
    Layout::new([
        ("encoder.stem.conv.weight", vec![2, 2, 1, 4]),
        ("encoder.stages.0.blocks.0.grn.gamma", vec![16]),
        ("head.linear.weight", vec![4, 3]),
        ("head.linear.bias", vec![3]),
    ])
    .unwrap()
}

fn values(seed: f32) -> Vec<f32> {
    (0..layout().len()).map(|i| seed + i as f32 * 0.125).collect()
}

fn state(step: u64, metric: Option<f64>) -> RunState {
    RunState { step, updates: step, model: "micro".into(), recipe: "00ff".into(), metric, ..RunState::default() }
}

fn load_weights(path: impl AsRef<Path>, layout: &Layout, which: Which) -> Result<Vec<f32>, CheckpointError> {
    read_weights(&read_header(path, which)?.path, layout)
}

fn save(store: &Store, step: u64, metric: Option<f64>) -> Saved {
    let (weights, m, v, ema) = (values(step as f32), values(0.1), values(0.2), values(0.3));
    let state = state(step, metric);
    let moments = Some((&m[..], &v[..]));
    store
        .save(&Snapshot { layout: &layout(), weights: &weights, moments, ema: Some(&ema), state: &state, usage: None })
        .unwrap()
}

/// A folder with checkpoints of steps 1 and 2.
fn two() -> (TempDir, Store, PathBuf) {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path().join("checkpoints"), KEEP);
    save(&store, 1, None);
    let newest = save(&store, 2, None).path;
    (folder, store, newest)
}

/// Forges `newest` with `lie`, and returns why loading passed it over; it must have taken the older one.
fn why_passed_over(lie: impl FnOnce(&Path)) -> CheckpointError {
    let (_folder, store, newest) = two();
    lie(&newest);
    let mut loaded = store.load_newest(&layout()).unwrap().unwrap();
    assert_eq!(loaded.state.step, 1, "must go back to the older checkpoint");
    assert_eq!(loaded.weights, values(1.0));
    assert_eq!(loaded.skipped.len(), 1);
    let skipped = loaded.skipped.remove(0);
    assert_eq!(skipped.path, newest);
    assert!(skipped.reason.to_string().contains(&newest.display().to_string()), "{}", skipped.reason);
    *skipped.reason
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn edit_text(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn flip_last_byte(path: &Path) {
    edit(path, |bytes| *bytes.last_mut().unwrap() ^= 1);
}

// What was written comes back.

#[test]
fn everything_comes_back_bit_for_bit() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path(), KEEP);
    let mut odd = values(0.0);
    odd[..4].copy_from_slice(&[f32::MAX, f32::MIN, -0.0, f32::MIN_POSITIVE / 2.0]);
    let mut state = state(7, Some(0.1 + 0.2));
    state.counters.insert("loss".into(), 1.0 / 3.0);
    state.seed = u64::MAX;
    let (m, v) = (values(0.1), values(0.2));
    let moments = Some((&m[..], &v[..]));
    store.save(&Snapshot { layout: &layout(), weights: &odd, moments, ema: None, state: &state, usage: None }).unwrap();

    let mut loaded = store.load_newest(&layout()).unwrap().unwrap();
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&loaded.weights), bits(&odd));
    assert_eq!(loaded.take_moments().unwrap(), (m, v));
    assert_eq!(loaded.state, state);
    assert!(loaded.skipped.is_empty());
    assert!(matches!(loaded.take_ema(), Err(CheckpointError::NoPart { part: "moving average", .. })));
}

#[test]
fn the_safetensors_library_reads_what_we_write() {
    let (_folder, _store, newest) = two();
    let bytes = fs::read(newest.join("weights.safetensors")).unwrap();
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("head.linear.weight").unwrap();
    assert_eq!(tensor.shape(), [4, 3]);
    let expected = values(2.0)[layout().get("head.linear.weight").unwrap().range.clone()].to_vec();
    assert_eq!(tensor.data(), bytemuck::cast_slice::<f32, u8>(&expected));
}

#[test]
fn we_read_what_the_safetensors_library_writes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("other.safetensors");
    let flat = values(5.0);
    let layout = layout();
    // The library sorts by name; our layout does not.
    let views = layout.segments().iter().map(|segment| {
        let bytes = bytemuck::cast_slice(&flat[segment.range.clone()]);
        let view = ::safetensors::tensor::TensorView::new(::safetensors::Dtype::F32, segment.shape.clone(), bytes);
        (&segment.name, view.unwrap())
    });
    fs::write(&path, ::safetensors::serialize(views, None).unwrap()).unwrap();
    assert_eq!(load_weights(&path, &layout, Which::default()).unwrap(), flat);
}

#[test]
fn an_empty_folder_holds_nothing() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path().join("not there yet"), KEEP);
    assert!(store.load_newest(&layout()).unwrap().is_none());
    assert!(matches!(store.newest(), Err(CheckpointError::Empty(_))));
}

// The lies.

#[test]
fn flipped_byte_in_each_file() {
    for file in [WEIGHTS, OPTIMIZER, EMA, STATE] {
        let reason = why_passed_over(|newest| flip_last_byte(&newest.join(file)));
        let CheckpointError::Hash { path, .. } = &reason else { panic!("{file}: {reason}") };
        assert!(path.ends_with(file));
    }
}

#[test]
fn truncated_file() {
    let reason = why_passed_over(|newest| edit(&newest.join(OPTIMIZER), |bytes| bytes.truncate(100)));
    assert!(matches!(reason, CheckpointError::Length { found: 100, .. }), "{reason}");
}

#[test]
fn file_with_a_tail() {
    let reason = why_passed_over(|newest| edit(&newest.join(WEIGHTS), |bytes| bytes.push(0)));
    assert!(matches!(reason, CheckpointError::Length { .. }), "{reason}");
}

#[test]
fn removed_file() {
    let reason = why_passed_over(|newest| fs::remove_file(newest.join(EMA)).unwrap());
    assert!(matches!(reason, CheckpointError::FileMissing(_)), "{reason}");
}

#[test]
fn missing_manifest() {
    let reason = why_passed_over(|newest| fs::remove_file(newest.join(MANIFEST)).unwrap());
    assert!(matches!(reason, CheckpointError::NoManifest(_)), "{reason}");
}

#[test]
fn empty_manifest() {
    let reason = why_passed_over(|newest| fs::write(newest.join(MANIFEST), "").unwrap());
    assert!(matches!(reason, CheckpointError::Manifest { .. }), "{reason}");
}

#[test]
fn endless_manifest() {
    let reason = why_passed_over(|newest| fs::write(newest.join(MANIFEST), vec![b' '; 2 << 20]).unwrap());
    assert!(matches!(reason, CheckpointError::Manifest { .. }), "{reason}");
}

#[test]
fn manifest_of_the_future() {
    let reason = why_passed_over(|newest| edit_text(&newest.join(MANIFEST), "\"version\": 1", "\"version\": 2"));
    assert!(matches!(reason, CheckpointError::Version { found: 2, known: 1, .. }), "{reason}");
}

#[test]
fn manifest_that_points_outside() {
    let reason = why_passed_over(|newest| edit_text(&newest.join(MANIFEST), EMA, "../../ema.safetensors"));
    assert!(matches!(reason, CheckpointError::UnknownFile { .. }), "{reason}");
}

#[test]
fn manifest_without_the_weights() {
    let reason = why_passed_over(|newest| {
        fs::write(newest.join(MANIFEST), r#"{"version": 1, "files": {}}"#).unwrap();
    });
    assert!(matches!(reason, CheckpointError::Unlisted { file: WEIGHTS, .. }), "{reason}");
}

#[test]
fn all_damaged_lists_every_reason() {
    let (_folder, store, _) = two();
    for path in store.list().unwrap() {
        flip_last_byte(&path.join(WEIGHTS));
    }
    let Err(CheckpointError::NoneVerifies { skipped, .. }) = store.load_newest(&layout()) else { panic!() };
    assert_eq!(skipped.len(), 2);
}

// Tensor files: the header's lies.

fn plain(bytes: &[u8]) -> CheckpointError {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("plain.safetensors");
    fs::write(&path, bytes).unwrap();
    load_weights(&path, &layout(), WhichValues::Raw.into()).unwrap_err()
}

fn with_header(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn huge_header() {
    let mut bytes = (HEADER_CAP + 1).to_le_bytes().to_vec();
    bytes.resize(1000, b' ');
    assert!(matches!(plain(&bytes), CheckpointError::HeaderTooLarge { claimed, .. } if claimed == HEADER_CAP + 1));
    bytes[..8].fill(0xff);
    assert!(matches!(plain(&bytes), CheckpointError::HeaderTooLarge { claimed: u64::MAX, .. }));
}

#[test]
fn header_longer_than_the_file() {
    let mut bytes = 1000u64.to_le_bytes().to_vec();
    bytes.resize(500, b' ');
    assert!(matches!(plain(&bytes), CheckpointError::Truncated { found: 500, .. }));
    assert!(matches!(plain(b"\x05\0\0"), CheckpointError::Truncated { found: 3, .. }));
}

#[test]
fn header_that_is_no_json() {
    assert!(matches!(plain(&with_header("{", 0)), CheckpointError::Header { .. }));
    assert!(matches!(plain(&with_header("\u{0}\u{1}", 0)), CheckpointError::Header { .. }));
}

#[test]
fn tensors_that_overlap_leave_holes_or_lie_about_their_size() {
    let entry = |name: &str, shape: &str, from: usize, to: usize| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let lies = [
        format!("{{{},{}}}", entry("a", "[2]", 0, 8), entry("b", "[2]", 4, 12)),
        format!("{{{},{}}}", entry("a", "[2]", 0, 8), entry("b", "[2]", 12, 20)),
        format!("{{{}}}", entry("a", "[3]", 0, 8)),
        format!("{{{}}}", entry("a", "[2]", 8, 0)),
        format!("{{{}}}", entry("a", "[18446744073709551615, 4]", 0, 8)),
        format!("{{{}}}", entry("a", "[2]", 0, 8)).replace("F32", "F31"),
    ];
    for lie in lies {
        let error = plain(&with_header(&lie, 20));
        assert!(matches!(error, CheckpointError::Header { .. }), "{lie}: {error}");
    }
}

#[test]
fn data_shorter_or_longer_than_the_header_says() {
    let header = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    for found in [7, 9] {
        let error = plain(&with_header(header, found));
        assert!(matches!(error, CheckpointError::DataLength { expected: 8, .. }), "{error}");
    }
}

/// A file with the tensors of `tensors`, read as those of [`layout`].
fn problems(tensors: Vec<(&str, Vec<usize>)>) -> TensorProblems {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let other = Layout::new(tensors).unwrap();
    save_weights(&path, &other, &vec![0.0; other.len()], None).unwrap();
    match load_weights(&path, &layout(), WhichValues::Raw.into()) {
        Err(CheckpointError::Tensors { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_tensor() {
    let found = problems(vec![
        ("encoder.stem.conv.weight", vec![2, 2, 1, 4]),
        ("head.linear.weight", vec![4, 3]),
        ("head.linear.bias", vec![3]),
    ]);
    let missing = vec!["encoder.stages.0.blocks.0.grn.gamma".to_owned()];
    assert_eq!(found, TensorProblems { missing, ..Default::default() });
}

#[test]
fn extra_tensor() {
    let mut tensors: Vec<_> = layout().segments().iter().map(|s| (s.name.clone(), s.shape.clone())).collect();
    tensors.push(("head.linear.scale".into(), vec![1]));
    let found = problems(tensors.iter().map(|(name, shape)| (&name[..], shape.clone())).collect());
    assert_eq!(found, TensorProblems { extra: vec!["head.linear.scale".into()], ..Default::default() });
}

#[test]
fn wrong_shape_of_the_same_size() {
    let found = problems(vec![
        ("encoder.stem.conv.weight", vec![2, 2, 1, 4]),
        ("encoder.stages.0.blocks.0.grn.gamma", vec![1, 1, 1, 16]),
        ("head.linear.weight", vec![3, 4]),
        ("head.linear.bias", vec![3]),
    ]);
    let names: Vec<_> = found.misshapen.iter().map(|m| &m.name[..]).collect();
    assert_eq!(names, ["encoder.stages.0.blocks.0.grn.gamma", "head.linear.weight"]);
    assert_eq!((&found.misshapen[1].expected[..], &found.misshapen[1].found[..]), (&[4, 3][..], &[3, 4][..]));
}

#[test]
fn one_error_lists_everything() {
    let found = problems(vec![("encoder.stem.conv.weight", vec![9]), ("x", vec![1]), ("y", vec![1])]);
    assert_eq!((found.missing.len(), found.extra.len(), found.misshapen.len()), (3, 2, 1));
    let text = found.to_string();
    for word in ["head.linear.bias", "x", "y", "[9]", "[2, 2, 1, 4]"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn smaller_and_larger_floats_become_f32() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let layout = Layout::new([("a", vec![2])]).unwrap();
    // 1.5 and -2, in each type.
    let types: [(&str, &[u8]); 4] = [
        ("F16", &[0x00, 0x3e, 0x00, 0xc0]),
        ("BF16", &[0xc0, 0x3f, 0x00, 0xc0]),
        ("F32", &[0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]),
        ("F64", &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0]),
    ];
    for (dtype, data) in types {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{}]}}}}"#, data.len());
        let mut file = with_header(&header, 0);
        file.extend(data);
        fs::write(&path, file).unwrap();
        assert_eq!(load_weights(&path, &layout, WhichValues::Raw.into()).unwrap(), [1.5, -2.0], "{dtype}");
    }
}

#[test]
fn wrong_type() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let layout = Layout::new([("a", vec![2])]).unwrap();
    fs::write(&path, with_header(r#"{"a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}}"#, 4)).unwrap();
    let Err(CheckpointError::Tensors { problems, .. }) = load_weights(&path, &layout, WhichValues::Raw.into()) else {
        panic!()
    };
    assert_eq!(problems.mistyped, [("a".to_owned(), "I16".to_owned())]);
}

#[test]
fn a_sound_checkpoint_of_another_model_is_no_reason_to_go_back() {
    let (_folder, store, _) = two();
    let other = Layout::new([("head.linear.bias", vec![3])]).unwrap();
    assert!(matches!(store.load_newest(&other), Err(CheckpointError::Tensors { .. })));
}

// Values that are none.

#[test]
fn what_is_not_finite_is_not_saved() {
    let (_folder, store, _) = two();
    let (sound, layout, state) = (values(1.0), layout(), state(3, None));
    for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut bad = sound.clone();
        bad[17] = wrong;
        let of =
            |weights, moments, ema| Snapshot { layout: &layout, weights, moments, ema, state: &state, usage: None };
        let cases = [
            ("weights", of(&bad, None, None)),
            ("moving average", of(&sound, None, Some(&bad))),
            ("optimizer state", of(&sound, Some((&sound, &bad)), None)),
            ("optimizer state", of(&sound, Some((&bad, &sound)), Some(&sound))),
        ];
        for (expected, snapshot) in cases {
            let error = store.save(&snapshot).unwrap_err();
            let CheckpointError::Diverged { part, name, element, .. } = &error else { panic!("{error}") };
            assert_eq!((*part, &name[..], *element), (expected, "encoder.stages.0.blocks.0.grn.gamma", 1));
        }
    }
    assert_eq!(store.list().unwrap().len(), 2);
}

/// Writes what [`Store::save`] refuses.
fn save_anyway(store: &Store, step: u64, weights: &[f32]) {
    let (layout, state) = (layout(), state(step, Some(1.0)));
    let snapshot = Snapshot { layout: &layout, weights, moments: None, ema: None, state: &state, usage: None };
    store.commit(step, |directory| write_snapshot(directory, &snapshot)).unwrap();
}

#[test]
fn what_is_not_finite_is_not_loaded() {
    let (folder, store, _) = two();
    let mut bad = values(3.0);
    bad[16] = f32::NAN;
    save_anyway(&store, 3, &bad);
    // As weights: an error that says where. As a run: one to go back from.
    let error = load_weights(folder.path(), &layout(), Which::default()).unwrap_err();
    let CheckpointError::NotFinite { name, element: 0, value, .. } = &error else { panic!("{error}") };
    assert!(value.is_nan() && name == "encoder.stages.0.blocks.0.grn.gamma", "{error}");
    let loaded = store.load_newest(&layout()).unwrap().unwrap();
    assert_eq!((loaded.state.step, loaded.skipped.len()), (2, 1));
}

#[test]
fn a_state_of_numbers_that_would_wrap() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path(), KEEP);
    save(&store, 1, None);
    let position = u64::MAX - 5;
    let (layout, weights) = (layout(), values(1.0));
    let state = RunState { position, ..state(2, None) };
    store
        .save(&Snapshot { layout: &layout, weights: &weights, moments: None, ema: None, state: &state, usage: None })
        .unwrap();
    let (checkpoint, skipped) = store.newest().unwrap();
    assert_eq!(checkpoint.state().step, 1);
    assert!(matches!(*skipped[0].reason, CheckpointError::State { .. }), "{}", skipped[0]);
}

// Writing.

#[test]
fn a_failed_write_costs_nothing() {
    let (_folder, store, _) = two();
    let before = store.list().unwrap();
    let full = |directory: &Path| {
        fs::write(directory.join(WEIGHTS), "half of it").unwrap();
        Err(at("write", directory)(Error::from(ErrorKind::StorageFull)))
    };
    assert!(matches!(store.commit(3, full), Err(CheckpointError::Io { action: "write", .. })));
    assert_eq!(store.list().unwrap(), before);
    assert_eq!(fs::read_dir(store.path()).unwrap().count(), 2, "nothing unfinished stays");
    assert_eq!(store.load_newest(&layout()).unwrap().unwrap().state.step, 2);
}

#[test]
fn an_interrupted_save_is_invisible_and_swept_by_the_next() {
    let (_folder, store, newest) = two();
    let unfinished = store.path().join(".tmp-step-000000000003");
    fs::create_dir(&unfinished).unwrap();
    fs::copy(newest.join(WEIGHTS), unfinished.join(WEIGHTS)).unwrap();
    let loaded = store.load_newest(&layout()).unwrap().unwrap();
    assert_eq!((loaded.state.step, loaded.skipped.len()), (2, 0));
    save(&store, 3, None);
    assert!(!unfinished.exists());
}

#[test]
fn a_step_saved_again_overwrites_nothing_and_is_newer() {
    let (_folder, store, newest) = two();
    flip_last_byte(&newest.join(WEIGHTS));
    let again = save(&store, 2, None).path;
    assert!(newest.exists() && again.ends_with("step-000000000002.1"));
    let loaded = store.load_newest(&layout()).unwrap().unwrap();
    assert_eq!((loaded.path, loaded.skipped.len()), (again, 0));
}

#[test]
fn the_last_few_and_the_best_stay() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path(), Keep { last: 2, best: Some(Better::Higher) });
    let metrics = [None, Some(0.7), Some(0.9), Some(0.8), Some(f64::NAN), Some(0.5)];
    for (step, metric) in metrics.into_iter().enumerate() {
        // NaN is no JSON number: a metric that is none is stored as absent.
        save(&store, step as u64, metric.filter(|m| !m.is_nan()));
    }
    let steps: Vec<u64> =
        store.list().unwrap().iter().map(|path| Checkpoint::open(path).unwrap().state().step).collect();
    assert_eq!(steps, [5, 4, 2]);
    let best = read_header(folder.path(), Which::default()).unwrap();
    assert_eq!(best.taken.from, Origin::Best { step: 2, metric: 0.9 });
    let newest = Which { checkpoint: WhichCheckpoint::Last, values: WhichValues::Raw };
    let newest = read_header(folder.path(), newest).unwrap();
    assert_eq!(newest.taken, Taken { from: Origin::Last { step: 5 }, average: false, section: None });
}

#[test]
fn a_metric_that_is_added_counts_as_one_that_was_there() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path(), Keep { last: 1, best: Some(Better::Higher) });
    for (step, metric) in [(1, 0.7), (2, 0.9), (3, 0.8), (4, f64::NAN), (5, 0.1)] {
        let path = save(&store, step, None).path;
        assert_eq!(Checkpoint::open(&path).unwrap().state().metric, None);
        store.record_metric(&path, metric, Better::Higher).unwrap();
        let found = Checkpoint::open(&path).unwrap().state().metric;
        assert_eq!(found, Some(metric).filter(|metric| metric.is_finite()));
    }
    let steps = || -> Vec<u64> {
        store.list().unwrap().iter().map(|path| Checkpoint::open(path).unwrap().state().step).collect()
    };
    assert_eq!(steps(), [5, 2]);
    // Half of it, or something else: a checkpoint that has not been measured.
    let best = store.list().unwrap().remove(1);
    for text in ["", "{\"metric\":0.9", "{\"metric\":null}", "[]"] {
        fs::write(best.join("metric.json"), text).unwrap();
        assert_eq!(Checkpoint::open(&best).unwrap().state().metric, None);
    }
}

/// The best is found by those who know nothing of the run: its file says which metric is better.
#[test]
fn the_lowest_is_the_best_where_the_metric_says_so() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path(), Keep { last: 1, best: Some(Better::Lower) });
    for (step, metric) in [(1, 0.7), (2, 0.3), (3, 0.8), (4, 0.5)] {
        let path = save(&store, step, None).path;
        store.record_metric(&path, metric, Better::Lower).unwrap();
    }
    let best = read_header(folder.path(), Which::default()).unwrap();
    assert_eq!(best.taken.from, Origin::Best { step: 2, metric: 0.3 });
    let text = fs::read_to_string(best.path.with_file_name("metric.json")).unwrap();
    assert!(text.contains("\"better\": \"lower\""), "{text}");
}

#[test]
fn damaged_ones_do_not_count_as_kept() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path(), Keep { last: 2, best: None });
    save(&store, 1, None);
    let cut = save(&store, 2, None).path;
    edit(&cut.join(WEIGHTS), |bytes| bytes.truncate(9));
    let saved = save(&store, 3, None);
    assert!(saved.removed.is_empty());
    assert_eq!(store.list().unwrap().len(), 3);
}

#[test]
fn saving_weights_replaces_a_file_whole() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    fs::File::create(&path).unwrap().write_all(b"old").unwrap();
    save_weights(&path, &layout(), &values(1.0), None).unwrap();
    assert_eq!(load_weights(&path, &layout(), WhichValues::Raw.into()).unwrap(), values(1.0));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn weights_say_how_they_are_used_and_equal_ones_have_equal_bytes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let usage = Usage {
        model: "micro".into(),
        height: 32,
        width: 24,
        channels: 1,
        mean: vec![0.286],
        std: vec![0.353],
        view: View::Padded,
        classes: vec!["café \"au lait\"".into(), "thé".into()],
    };
    let bytes = || {
        save_weights(&path, &layout(), &values(1.0), Some(&usage)).unwrap();
        fs::read(&path).unwrap()
    };
    let first = bytes();
    // Eight, since two in some order are often in the same.
    assert!((0..8).all(|_| bytes() == first));
    assert_eq!(read_header(&path, Which::default()).unwrap().usage, Some(usage));
}
