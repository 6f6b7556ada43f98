//! `pretrain` and `finetune`: what they refuse, what they leave, what they tell.

mod common;

use std::{collections::BTreeMap, fs, path::Path};

use common::{Folder, Said};
use serde_json::Value;

const MODEL: &str =
    "seed = 3\n[model]\nname = 'micro'\ninit = 'fan_in'\n[data]\nmean = [0.3]\nstd = [0.35]\n[augment]\npad = 2\n";
const PRETRAIN: &str = "[pretrain]\nepochs = 1\nbatch = 4\nbase_lr = 0.01\n";
const FINETUNE: &str = "[finetune]\nepochs = 2\nbatch = 4\nbase_lr = 0.01\nstart = 'scratch'\n";

/// A folder with shards of `count` images and recipes.
fn place(count: u32) -> Folder {
    let folder = Folder::new();
    folder.idx(count);
    let pack = "pack --images @images.idx --labels @labels.idx --output @train --class-names a,b,c";
    assert_eq!(folder.run(pack).code, 0);
    fs::write(folder.path("pre.toml"), format!("{MODEL}{PRETRAIN}")).unwrap();
    fs::write(folder.path("fine.toml"), format!("{MODEL}{FINETUNE}")).unwrap();
    folder
}

fn pretrain(folder: &Folder, more: &str) -> Said {
    start(folder, "pretrain --recipe @pre.toml", more)
}

fn finetune(folder: &Folder, more: &str) -> Said {
    start(folder, "finetune --recipe @fine.toml", more)
}

/// Starts a run in `run`, unless `more` says where.
fn start(folder: &Folder, command: &str, more: &str) -> Said {
    let out = if more.contains("--out") { "" } else { "--out @run" };
    folder.run(&format!("{command} --device cpu --threads 1 --data @train-*.tar {out} {more}"))
}

/// Every file below a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_setting_that_cannot_be_leaves_nothing_and_is_exit_code_two() {
    let folder = place(8);
    for (set, words) in [
        ("pretrain.batch=4294967296", &["pretrain.batch: 4294967296", "1048576"][..]),
        ("pretrain.epochs=4611686018427387904", &["pretrain.epochs", "1000000000"]),
        ("pretrain.batch=9", &["pretrain.batch", "takes 9 images and there are 8"]),
        ("machine.workers=100000000", &["machine.workers", "1024"]),
        ("machine.threads=100000", &["machine.threads", "1024"]),
        ("augment.pad=4000", &["4000"]),
        ("data.std=[0.1,0.2]", &["data.std: 2 values for 1 channels"]),
        ("pretrain.epocs=3", &["did you mean `epochs`?"]),
    ] {
        pretrain(&folder, &format!("--set {set}")).failed(2, words);
        assert!(!folder.path("run").exists(), "{set}");
    }
    assert_eq!(pretrain(&folder, "").code, 0);
}

#[test]
fn a_recipe_that_is_missing_is_exit_code_one() {
    let folder = place(8);
    let start = "pretrain --device cpu --data @train-*.tar --out @run --recipe";
    folder.run(&format!("{start} @none.toml")).failed(1, &["none.toml", "No such file"]);
    folder.run(&format!("{start} /dev/zero")).failed(1, &["/dev/zero", "more than 1048576 bytes"]);
    folder
        .run("pretrain --device cpu --out @run --resume")
        .failed(1, &["holds no run to resume", "leave --resume out"]);
    fs::write(folder.path("run"), "a file").unwrap();
    pretrain(&folder, "").failed(1, &["run: is no folder"]);
    pretrain(&folder, "--resume").failed(1, &["run: is no folder"]);
    assert_eq!(fs::read_to_string(folder.path("run")).unwrap(), "a file");
}

#[test]
fn each_kind_of_recipe_has_its_command() {
    let folder = place(8);
    let other = "--recipe @fine.toml --data @train-*.tar --out @run";
    folder.run(&format!("pretrain {other}")).failed(2, &["has [finetune]", "`convnext finetune` runs"]);
    let other = "--recipe @pre.toml --data @train-*.tar --out @run";
    folder.run(&format!("finetune {other}")).failed(2, &["has [pretrain]", "`convnext pretrain` runs"]);
    assert!(!folder.path("run").exists());
    assert_eq!(pretrain(&folder, "").code, 0);
    let words = ["is a run of `convnext pretrain`", "--resume"];
    folder.run("finetune --out @run --resume").failed(2, &words);
    finetune(&folder, "--resume").failed(2, &words);
}

#[test]
fn a_finished_run_is_not_touched() {
    let folder = place(8);
    assert_eq!(finetune(&folder, "--validation @train-*.tar").code, 0);
    let before = contents(&folder.path("run"));
    let again = folder.run("finetune --device cpu --threads 1 --out @run --resume --json --set machine.workers=1");
    assert!(again.error.contains("the run is finished") && again.error.contains("4 steps"), "{again:?}");
    assert_eq!(again.json()["images"], 16);
    assert!(contents(&folder.path("run")) == before, "something was written");
    finetune(&folder, "").failed(1, &["holds a run already", "--resume"]);
    assert!(contents(&folder.path("run")) == before);
}

#[test]
fn a_run_goes_on_with_its_own_images_only() {
    let folder = place(16);
    assert_eq!(pretrain(&folder, "").code, 0);
    let limited = "pack --images @images.idx --labels @labels.idx --class-names a,b,c --limit";
    assert_eq!(folder.run(&format!("{limited} 8 --output @half/train")).code, 0);
    let resume = "pretrain --device cpu --threads 1 --out @run --resume --data";
    folder.run(&format!("{resume} @half/train-*.tar")).failed(1, &["other images", "8 samples, was 16"]);

    // As many, but another one in the place of the last.
    let mut images = fs::read(folder.path("images.idx")).unwrap();
    *images.last_mut().unwrap() ^= 1;
    fs::write(folder.path("images.idx"), images).unwrap();
    assert_eq!(folder.run(&format!("{limited} 16 --output @other/train")).code, 0);
    folder.run(&format!("{resume} @other/train-*.tar")).failed(1, &["other images", "but other ones"]);

    // The same at another place, and later.
    fs::create_dir(folder.path("moved")).unwrap();
    for file in ["train-000000.tar", "train-000000.tar.idx", "train.classes.txt"] {
        fs::rename(folder.path(file), folder.path("moved").join(file)).unwrap();
    }
    assert_eq!(folder.run(&format!("{resume} @moved/train-*.tar")).code, 0);

    // A run of an older version is told, and goes on.
    fs::remove_file(folder.path("run/data.json")).unwrap();
    fs::remove_file(folder.path("run/run.json")).unwrap();
    let said = folder.run(&format!("{resume} @moved/train-*.tar"));
    assert!(said.code == 0 && said.error.contains("did not note on which images"), "{said:?}");
    assert_eq!(json(&folder.path("run/run.json"))["images"], 16);
}

#[test]
fn what_was_measured_is_told() {
    let folder = place(12);
    let validated = "--validation @train-*.tar";
    let record = finetune(&folder, &format!("{validated} --json")).json();
    let (last, best) = (&record["evaluation"], &record["best"]);
    assert!(last["step"] == 6 && last["loss"].as_f64().unwrap() > 0.0 && last["top5"] == 1.0, "{record}");
    assert!(best["top1"].as_f64() >= last["top1"].as_f64(), "{record}");
    assert!(Path::new(best["checkpoint"].as_str().unwrap()).join("weights.safetensors").is_file(), "{record}");
    let written = json(&folder.path("run/run.json"));
    assert_eq!(&written["evaluation"], last);
    assert!(folder.path("run").join(written["best"]["checkpoint"].as_str().unwrap()).is_dir());
    let said = finetune(&folder, &format!("{validated} --out @text"));
    assert!(said.out.contains("last: top-1 ") && said.out.contains("best: top-1 "), "{said:?}");
}

/// The same images, whose set numbers its classes otherwise: what is measured is the same.
#[test]
fn validation_is_labelled_by_name() {
    let folder = place(12);
    let mut labels = fs::read(folder.path("labels.idx")).unwrap();
    labels[8..].iter_mut().for_each(|label| *label = 2 - *label);
    fs::write(folder.path("labels.idx"), labels).unwrap();
    let pack = "pack --images @images.idx --labels @labels.idx --output";
    assert_eq!(folder.run(&format!("{pack} @turned --class-names c,b,a")).code, 0);
    assert_eq!(folder.run(&format!("{pack} @strange --class-names c,b,A")).code, 0);
    let measured = |run: &str, validation: &str| {
        let said = finetune(&folder, &format!("--out @{run} --validation @{validation}-*.tar --json"));
        (said.json()["evaluation"].clone(), said.error)
    };
    let (own, said) = measured("one", "train");
    assert!(!said.contains("by name"), "{said}");
    let (turned, said) = measured("two", "turned");
    assert!(said.contains("labels are matched by name"), "{said}");
    assert_eq!(turned, own);
    let refused = finetune(&folder, "--validation @strange-*.tar");
    refused.failed(1, &["validation", "\"A\"", "\"a\""]);
    assert!(!folder.path("run").exists());
}

/// Changes a byte in the middle of some images of the only shard.
fn damage(folder: &Folder, samples: impl Iterator<Item = usize>) {
    let path = folder.path("train-000000.tar");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let starts: Vec<usize> = (0..bytes.len() - 12).filter(|&at| bytes[at..].starts_with(b"P5\n28 28\n255")).collect();
    samples.for_each(|sample| bytes[starts[sample] + 400] ^= 1);
    fs::write(&path, bytes).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn one_bad_sample_is_told_and_many_end_the_run() {
    let folder = place(200);
    damage(&folder, std::iter::once(17));
    let said = pretrain(&folder, "");
    assert!(said.code == 0 && said.out.contains("bad samples: 1, replaced by others 1 times"), "{said:?}");
    let record = json(&folder.path("run/run.json"));
    assert_eq!((&record["bad_samples"], &record["substituted"]), (&1.into(), &1.into()));
    damage(&folder, (0..200).filter(|sample| sample % 8 > 2 && *sample != 17));
    let said = pretrain(&folder, "--out @many");
    said.failed(1, &["4 of 200 samples are bad", "3 are allowed", "many/quarantine.tsv", "data.bad.max_rate"]);
    assert_eq!(fs::read_to_string(folder.path("many/quarantine.tsv")).unwrap().lines().count(), 4);
}

#[test]
fn a_start_that_came_to_nothing_is_made_again() {
    let folder = place(8);
    let run = folder.path("run");
    fs::create_dir_all(run.join("checkpoints")).unwrap();
    for name in ["run.lock", "recipe.tmp", ".tmp-recipe.toml", "metrics.jsonl", "events.out.tfevents.1.2"] {
        fs::write(run.join(name), "").unwrap();
    }
    folder.run("pretrain --device cpu --out @run --resume").failed(1, &["holds no run to resume"]);
    let said = pretrain(&folder, "");
    assert!(said.code == 0 && said.error.contains("started anew"), "{said:?}");
    assert!(!run.join("recipe.tmp").exists() && !run.join("events.out.tfevents.1.2").exists());

    // A run that did not come to its first checkpoint: resumed from its start.
    fs::remove_dir_all(run.join("checkpoints")).unwrap();
    fs::remove_file(run.join("run.json")).unwrap();
    let before = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    pretrain(&folder, "").failed(1, &["holds a run already", "--resume"]);
    let said = pretrain(&folder, "--resume");
    assert!(said.code == 0 && said.error.contains("no checkpoint yet"), "{said:?}");
    let lines = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), before.lines().count());

    fs::create_dir(folder.path("mine")).unwrap();
    fs::write(folder.path("mine/notes.txt"), "mine").unwrap();
    pretrain(&folder, "--out @mine").failed(1, &["is not empty", "notes.txt", "another --out"]);
}

#[test]
fn what_a_run_begins_with_and_how_it_goes_on_is_told() {
    let folder = place(12);
    let said = finetune(&folder, "--validation @train-*.tar --out @my@runs/it");
    for words in ["model      micro, 0.", "images     12 in 3 classes; measured on 12", "weights    random, seed 3"] {
        assert!(said.error.contains(words), "no {words:?} in {said:?}");
    }
    let run = folder.path("my@runs/it");
    assert!(said.out.contains(&format!("predict --weights {}", run.display())), "{said:?}");
    // A path that a shell would take apart is quoted, and what was not measured wants data.
    let done = finetune(&folder, "--out @a;b --quiet --json");
    assert_eq!(done.error, "");
    let done = done.json();
    let next: Vec<&str> = done["next"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(next[0].starts_with("convnext evaluate '") && next[0].ends_with("/a;b' --data GLOB"), "{next:?}");
    assert_eq!((&done["start"]["classes"], &done["start"]["steps"]), (&3.into(), &6.into()));
    // What is refused is said all the same.
    finetune(&folder, "--quiet --set finetune.batch=0").failed(2, &["finetune.batch: 0; give a whole number from 1"]);
}

#[test]
fn a_run_without_progress_ends_early_and_is_finished() {
    let folder = place(8);
    let stop = "--set finetune.epochs=9 --set stop.patience=1 --set stop.min_delta=1";
    finetune(&folder, stop).failed(2, &["stop.patience", "--validation"]);
    let said = finetune(&folder, &format!("{stop} --validation @train-*.tar --json"));
    let record = said.json();
    assert_eq!((&record["images"], &record["evaluation"]["step"]), (&16.into(), &4.into()), "{record}");
    assert!(record["stopped"].as_str().unwrap().contains("no measurement was better since top-1"), "{record}");
    let before = contents(&folder.path("run"));
    let again = folder.run("finetune --device cpu --threads 1 --out @run --resume --json");
    assert!(again.error.contains("the run is finished, no measurement was better"), "{again:?}");
    assert!(again.json()["images"] == 16 && contents(&folder.path("run")) == before);
    let more = folder.run("finetune --device cpu --threads 1 --out @run --resume --json --set stop.patience=2").json();
    assert_eq!(more["images"], 24);
    pretrain(&folder, "--out @pre --set stop.patience=3").failed(2, &["stop.patience", "--validation"]);
}

/// The checkpoints of a run, by name, for all commands that take weights.
#[test]
fn a_run_s_checkpoints_are_taken_by_name() {
    let folder = place(8);
    assert_eq!(finetune(&folder, "--validation @train-*.tar").code, 0);
    for (word, step) in [("best", None), ("last", Some("step 4")), ("step-2", Some("step 2"))] {
        let said = folder.run(&format!("evaluate @run@{word} --device cpu"));
        assert!(said.code == 0 && said.error.contains(step.unwrap_or("the best checkpoint")), "{said:?}");
    }
    let (there, none) = ("it has best, last, step-2, step-4", "has no checkpoint `step-3`");
    folder.run("evaluate @run@step-3").failed(1, &[none, there]);
    folder.run("export --model micro --weights @run@step-3 --layout ours --output @x.safetensors").failed(1, &[there]);
    finetune(&folder, "--out @again --weights @run@bets --set finetune.start=pretrained").failed(1, &["`bets`", there]);
    let said = finetune(&folder, "--out @again --weights @run@step-2 --set finetune.start=pretrained");
    assert!(said.code == 0 && said.error.contains("of step 2"), "{said:?}");
}

/// Class folders, their shards, and recipes. The order of the shards is the default one.
fn photographs() -> Folder {
    let folder = Folder::new();
    folder.photographs("photos", &[("ant", 7), ("bee", 5)]);
    assert_eq!(folder.run("pack --folder @photos --output @train").code, 0);
    fs::write(folder.path("pre.toml"), format!("{MODEL}{PRETRAIN}")).unwrap();
    fs::write(folder.path("fine.toml"), format!("{MODEL}{FINETUNE}")).unwrap();
    folder
}

fn weights(folder: &Folder, run: &str) -> Vec<u8> {
    let checkpoints = folder.path(run).join("checkpoints");
    let mut all = contents(&checkpoints);
    let last = all.keys().rfind(|path| path.ends_with("weights.safetensors")).cloned();
    all.remove(&last.unwrap()).unwrap()
}

#[test]
fn a_folder_trains_the_model_that_its_shards_train() {
    let folder = photographs();
    for (recipe, command) in [("pre", "pretrain"), ("fine", "finetune --validation @photos")] {
        let start = |data: &str, run: &str, more: &str| {
            let command =
                format!("{command} --recipe @{recipe}.toml --device cpu --data @{data} --out @{recipe}-{run} {more}");
            let said = folder.run(&command);
            assert_eq!(said.code, 0, "{said:?}");
            weights(&folder, &format!("{recipe}-{run}"))
        };
        let packed = start("train-*.tar", "packed", "");
        assert!(start("photos", "files", "--set machine.workers=3") == packed, "{command}");
    }
    let measured = |run: &str, data: &str| {
        let mut found = folder.run(&format!("evaluate @{run} --device cpu --data @{data} --json")).json();
        // A file and a sample of a shard have other names.
        found["mistakes"].as_array_mut().unwrap().iter_mut().for_each(|mistake| mistake["key"] = Value::Null);
        found
    };
    assert_eq!(measured("fine-files", "photos"), measured("fine-packed", "train-*.tar"));
    assert_eq!(folder.run("reconstruct @pre-files --data @photos --count 2").code, 0);
}

#[test]
fn a_run_on_a_folder_goes_on_with_the_same_names_and_lengths() {
    let folder = photographs();
    let start = |more: &str| folder.run(&format!("pretrain --device cpu --data @photos --out @run {more}"));
    assert_eq!(start("--recipe @pre.toml").code, 0);
    assert_eq!(start("--resume").code, 0);
    fs::rename(folder.path("photos/ant/3.pgm"), folder.path("photos/ant/9.pgm")).unwrap();
    start("--resume").failed(1, &["other images", "but other ones"]);
    fs::remove_file(folder.path("photos/ant/9.pgm")).unwrap();
    start("--resume").failed(1, &["other images", "11 samples, was 12"]);
}

#[test]
fn a_broken_file_of_a_folder_is_quarantined() {
    let folder = photographs();
    fs::write(folder.path("photos/ant/3.pgm"), "P5\n28 28\n255\n").unwrap();
    let said = folder.run("pretrain --recipe @pre.toml --device cpu --data @photos --out @run");
    assert!(said.code == 0 && said.out.contains("bad samples: 1"), "{said:?}");
    assert!(fs::read_to_string(folder.path("run/quarantine.tsv")).unwrap().contains("ant/3.pgm: cannot be decoded"));
    let found = folder.run("inspect @photos --decode");
    assert!(found.code == 1 && found.out.contains("11 of 12 pictures can be decoded"), "{found:?}");
}

/// The shape of a tensor of a file of weights.
fn shape(path: &Path, tensor: &str) -> Vec<usize> {
    let bytes = fs::read(path).unwrap();
    safetensors::SafeTensors::deserialize(&bytes).unwrap().tensor(tensor).unwrap().shape().to_vec()
}

#[test]
fn a_head_has_the_classes_of_the_data_unless_told_otherwise() {
    let folder = place(12);
    let said = finetune(&folder, "--validation @train-*.tar --json");
    assert!(said.code == 0 && said.error.contains("the data have 3 classes"), "{said:?}");
    let recipe = |run: &str| fs::read_to_string(folder.path(run).join("recipe.toml")).unwrap();
    assert!(recipe("run").contains("classes = 3"), "{}", recipe("run"));

    // Whoever takes its weights builds its head.
    let found = folder.run("evaluate @run@last --device cpu --json").json();
    assert_eq!(found["top1"], said.json()["evaluation"]["top1"]);
    fs::write(folder.path("x.pgm"), [b"P5\n28 28\n255\n".as_slice(), &[99; 784]].concat()).unwrap();
    let answer = folder.run("predict --weights @run --device cpu --json @x.pgm").json();
    assert_eq!(answer["names"].as_array().unwrap().len(), 3, "{answer}");
    let export = "export --model micro --weights @run --layout";
    assert_eq!(folder.run(&format!("{export} official --encoder --output @encoder.safetensors")).code, 0);
    assert_eq!(folder.run(&format!("{export} official --output @official.safetensors")).code, 0);
    assert_eq!(shape(&folder.path("official.safetensors"), "head.weight"), [3, 128]);
    assert_eq!(folder.run(&format!("{export} onnx --output @micro.onnx")).code, 0);

    // A run that goes on keeps its head, to the same bits.
    let before = weights(&folder, "run");
    let checkpoints = folder.path("run/checkpoints");
    let mut steps: Vec<_> = fs::read_dir(&checkpoints).unwrap().map(|entry| entry.unwrap().path()).collect();
    steps.sort();
    fs::remove_dir_all(steps.last().unwrap()).unwrap();
    fs::remove_file(folder.path("run/run.json")).unwrap();
    assert_eq!(finetune(&folder, "--validation @train-*.tar --resume").code, 0);
    assert!(weights(&folder, "run") == before);

    // The declared number, as before; another one; too few.
    assert_eq!(finetune(&folder, "--out @ten --classes 10").code, 0);
    assert!(!recipe("ten").contains("classes"), "{}", recipe("ten"));
    assert_eq!(folder.run("finetune --device cpu --out @ten --resume").code, 0);
    assert_eq!(finetune(&folder, "--out @five --set model.classes=5").code, 0);
    finetune(&folder, "--out @two --classes 2").failed(1, &["2 classes"]);
    finetune(&folder, "--out @none --classes 0").failed(2, &["model.classes"]);
    pretrain(&folder, "--out @none --set model.classes=3").failed(2, &["model.classes", "no classes"]);
}
