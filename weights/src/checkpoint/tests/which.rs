//! Which weights are taken of a run, and that what goes wrong meanwhile costs nothing.

use super::*;

const NEWEST: Which = Which { checkpoint: WhichCheckpoint::Last, values: WhichValues::AverageIfThere };

fn raw() -> Which {
    WhichValues::Raw.into()
}

/// A store of classifiers with these metrics at steps 1, 2, ...
fn validated(metrics: &[Option<f64>]) -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path().join("checkpoints"), Keep { last: 99, best: None });
    for (step, metric) in (1..).zip(metrics) {
        save(&store, step, *metric);
    }
    (folder, store)
}

fn origin(path: &Path, which: Which) -> Origin {
    read_header(path, which).unwrap().taken.from
}

#[test]
fn weights_are_found_from_a_run_a_folder_or_a_checkpoint() {
    let (folder, store, newest) = two();
    for path in [folder.path(), store.path(), &newest] {
        assert_eq!(read_header(path, raw()).unwrap().path, newest.join(WEIGHTS));
        assert_eq!(load_weights(path, &layout(), raw()).unwrap(), values(2.0));
        assert_eq!(load_weights(path, &layout(), WhichValues::Ema.into()).unwrap(), values(0.3));
        assert_eq!(load_weights(path, &layout(), Which::default()).unwrap(), values(0.3));
    }
    let missing = load_weights(folder.path().join("nowhere"), &layout(), raw());
    assert!(matches!(missing, Err(CheckpointError::Io { .. })));
}

#[test]
fn the_best_is_taken_if_there_is_one_and_the_newest_if_asked_for() {
    let (folder, _store) = validated(&[None, Some(0.7), Some(0.9), Some(0.9), Some(0.5), None]);
    // The newer one of equals.
    assert_eq!(origin(folder.path(), Which::default()), Origin::Best { step: 4, metric: 0.9 });
    assert_eq!(origin(folder.path(), NEWEST), Origin::Last { step: 6 });
    let (folder, _store) = validated(&[None, None]);
    assert_eq!(origin(folder.path(), Which::default()), Origin::Last { step: 2 });
}

#[test]
fn a_run_s_checkpoints_have_names() {
    let (folder, store) = validated(&[None, Some(0.9), Some(0.7)]);
    let run = folder.path().display();
    let taken = |word: &str| read_header(format!("{run}@{word}"), raw()).map(|header| header.taken.from);
    assert_eq!(taken("best").unwrap(), Origin::Best { step: 2, metric: 0.9 });
    assert_eq!(taken("last").unwrap(), Origin::Last { step: 3 });
    assert_eq!(taken("step-1").unwrap(), Origin::Checkpoint { step: 1 });
    assert_eq!(taken("step-000000000001").unwrap(), Origin::Checkpoint { step: 1 });
    for wrong in ["bets", "step-7", "step-", "step-+1", ""] {
        let error = taken(wrong).unwrap_err().to_string();
        let there = format!("has no checkpoint `{wrong}`; it has best, last, step-1, step-2, step-3");
        assert!(error.contains(&there), "{error}");
    }
    let one = store.list().unwrap().remove(0);
    let error = read_header(format!("{}@best", one.display()), raw()).unwrap_err().to_string();
    assert!(error.contains("is no run"), "{error}");
    let (folder, _store) = validated(&[None]);
    let error = read_header(format!("{}@best", folder.path().display()), raw()).unwrap_err().to_string();
    assert!(error.contains("no checkpoint `best`; it has last, step-1"), "{error}");
    // A name of a folder is a name of a folder.
    let strange = folder.path().join("run@last");
    fs::rename(folder.path().join("checkpoints"), &strange).unwrap();
    assert_eq!(read_header(&strange, raw()).unwrap().taken.from, Origin::Last { step: 1 });
    assert_eq!(named(&strange), (strange.clone(), None));
}

#[test]
fn what_was_taken_is_said() {
    let (folder, store) = validated(&[Some(0.8557)]);
    let said = |path: &Path, which| read_header(path, which).unwrap().taken.to_string();
    assert_eq!(
        said(folder.path(), Which::default()),
        "moving average of step 1, the best checkpoint (0.8557 in validation)"
    );
    assert_eq!(said(folder.path(), NEWEST), "moving average of step 1, the last checkpoint");
    let checkpoint = store.list().unwrap().remove(0);
    assert_eq!(said(&checkpoint, raw()), "trained weights of step 1");
    assert_eq!(said(&checkpoint.join(EMA), raw()), "moving average");
    assert_eq!(said(&checkpoint.join(WEIGHTS), raw()), "weights of a file");
}

#[test]
fn a_best_that_is_damaged_is_passed_over_aloud() {
    let (folder, store) = validated(&[Some(0.7), Some(0.9), Some(0.8)]);
    let best = store.path().join("step-000000000002");
    flip_last_byte(&best.join(EMA));
    let header = read_header(folder.path(), Which::default()).unwrap();
    assert_eq!(header.taken.from, Origin::Best { step: 3, metric: 0.8 });
    assert_eq!(header.skipped.iter().map(|skipped| &skipped.path).collect::<Vec<_>>(), [&best]);
    // What is not read may be damaged.
    assert_eq!(origin(folder.path(), raw()), Origin::Best { step: 2, metric: 0.9 });
}

#[test]
fn the_number_that_pre_training_once_noted_is_no_validation() {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path(), Keep { last: 2, best: Some(Better::Lower) });
    let layout = Layout::new([("encoder.stem.conv.weight", vec![4]), ("prediction.weight", vec![2])]).unwrap();
    for (step, metric) in [(1, 0.2), (2, 0.9), (3, 0.8), (4, 0.85)] {
        let state = state(step, Some(metric));
        let weights = [0.5; 6];
        store
            .save(&Snapshot {
                layout: &layout,
                weights: &weights,
                moments: None,
                ema: None,
                state: &state,
                usage: None,
            })
            .unwrap();
    }
    assert_eq!(origin(folder.path(), Which::default()), Origin::Last { step: 4 });
    assert_eq!(store.list().unwrap().len(), 2, "the smallest of them is nothing to keep");
}

#[test]
fn no_number_is_better_than_what_is_none() {
    for better in [Better::Lower, Better::Higher] {
        for none in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(better.is_better(0.5, none) && !better.is_better(none, 0.5) && !better.is_better(none, none));
        }
    }
    assert!(Better::Lower.is_better(1.0, 2.0) && Better::Higher.is_better(2.0, 1.0));
}

#[test]
fn weights_need_no_more_than_their_file() {
    let (folder, store) = validated(&[Some(0.9)]);
    let checkpoint = store.list().unwrap().remove(0);
    fs::remove_file(checkpoint.join(OPTIMIZER)).unwrap();
    assert_eq!(load_weights(folder.path(), &layout(), Which::default()).unwrap(), values(0.3));
    assert_eq!(load_weights(&checkpoint, &layout(), Which::default()).unwrap(), values(0.3));
    fs::remove_file(checkpoint.join(EMA)).unwrap();
    assert_eq!(load_weights(&checkpoint, &layout(), raw()).unwrap(), values(1.0));
    // The average is not silently something else.
    let error = load_weights(&checkpoint, &layout(), Which::default()).unwrap_err();
    assert!(matches!(&error, CheckpointError::FileMissing(path) if path.ends_with(EMA)), "{error}");
    let error = store.load_newest(&layout()).unwrap_err().to_string();
    assert!(error.contains(EMA) && !error.contains("--resume"), "{error}");
}

#[test]
fn what_goes_away_after_it_was_listed_is_no_error() {
    let (folder, store) = validated(&[Some(0.9), Some(0.8)]);
    let opened = std::cell::Cell::new(0);
    let open = |path: &Path| {
        opened.set(opened.get() + 1);
        if opened.get() == 1 {
            // What a run does that keeps one.
            save(&store, 3, Some(0.95));
            fs::remove_dir_all(path).unwrap();
        }
        Checkpoint::open(path)
    };
    let (checkpoint, skipped) = store.first_sound(Store::list_best_first, open).unwrap();
    assert_eq!((checkpoint.state().step, skipped.len(), opened.get()), (3, 0, 2));
    drop(folder);
}
