//! What a training run makes of signals, and of a standard error that nobody reads.
#![cfg(unix)]

mod common;

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{Folder, command};

const RECIPE: &str = "[model]
name = 'micro'
init = 'fan_in'
[data]
mean = [0.3]
std = [0.3]
[finetune]
epochs = 3
batch = 4
base_lr = 0.01
start = 'scratch'
ema = { decay = 0.9 }
[augment]
pad = 2
[checkpoint]
keep_best = true
";

/// A folder with a recipe, twelve images to train on, and `measured` to measure.
fn place(measured: u32) -> Folder {
    let folder = Folder::new();
    for (name, count) in [("train", 12), ("test", measured)] {
        folder.idx(count);
        let said = folder.run(&format!("pack --images @images.idx --labels @labels.idx --output @{name}"));
        assert_eq!(said.code, 0, "{said:?}");
    }
    fs::write(folder.path("recipe.toml"), RECIPE).unwrap();
    folder
}

/// `convnext finetune` into `run`.
fn finetune(folder: &Folder, run: &str, more: &str) -> Command {
    let mut command = command();
    command.current_dir(folder.path("")).args(["finetune", "--data", "train-*.tar", "--device", "cpu"]);
    command.args(["--recipe", "recipe.toml", "--out", run]).args(more.split_whitespace());
    command
}

fn send(signal: &str, child: &Child) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Waits until `done`, which must not take a minute.
fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what} does not come");
        sleep(Duration::from_millis(2));
    }
}

fn has_lines(run: &Path, lines: usize) -> bool {
    fs::read_to_string(run.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= lines)
}

fn checkpoints(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The lines of a run's metrics without what a clock says, and every file of its checkpoints.
fn left(run: &Path) -> (Vec<String>, Vec<(String, Vec<u8>)>) {
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        for field in ["images_per_second", "waited_seconds", "elapsed_seconds", "loading"] {
            line.as_object_mut().unwrap().remove(field);
        }
        line.to_string()
    };
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap().lines().map(line).collect();
    let mut files = Vec::new();
    for checkpoint in checkpoints(run) {
        for file in fs::read_dir(run.join("checkpoints").join(&checkpoint)).unwrap() {
            let file = file.unwrap();
            let name = format!("{checkpoint}/{}", file.file_name().display());
            files.push((name, fs::read(file.path()).unwrap()));
        }
    }
    files.sort();
    (metrics, files)
}

#[test]
fn a_hang_up_saves_as_a_termination_does() {
    let folder = place(3);
    for signal in ["-HUP", "-TERM", "-INT"] {
        let name = signal.trim_start_matches('-');
        let run = folder.path(name);
        let mut command = finetune(&folder, name, "--set finetune.epochs=100000 --set checkpoint.every_epochs=100000");
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        wait("a step", || has_lines(&run, 2));
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}: {error}");
        let [checkpoint] = &checkpoints(&run)[..] else { panic!("{signal}: {error}") };
        assert!(error.contains(checkpoint) && error.contains("go on with --resume"), "{error}");
    }
}

#[test]
fn a_hang_up_that_is_ignored_stays_ignored() {
    let folder = place(3);
    let run = folder.path("run");
    let program = finetune(&folder, "run", "--set finetune.epochs=200");
    let mut command = Command::new("sh");
    command.current_dir(folder.path("")).args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
    let mut child = command.arg(program.get_program()).args(program.get_args()).stdout(Stdio::null()).spawn().unwrap();
    wait("a step", || has_lines(&run, 2));
    send("-HUP", &child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The epoch's checkpoint is there before the measurement, which ends soon, and is made up for.
#[test]
fn a_signal_during_a_measurement_costs_nothing() {
    let folder = place(1500);
    let more = "--validation test-*.tar";
    assert!(finetune(&folder, "whole", more).output().unwrap().status.success());
    let cut = folder.path("cut");
    let mut arguments = more.to_owned();
    for (signal, step) in [("-TERM", 3), ("-HUP", 6), ("-INT", 9)] {
        let mut child = finetune(&folder, "cut", &arguments).stderr(Stdio::null()).spawn().unwrap();
        let checkpoint = format!("step-{step:012}");
        wait("the checkpoint", || checkpoints(&cut).contains(&checkpoint));
        send(signal, &child);
        assert_eq!(child.wait().unwrap().code(), Some(1), "after step {step}");
        assert!(!cut.join("checkpoints").join(checkpoint).join("metric.json").exists(), "measured to the end");
        arguments = format!("{more} --resume");
    }
    assert!(finetune(&folder, "cut", &arguments).output().unwrap().status.success());
    let [whole, cut] = ["whole", "cut"].map(|run| left(&folder.path(run)));
    assert_eq!(cut.0, whole.0);
    assert!(cut.1 == whole.1, "the checkpoints are not the same");
    assert!(whole.1.iter().any(|(name, _)| name.ends_with("metric.json")));
}

#[test]
fn a_run_goes_on_though_nobody_can_be_told() {
    let folder = place(3);
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    // Its reader is gone at once.
    let gone = || Stdio::from(std::io::pipe().unwrap().1);
    for (name, stderr) in [("full", full()), ("gone", gone())] {
        let status = finetune(&folder, name, "--validation test-*.tar").stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(0), "{name}");
        assert!(checkpoints(&folder.path(name)).contains(&"step-000000000009".to_owned()), "{name}");
    }
    let program = finetune(&folder, "closed", "--validation test-*.tar");
    let mut command = Command::new("sh");
    command.current_dir(folder.path("")).args(["-c", "exec \"$@\" 2>&-", "sh"]);
    let status = command.arg(program.get_program()).args(program.get_args()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    // Neither can an error be told: it is one all the same.
    let status = finetune(&folder, "full", "--validation test-*.tar").stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn an_update_that_overflows_is_not_saved() {
    let folder = place(3);
    for (policy, why) in [("stop", "overflows"), ("rollback", "could go back to"), ("skip", "has diverged")] {
        let more =
            format!("--set finetune.base_lr=1e300 --set finetune.warmup_epochs=0 --set optimizer.non_finite={policy}");
        let output = finetune(&folder, policy, &more).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{policy}: {error}");
        assert!(error.contains("the update of `") && error.contains(why), "{policy}: {error}");
        for checkpoint in checkpoints(&folder.path(policy)) {
            let path = folder.path(policy).join("checkpoints").join(checkpoint).join("weights.safetensors");
            let bytes = fs::read(path).unwrap();
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let values = bytes[8 + header..].as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value));
            assert!(values.into_iter().all(f32::is_finite));
        }
    }
}

/// As after a kill before the first checkpoint.
#[test]
fn a_run_without_a_checkpoint_begins_again_with_its_first_weights() {
    let folder = place(3);
    assert!(finetune(&folder, "first", "").output().unwrap().status.success());
    let more = "--weights first --set finetune.start=pretrained --set finetune.epochs=2";
    assert!(finetune(&folder, "run", more).output().unwrap().status.success());
    let run = folder.path("run");
    let whole = left(&run);
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    fs::remove_file(run.join("run.json")).unwrap();
    let output = finetune(&folder, "run", &format!("{more} --resume")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(left(&run) == whole, "other weights than the first time");
}
