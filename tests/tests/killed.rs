//! Programs that are killed at any moment: nothing that was promised is lost, and what goes on ends as if nothing had happened.
//!
//! `CONVNEXT_KILLS=1000 cargo test --release --workspace --test killed` kills more often than the gate does.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::Duration,
};

use convnext_data::{Purpose, Random};
use convnext_tests::{program, recipe, said, shard};
use tempfile::TempDir;

const TINY: &str = env!("CARGO_BIN_EXE_tiny");

/// How often each is killed.
fn kills() -> u64 {
    std::env::var("CONVNEXT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

fn start(folder: &Path, line: &str) -> Child {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let quiet = || Stdio::null();
    program(TINY, &arguments).current_dir(folder).stdout(quiet()).stderr(quiet()).spawn().unwrap()
}

fn succeed(folder: &Path, line: &str) {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let output = program(TINY, &arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{line}: {}", said(&output));
}

/// Kills it after up to `most`, at a moment that a seed chooses; whether it had come to its end before.
fn kill_within(mut child: Child, most: Duration, kill: u64) -> bool {
    let wait = Random::new(11, 0, kill, Purpose::Augment).range(u64::try_from(most.as_micros()).unwrap());
    std::thread::sleep(Duration::from_micros(wait));
    let ended = child.try_wait().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    ended
}

/// Names and bytes of all files below a folder, but for `left_out`.
fn contents(folder: &Path, left_out: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            let below = contents(&entry.path(), left_out);
            files.extend(below.into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else if !left_out.iter().any(|part| name.contains(part)) {
            files.push((name, fs::read(entry.path()).unwrap()));
        }
    }
    files.sort();
    files
}

/// Weights, moments, averages and states of all checkpoints that are kept.
fn checkpoints(run: &Path) -> Vec<(String, Vec<u8>)> {
    contents(&run.join("checkpoints"), &[])
}

fn steps(run: &Path) -> Vec<u64> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect()
}

/// A run is killed, goes on, and is killed again until it ends; then another one, until there were kills enough.
fn training(kind: &str, command: &str) {
    let folder = TempDir::new().unwrap();
    let place = folder.path();
    shard(place, "train", 96, 1);
    recipe(place, kind);
    succeed(place, &format!("{command} --out whole"));
    let (mut kill, mut run, mut ended) = (0, 0, 0);
    while kill < kills() {
        run += 1;
        let out = place.join(format!("run-{run}"));
        let line = format!("{command} --out run-{run}");
        loop {
            // Killed before its recipe was written, it is no run yet.
            let resume = if out.join("recipe.toml").exists() { " --resume" } else { "" };
            if kill == kills() {
                succeed(place, &format!("{line}{resume}"));
                break;
            }
            kill += 1;
            if kill_within(start(place, &format!("{line}{resume}")), Duration::from_millis(250), kill)
                && out.join("run.json").exists()
            {
                ended += 1;
                break;
            }
        }
        assert!(checkpoints(&out) == checkpoints(&place.join("whole")), "{kind}, run {run}: other weights");
        assert_eq!(steps(&out), steps(&place.join("whole")), "{kind}, run {run}");
        fs::remove_dir_all(&out).unwrap();
    }
    println!("{kind}: {kill} kills, {run} runs, {ended} of them ended between two kills");
}

#[test]
fn pretraining_goes_on_after_any_kill() {
    training("pretrain", "pretrain --data train-*.tar --recipe pretrain.toml --set pretrain.epochs=40");
}

#[test]
fn finetuning_goes_on_after_any_kill() {
    training("finetune", "finetune --data train-*.tar --recipe finetune.toml --set finetune.epochs=60");
}

/// Packing that is killed leaves no set that could be taken for a whole one, and the next packing starts anew.
#[test]
fn packing_and_indexing_start_anew_after_any_kill() {
    let folder = TempDir::new().unwrap();
    let place = folder.path();
    for number in 0..600u32 {
        let class = place.join(format!("photos/{}", ["ant", "bee"][number as usize % 2]));
        fs::create_dir_all(&class).unwrap();
        let pixels = (0..784u32).map(|pixel| (pixel * 7 + number) as u8);
        let bytes: Vec<u8> = b"P5\n28 28\n255\n".iter().copied().chain(pixels).collect();
        fs::write(class.join(format!("{number}.pgm")), bytes).unwrap();
    }
    let pack = |to: &str| format!("pack --folder photos --output {to}/train --max-samples-per-shard 100");
    succeed(place, &pack("whole"));
    let whole = contents(&place.join("whole"), &["idx"]);
    let (mut whole_sets, most) = (0, Duration::from_millis(150));
    for kill in 0..kills() {
        let out = place.join("cut");
        kill_within(start(place, &pack("cut")), most, kill);
        let there = |name: &str| out.join(name).exists();
        // Without its mark, the set is there as a whole.
        if there("train-000000.tar") && !there("train.packing") {
            assert!(contents(&out, &["idx"]) == whole, "kill {kill}");
            whole_sets += 1;
        } else {
            succeed(place, &pack("cut"));
            assert!(contents(&out, &["idx"]) == whole, "kill {kill}");
        }
        succeed(place, "inspect cut/train-*.tar --verify");

        // An index that is made anew is there as it was, or as it will be.
        kill_within(start(place, "index cut/train-000003.tar"), most, kill);
        succeed(place, "index cut/train-*.tar");
        succeed(place, "inspect cut/train-*.tar --verify");
        fs::remove_dir_all(&out).unwrap();
    }
    println!("packing: {} kills, {whole_sets} after its end", kills());
}
