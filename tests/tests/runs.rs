//! Whole runs of a program with its own variants: the way through, repeatability, interruption, and mistakes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};

use convnext_data::{Image, Purpose, Random, encode};
use convnext_tests::{program, recipe, said, shard};
use tempfile::TempDir;

const TINY: &str = env!("CARGO_BIN_EXE_tiny");

/// A folder with shards and recipes.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        shard(folder.path(), "train", 96, 1);
        shard(folder.path(), "test", 32, 2);
        recipe(folder.path(), "pretrain");
        recipe(folder.path(), "finetune");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the program in the folder.
    fn run(&self, arguments: &str) -> Output {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        program(TINY, &arguments).current_dir(self.0.path()).output().unwrap()
    }

    fn succeed(&self, arguments: &str) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments}: {}", said(&output));
        said(&output)
    }

    /// Runs what must fail with exit code `code`, and returns what it said.
    fn fail(&self, code: i32, arguments: &str) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}: {}", said(&output));
        said(&output)
    }

    /// The weights, moments and average of a run's last checkpoint.
    fn state(&self, run: &str) -> Vec<Vec<u8>> {
        let mut checkpoints: Vec<_> =
            fs::read_dir(self.path(run).join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
        checkpoints.sort();
        let last = checkpoints.last().unwrap();
        ["weights", "optimizer", "ema"]
            .iter()
            .filter_map(|part| fs::read(last.join(format!("{part}.safetensors"))).ok())
            .collect()
    }
}

const PRETRAIN: &str = "pretrain --data train-*.tar --recipe pretrain.toml";
const FINETUNE: &str = "finetune --data train-*.tar --recipe finetune.toml";

#[test]
fn the_whole_way_through() {
    let place = Place::new();
    place.succeed(&format!("{PRETRAIN} --out pre --set pretrain.epochs=4"));
    let said = place.succeed("reconstruct pre --data test-*.tar --count 3 --json");
    assert!(said.contains("\"images\":3"), "{said}");
    place.succeed(&format!(
        "{FINETUNE} --out fine --validation test-*.tar --weights pre --set finetune.start=pretrained --set \
         finetune.epochs=30 --set finetune.smoothing=0 --set finetune.mixup=0 --set finetune.cutmix=0 --set augment.flip=false"
    ));
    let output = place.run("evaluate fine --json");
    let told = String::from_utf8_lossy(&output.stdout);
    // What is told of the weights goes to standard error.
    let evaluation: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(evaluation["samples"], 32);
    // The classes differ in which corner is bright: anything that learns at all tells them apart.
    assert!(evaluation["top1"].as_f64().unwrap() > 0.9, "{told}");
    fs::write(place.path("one.pgm"), {
        let mut bytes = b"P5\n16 16\n255\n".to_vec();
        bytes.extend((0..256).map(|at| if at / 16 >= 8 && at % 16 >= 8 { 210 } else { 70 }));
        bytes
    })
    .unwrap();
    let said = place.succeed("predict --weights fine one.pgm --top 1");
    assert!(said.contains("class 3"), "{said}");
    place.succeed("report pre fine --output page.html");
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(page.contains("data:image/png") && page.contains("<svg"));
}

/// Arrays of twelve bands, of which the class says which one is bright: from folders to pictures.
#[test]
fn images_of_twelve_bands() {
    let place = Place(TempDir::new().unwrap());
    for class in 0..4 {
        let folder = place.path(&format!("scenes/class-{class}"));
        fs::create_dir_all(&folder).unwrap();
        for number in 0..20 {
            let mut random = Random::new(7, class, number, Purpose::Augment);
            let pixels = (0..40 * 40 * 12).map(|at| {
                let bright = if at % 12 == 8 + class { 120 } else { 40 };
                (bright + random.range(60)) as u8
            });
            let image = Image::from_pixels(40, 40, 12, pixels.collect()).unwrap();
            let mut array = Vec::new();
            encode::npy(image.view(), &mut array).unwrap();
            fs::write(folder.join(format!("{number:02}.npy")), array).unwrap();
        }
    }
    let said = place.succeed("init scenes --out work");
    assert!(said.contains("12 bands") && said.contains("twelve: 16x16x12"), "{said}");
    place.succeed(
        "pretrain --recipe work/pretrain.toml --out pre --set pretrain.epochs=2 --set pretrain.warmup_epochs=1",
    );
    place.succeed("reconstruct pre --count 2");
    place
        .succeed("finetune --recipe work/finetune.toml --out fine --set finetune.weights=pre --set finetune.epochs=20");
    let evaluation: serde_json::Value = serde_json::from_slice(&place.run("evaluate fine --json").stdout).unwrap();
    assert!(evaluation["samples"] == 16 && evaluation["top1"].as_f64().unwrap() > 0.9, "{evaluation}");
    let said = place.succeed("predict --weights fine scenes/class-2/00.npy --top 1 --sheet sheet.html");
    assert!(said.contains("class-2"), "{said}");
    place.succeed("report pre fine --output page.html");
    fs::write(place.path("grey.pgm"), [&b"P5\n16 16\n255\n"[..], &[7; 256]].concat()).unwrap();
    let said = place.fail(1, "predict --weights fine grey.pgm");
    assert!(said.contains("grey.pgm") && said.contains("12 channels are wanted"), "{said}");
}

/// Workers, threads and resuming change no bit.
#[test]
fn workers_and_threads_change_no_bit() {
    let place = Place::new();
    for (kind, command) in [("pre", PRETRAIN), ("fine", FINETUNE)] {
        // 20 steps and more: 96 images, 8 or 16 a step.
        let run = |name: &str, threads: u32, workers: u32| {
            let epochs = if kind == "pre" { "--set pretrain.epochs=2" } else { "--set finetune.epochs=4" };
            let name = format!("{kind}-{name}");
            place.succeed(&format!(
                "--threads {threads} {command} --out {name} {epochs} --set machine.workers={workers}"
            ));
            place.state(&name)
        };
        let one = run("one", 1, 1);
        assert_eq!(one.len(), if kind == "pre" { 2 } else { 3 });
        assert!(one == run("four", 2, 4), "{kind}: two threads and four workers differ from one and one");
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let place = Place::new();
    for (kind, command) in [("pre", PRETRAIN), ("fine", FINETUNE)] {
        let epochs = if kind == "pre" { "--set pretrain.epochs=20" } else { "--set finetune.epochs=40" };
        place.succeed(&format!("{command} {epochs} --out {kind}-whole"));
        let arguments = format!("{command} {epochs} --out {kind}-cut");
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        // Three kills, each a little later than the last, at a step that nobody chose.
        for kill in 1..=3 {
            let resume: &[&str] = if kill == 1 { &[] } else { &["--resume"] };
            let mut child = program(TINY, &arguments).args(resume).current_dir(place.0.path()).spawn().unwrap();
            wait_for_lines(&place.path(&format!("{kind}-cut/metrics.jsonl")), 25 * kill, &mut child);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        place.succeed(&format!("{command} {epochs} --out {kind}-cut --resume"));
        assert!(place.state(&format!("{kind}-whole")) == place.state(&format!("{kind}-cut")), "{kind}");
        assert_eq!(steps(&place, &format!("{kind}-whole")), steps(&place, &format!("{kind}-cut")), "{kind}");
    }
}

fn wait_for_lines(path: &Path, lines: usize, child: &mut std::process::Child) {
    let begin = Instant::now();
    while fs::read_to_string(path).map_or(0, |text| text.lines().count()) < lines {
        assert!(begin.elapsed() < Duration::from_secs(60), "the run does not come on");
        if child.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The steps in `metrics.jsonl`, in its order.
fn steps(place: &Place, run: &str) -> Vec<u64> {
    let text = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect()
}

#[test]
fn a_flipped_byte_is_named_and_nothing_is_half_written() {
    let place = Place::new();
    let path = place.path("train-000000.tar");
    let mut bytes = fs::read(&path).unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let at = bytes.windows(3).position(|window| window == b"P5\n").unwrap() + 100;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let said = place.fail(1, &format!("{PRETRAIN} --out run --set data.bad.policy=fail"));
    assert!(said.contains("train-000000.tar") && said.contains("sample 0"), "{said}");
    assert!(!place.path("run/checkpoints").exists() && !place.path("run/run.json").exists());
    // The other policy goes on, and lists it.
    place.succeed(&format!("{PRETRAIN} --out other --set data.bad.max_rate=0.5"));
    assert!(fs::read_to_string(place.path("other/quarantine.tsv")).unwrap().contains("train-000000.tar"));
}

#[test]
fn a_truncated_shard_is_named() {
    let place = Place::new();
    let path = place.path("train-000000.tar");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let said = place.fail(1, &format!("{PRETRAIN} --out run"));
    assert!(said.contains("train-000000.tar") && said.contains("convnext index"), "{said}");
    assert!(!place.path("run").exists());
}

#[test]
fn the_index_of_another_shard_is_named() {
    let place = Place::new();
    fs::copy(place.path("test-000000.tar.idx"), place.path("train-000000.tar.idx")).unwrap();
    let said = place.fail(1, &format!("{PRETRAIN} --out run"));
    assert!(said.contains("train-000000.tar") && said.contains("convnext index"), "{said}");
    assert!(!place.path("run").exists());
}

#[test]
fn a_missing_label_is_named() {
    let place = Place::new();
    // A list without labels.
    fs::write(place.path("picture.pgm"), [&b"P5\n16 16\n255\n"[..], &[7; 256]].concat()).unwrap();
    fs::write(place.path("list.tsv"), "picture.pgm\n").unwrap();
    place.succeed("pack --list list.tsv --output bare");
    let said = place.fail(1, "finetune --data bare-*.tar --recipe finetune.toml --out run");
    assert!(said.contains("bare-000000.tar") && said.contains("label"), "{said}");
    assert!(!place.path("run").exists());
}

#[test]
fn an_unknown_key_is_named_with_what_was_meant() {
    let place = Place::new();
    let text = fs::read_to_string(place.path("pretrain.toml")).unwrap().replace("base_lr", "base_lr_rate");
    fs::write(place.path("pretrain.toml"), text).unwrap();
    let said = place.fail(2, &format!("{PRETRAIN} --out run"));
    assert!(said.contains("pretrain.toml") && said.contains("base_lr_rate") && said.contains("`base_lr`"), "{said}");
    assert!(!place.path("run").exists());
}

#[test]
fn weights_of_another_model_are_listed() {
    let place = Place::new();
    place.succeed(&format!("{FINETUNE} --out fine"));
    let said = place.fail(1, "evaluate fine --model dash --data test-*.tar");
    assert!(said.contains("weights.safetensors") || said.contains("ema.safetensors"), "{said}");
    assert!(
        said.contains("encoder.stages.1.blocks.1") && said.contains("encoder.stages.1.downsample.conv.weight"),
        "{said}"
    );
}

#[test]
fn a_run_is_not_overwritten() {
    let place = Place::new();
    place.succeed(&format!("{PRETRAIN} --out run"));
    let said = place.fail(1, &format!("{PRETRAIN} --out run"));
    assert!(said.contains("--resume"), "{said}");
    let said = place.fail(1, &format!("{PRETRAIN} --out run --resume --set optimizer.weight_decay=0.5"));
    assert!(said.contains("optimizer.weight_decay"), "{said}");
}
