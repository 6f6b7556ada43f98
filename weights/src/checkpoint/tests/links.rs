//! Links, pipes and things of others in a folder of checkpoints: nothing is written, swept or removed behind them.
#![cfg(unix)]

use std::os::unix::fs::symlink;

use super::*;

/// A store that keeps one checkpoint, with one in it.
fn one() -> (TempDir, Store) {
    let folder = TempDir::new().unwrap();
    let store = Store::new(folder.path().join("run"), Keep { last: 1, best: None });
    save(&store, 1, None);
    (folder, store)
}

fn try_save(store: &Store, step: u64) -> Result<Saved, CheckpointError> {
    let (layout, weights, state) = (layout(), values(1.0), state(step, None));
    store.save(&Snapshot { layout: &layout, weights: &weights, moments: None, ema: None, state: &state, usage: None })
}

#[test]
fn a_folder_of_checkpoints_that_is_a_link() {
    let (folder, store) = one();
    let link = folder.path().join("link");
    symlink(store.path(), &link).unwrap();
    let linked = Store::new(&link, Keep { last: 1, best: None });
    fs::create_dir(store.path().join(".tmp-step-000000000009")).unwrap();
    let error = try_save(&linked, 2).unwrap_err();
    assert!(matches!(error, CheckpointError::NotPlain { found: "a symbolic link", .. }), "{error}");
    assert_eq!(fs::read_dir(store.path()).unwrap().count(), 2);
    // Reading goes through it.
    assert_eq!(linked.load_newest(&layout()).unwrap().unwrap().state.step, 1);
}

#[test]
fn what_others_left_stays() {
    let (folder, store) = one();
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join(WEIGHTS), "precious").unwrap();
    let at = |name: &str| store.path().join(name);
    fs::create_dir(at(".tmp-mine")).unwrap();
    fs::write(at(".tmp-mine").join("note"), "precious").unwrap();
    fs::write(at(".tmp-step-000000000007"), "a file").unwrap();
    symlink(&elsewhere, at(".tmp-step-000000000008")).unwrap();
    fs::create_dir(at(".tmp-removed-step-000000000009")).unwrap();
    fs::write(at(".tmp-removed-step-000000000009").join("note"), "precious").unwrap();
    fs::write(at(".tmp-removed-step-000000000009").join(STATE), "ours").unwrap();
    try_save(&store, 2).unwrap();
    for path in [".tmp-mine/note", ".tmp-step-000000000007", ".tmp-removed-step-000000000009/note"] {
        assert!(at(path).exists(), "{path}");
    }
    assert!(!at(".tmp-removed-step-000000000009").join(STATE).exists());
    assert_eq!(fs::read_to_string(elsewhere.join(WEIGHTS)).unwrap(), "precious");
}

#[test]
fn a_checkpoint_that_is_a_link_is_not_removed() {
    let (folder, store) = one();
    let other = Store::new(folder.path().join("other"), KEEP);
    let kept = save(&other, 5, None).path;
    let link = store.path().join("step-000000000005");
    symlink(&kept, &link).unwrap();
    // Its step is the newest, and it does not count.
    assert!(try_save(&store, 3).unwrap().removed.ends_with(&[store.path().join("step-000000000001")]));
    try_save(&store, 6).unwrap();
    assert!(link.symlink_metadata().is_ok() && kept.join(WEIGHTS).exists());
}

#[test]
fn weights_are_not_written_through_a_link() {
    let folder = TempDir::new().unwrap();
    let (path, victim) = (folder.path().join("w.safetensors"), folder.path().join("victim"));
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, folder.path().join(".tmp-w.safetensors")).unwrap();
    save_weights(&path, &layout(), &values(1.0), None).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    symlink(&victim, &path).unwrap();
    save_weights(&path, &layout(), &values(1.0), None).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn a_pipe_is_not_waited_for() {
    let (_folder, _store, newest) = two();
    for file in [MANIFEST, STATE, WEIGHTS] {
        let (_folder, store, newest) = (&_folder, &_store, &newest);
        let path = newest.join(file);
        let kept = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (_, skipped) = store.newest().unwrap();
        assert!(matches!(*skipped[0].reason, CheckpointError::NotPlain { .. }), "{}", skipped[0]);
        assert!(matches!(load_weights(&path, &layout(), Which::default()), Err(CheckpointError::NotPlain { .. })));
        fs::remove_file(&path).unwrap();
        fs::write(&path, kept).unwrap();
    }
}

#[test]
fn names_that_are_no_checkpoints() {
    let (_folder, store) = one();
    for name in ["step-", "step-+2", "step-2.-1", "step-99999999999999999999999", "step-x", "stepping"] {
        fs::create_dir(store.path().join(name)).unwrap();
    }
    assert_eq!(store.list().unwrap().len(), 1);
    fs::write(store.path().join("step-000000000004"), "a file").unwrap();
    let (checkpoint, skipped) = store.newest().unwrap();
    assert_eq!((checkpoint.state().step, skipped.len()), (1, 1));
}
