//! `pack`, `index` and `inspect` on a small generated data set.

mod common;

use common::Folder;
use serde_json::json;

const PACK: &str = "pack --images @images.idx --labels @labels.idx --output @data/train";

#[test]
fn packed_images_can_be_inspected() {
    let folder = Folder::new();
    folder.idx(30);
    let packed = folder.run(&format!("{PACK} --max-samples-per-shard 20 --class-names a,b,c --json")).json();
    assert_eq!((&packed["samples"], packed["shards"].as_array().unwrap().len()), (&json!(30), 2));

    let shards = "@data/train-000000.tar @data/train-000001.tar";
    let report = folder.run(&format!("inspect {shards} --samples 2 --verify --json")).json();
    assert_eq!((&report["samples"], &report["classes"], &report["unlabelled"]), (&json!(30), &json!(3), &json!(0)));
    assert_eq!(report["class_names"], json!(["a", "b", "c"]));
    let shard = &report["shards"][0];
    assert_eq!((&shard["samples"], &shard["raw"], &shard["faults"]), (&json!(20), &json!(20), &json!([])));
    let first = &shard["first"][0];
    assert_eq!((&first["height"], &first["width"], &first["channels"]), (&json!(28), &json!(28), &json!(1)));

    let text = folder.run(&format!("inspect {shards} --samples 1")).out;
    assert!(text.contains("classes: a, b, c") && text.contains("28x28x1"), "{text}");
}

#[test]
fn a_subset_is_chosen_by_its_seed() {
    let folder = Folder::new();
    folder.idx(30);
    let pack = |name: &str, seed| {
        let to = format!("--output @{name}/train --per-class 2 --format png --seed {seed} --json");
        let said = folder.run(&format!("pack --images @images.idx --labels @labels.idx {to}")).json();
        assert_eq!(said["samples"], 6);
        std::fs::read(folder.path(name).join("train-000000.tar")).unwrap()
    };
    let one = pack("one", 1);
    assert!(one == pack("again", 1));
    assert!(one != pack("other", 2));
}

#[test]
fn damage_is_found() {
    let folder = Folder::new();
    folder.idx(6);
    assert_eq!(folder.run(PACK).code, 0);
    let tar = folder.path("data/train-000000.tar");
    let modified = std::fs::metadata(&tar).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&tar).unwrap();
    bytes[600] ^= 1;
    std::fs::write(&tar, bytes).unwrap();
    // A change that keeps length and time is what only the checksums can see.
    std::fs::File::options().write(true).open(&tar).unwrap().set_modified(modified).unwrap();
    assert_eq!(folder.run("inspect @data/train-000000.tar").code, 0);
    let said = folder.run("inspect @data/train-000000.tar --verify");
    assert_eq!(said.code, 1);
    assert!(said.error.contains("error: 1 fault found") && said.out.contains("fault: "), "{said:?}");

    // As somebody else's tar: a new index takes it as it is.
    assert_eq!(folder.run("index @data/train-000000.tar").code, 0);
    assert_eq!(folder.run("inspect @data/train-000000.tar --verify").code, 0);
}

#[test]
fn mistakes_are_named() {
    let folder = Folder::new();
    folder.idx(30);
    folder.run("inspect @nothing.tar").failed(1, &["error: ", "nothing.tar"]);
    folder.run("index @images.idx").failed(1, &["error: ", "images.idx"]);
    let swapped = "pack --images @labels.idx --labels @images.idx --output @data/train";
    folder.run(swapped).failed(1, &["are images and labels swapped?"]);
    folder.run("pack --images @images.idx --output @data/train").failed(2, &["--labels"]);
    assert_eq!(folder.run(PACK).code, 0);
    folder.run(PACK).failed(1, &["train-000000.tar"]);
}

#[test]
fn sets_in_one_folder_keep_the_names_of_their_classes() {
    let folder = Folder::new();
    folder.idx(30);
    assert_eq!(folder.run(&format!("{PACK} --class-names a,b,c")).code, 0);
    let test = "pack --images @images.idx --labels @labels.idx --output @data/test --class-names x,y,z";
    assert_eq!(folder.run(test).code, 0);
    for (set, names) in [("train", json!(["a", "b", "c"])), ("test", json!(["x", "y", "z"]))] {
        assert_eq!(folder.run(&format!("inspect @data/{set}-000000.tar --json")).json()["class_names"], names);
    }
    let both = folder.run("inspect @data/train-000000.tar @data/test-000000.tar --decode --json").json();
    assert_eq!(both["class_names"], json!(["a", "b", "c", "x", "y", "z"]));
    let decoded = &both["shards"][1]["decoded"];
    assert_eq!((&decoded["pictures"], &decoded["faults"]), (&json!(30), &json!([])));
    assert_eq!(decoded["sizes"][0], json!([28, 28]));
}

#[test]
fn patterns_are_files_and_not_folders() {
    let folder = Folder::new();
    folder.idx(30);
    assert_eq!(folder.run(PACK).code, 0);
    let load =
        |data: &str| folder.run(&format!("bench --job load --model micro --batch 2 --steps 1 --warmup 0 {data}"));
    load("--data @data").failed(1, &["is a folder of shards", "/train-*.tar"]);
    load("--data @data/train-*").failed(1, &["which is not a shard"]);
    load("--data @data/{train,nothing}-*.tar").failed(1, &["nothing-*.tar"]);
    for data in ["--data @data/{train,}-{000000..000000}.tar", "--data @data/train-*.tar --data @data/{train}*.tar"] {
        load(data).failed(1, &["no file matches"]);
    }
    assert_eq!(load("--data @data/train-{000000..000000}.tar --io pread").code, 0);
}

/// More shards than a process may have open files: which limit, and what to do.
#[cfg(unix)]
#[test]
fn too_many_shards_are_an_error_with_advice() {
    let folder = Folder::new();
    folder.idx(30);
    assert_eq!(folder.run(&format!("{PACK} --max-samples-per-shard 1")).code, 0);
    let bench = "bench --job load --model micro --batch 2 --steps 1 --warmup 0 --io pread --data";
    let line = format!("ulimit -n 40; exec {} {bench} data/train-*.tar", env!("CARGO_BIN_EXE_convnext"));
    let output = std::process::Command::new("sh").args(["-c", &line]).current_dir(folder.path("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("after 1") && said.contains("ulimit -n") && said.contains("larger shards"), "{said}");
}

/// Shards of others: their order, the numbers of their classes, their size.
#[test]
fn shards_are_packed_anew() {
    let folder = Folder::new();
    folder.photographs("photos", &[("ant", 20), ("bee", 30)]);
    assert_eq!(folder.run("pack --folder @photos --output @data/first --in-order --max-samples-per-shard 20").code, 0);
    let said = folder.run("pack --shards @data/first-*.tar --output @data/again --resize 14 --seed 3 --json").json();
    assert_eq!((&said["samples"], said["shards"].as_array().unwrap().len()), (&json!(50), 1));
    let report = folder.run("inspect @data/again-000000.tar --samples 50 --verify --decode --json").json();
    assert_eq!((&report["class_names"], &report["unlabelled"]), (&json!(["ant", "bee"]), &json!(0)));
    let samples = report["shards"][0]["first"].as_array().unwrap();
    let bees = samples.iter().filter(|sample| sample["label"] == 1).count();
    assert_eq!(bees, 30);
    assert!(samples.iter().all(|sample| sample["height"] == 14 && sample["width"] == 14));
    assert!(samples[..20].iter().any(|sample| sample["label"] == 1), "in the order of the source");

    // Other numbers for the same names; and what would be lost is refused.
    std::fs::write(folder.path("names.txt"), "wasp\nbee\nant\n").unwrap();
    let renumbered = "pack --shards @data/first-*.tar --classes @names.txt --output @data/named --in-order";
    assert_eq!(folder.run(renumbered).code, 0);
    let first = folder.run("inspect @data/named-000000.tar --samples 1 --json").json()["shards"][0]["first"][0].clone();
    assert_eq!(first["label"], 2);
    std::fs::write(folder.path("few.txt"), "ant\n").unwrap();
    folder.run("pack --shards @data/first-*.tar --classes @few.txt --output @data/few").failed(1, &["bee"]);
    folder.run("pack --shards @data/none-*.tar --output @data/x").failed(1, &["no file matches"]);
}

#[test]
fn how_well_a_set_mixes_is_said() {
    let folder = Folder::new();
    folder.idx(300);
    assert_eq!(folder.run(PACK).code, 0);
    let text = folder.run("inspect @data/train-000000.tar").out;
    assert!(text.contains("classes are mixed; training reads 64 neighbours together and mixes 64"), "{text}");
    let mixing = folder.run("inspect @data/train-000000.tar --json").json()["mixing"].clone();
    assert_eq!((&mixing["block"], &mixing["window"]), (&json!(64), &json!(64)));
}

#[test]
fn a_folder_is_no_name_for_shards() {
    let folder = Folder::new();
    folder.idx(3);
    for output in ["@data/", "@data/.."] {
        let pack = format!("pack --images @images.idx --labels @labels.idx --output {output}");
        folder.run(&pack).failed(2, &["--output names the shards: ", "NAME"]);
    }
    assert!(!folder.path("data").exists());
    std::fs::create_dir(folder.path("data")).unwrap();
    for (input, said) in [
        ("--list @data", "expected a list of images"),
        ("--folder @images.idx", "--folder takes a folder"),
        ("--images @data --labels @labels.idx", "expected an IDX file"),
    ] {
        folder.run(&format!("pack {input} --output @data/x")).failed(1, &[said]);
    }
}

#[test]
fn what_a_folder_holds_beside_images_is_told() {
    let folder = Folder::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    file("tree/cat/0.pgm", b"P5 1 1 255\n0");
    file("tree/dog/0.pgm", b"P5 1 1 255\n0");
    file("tree/dog/0.heic", b"????ftypheic");
    std::fs::create_dir(folder.path("tree/eel")).unwrap();
    folder.run("pack --folder @tree --output @data/x").failed(1, &["1 of 3 files", "1 .heic", "--skip-other"]);
    let said = folder.run("pack --folder @tree --output @data/x --skip-other --json");
    let report = said.json();
    assert_eq!((&report["samples"], &report["left_out"]), (&json!(2), &json!({".heic": 1})));
    assert_eq!((&report["empty_classes"], &report["unreadable_classes"]), (&json!(["eel"]), &json!([])));
    assert!(said.error.contains("left out 1 files: 1 .heic") && said.error.contains("\"eel\""), "{}", said.error);
    file("names", b"dog\neel\ncat\n");
    let said = folder.run("pack --folder @tree --output @data/y --skip-other --classes @names --json");
    assert_eq!(said.json()["absent_classes"], json!(["eel"]));
    let report = folder.run("inspect @data/y-000000.tar --samples 2 --json").json();
    assert_eq!(report["class_names"], json!(["dog", "eel", "cat"]));
    file("names", b"cat\nfox\n");
    let pack = "pack --folder @tree --output @data/z --skip-other --classes @names";
    folder.run(pack).failed(1, &["does not name: \"dog\", \"eel\"", "no folder of: \"fox\""]);
    let said = folder.run("pack --folder @tree/cat --output @flat/x");
    assert!(said.code == 0 && said.error.contains("without labels, for pre-training"), "{said:?}");
}

#[test]
fn a_signal_ends_packing_and_leaves_nothing() {
    let folder = Folder::new();
    std::fs::write(folder.path("0.pgm"), [&b"P5 500 500 255\n"[..], &[7; 250_000]].concat()).unwrap();
    std::fs::write(folder.path("list"), "0.pgm\n".repeat(20_000)).unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        let out = folder.path("out");
        let child = common::command()
            .args(["pack", "--format", "jpeg", "--list"])
            .args([folder.path("list").as_os_str(), "--output".as_ref(), out.join("x").as_os_str()])
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let written = || std::fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some());
        while !written() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let kill = ["-s", signal, &child.id().to_string()];
        assert!(std::process::Command::new("kill").args(kill).status().unwrap().success());
        let said = child.wait_with_output().unwrap();
        let error = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(1), "{signal}: {error}");
        assert!(error.contains("stopped before the end"), "{error}");
        assert!(!written(), "{signal} leaves something behind");
    }
}

#[test]
fn a_folder_is_split_into_two_sets() {
    let folder = Folder::new();
    folder.photographs("photos", &[("ant", 10), ("bee", 5), ("elk", 1)]);
    let said = folder.run("pack --folder @photos --output @data --split 0.2");
    assert_eq!(said.code, 0, "{said:?}");
    for text in
        ["class  train  validation\n", "ant        8           2\n", "elk        1           0\n", "convnext init '"]
    {
        assert!(said.out.contains(text), "no {text:?} in {said:?}");
    }
    assert!(said.error.contains("classes of one image") && said.error.contains("\"elk\""), "{said:?}");
    for (set, samples) in [("train", 13), ("validation", 3)] {
        let report = folder.run(&format!("inspect @data/{set}-000000.tar --json")).json();
        assert_eq!((&report["samples"], &report["class_names"]), (&json!(samples), &json!(["ant", "bee", "elk"])));
    }
    folder.run("pack --folder @photos --output @data --split 0.2").failed(1, &["already there"]);
    for share in ["0", "1", "1.5", "nan", "x"] {
        let split = format!("pack --folder @photos --output @other --split {share}");
        folder.run(&split).failed(2, &["between 0 and 1"]);
    }
    let report = folder.run("pack --folder @photos --output @seeded --split 0.5 --seed 3 --json").json();
    assert_eq!((&report["train"]["samples"], &report["validation"]["samples"]), (&json!(8), &json!(8)));
}
