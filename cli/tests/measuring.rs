//! `evaluate`, `predict` and `reconstruct` with weights whose answers are known: a classifier that says the same of every
//! image, whatever is on it.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

use common::{Folder, Said, command};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

/// What weights say of their use: `micro`'s, trained on padded images, with these class names.
fn usage(classes: &[&str]) -> Value {
    json!({
        "model": "micro", "height": 32, "width": 32, "channels": 1, "mean": [0.286], "std": [0.353],
        "view": "padded", "classes": classes,
    })
}

/// Writes weights of `micro` whose logits are `logits`: the head's weights are `head`, its biases the logits.
fn write_weights(folder: &Folder, name: &str, head: f32, logits: [f32; 10], usage: Option<Value>) {
    let init = folder.run("debug init --model micro --seed 5 --output @fresh");
    assert_eq!(init.code, 0, "{init:?}");
    let file = fs::read(folder.path("fresh")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (head, bias) = (bytes(&[head; 128 * 10]), bytes(&logits));
    let views = tensors.iter().map(|(name, view)| {
        let data = match name {
            "head.linear.weight" => &head,
            "head.linear.bias" => &bias,
            _ => return (name.to_owned(), view),
        };
        (name.to_owned(), TensorView::new(view.dtype(), view.shape().to_vec(), data).unwrap())
    });
    let metadata = usage.map(|usage| [("convnext".to_owned(), usage.to_string())].into());
    let written = safetensors::serialize(views.collect::<Vec<_>>(), metadata).unwrap();
    fs::write(folder.path(name), written).unwrap();
}

/// Logits that are 0 but for one class.
fn always(class: usize, logit: f32) -> [f32; 10] {
    let mut logits = [0.0; 10];
    logits[class] = logit;
    logits
}

/// Packs 31 images labelled 0, 1, 2, 0, ...: eleven of class 0, ten of 1 and of 2.
fn pack(folder: &Folder, name: &str, names: &str) {
    folder.idx(31);
    let names = if names.is_empty() { String::new() } else { format!("--class-names {names}") };
    let packed = folder.run(&format!("pack --images @images.idx --labels @labels.idx --output @{name}/t {names}"));
    assert_eq!(packed.code, 0, "{packed:?}");
}

fn picture(folder: &Folder, name: &str) {
    fs::write(folder.path(name), [&b"P5\n28 28\n255\n"[..], &[70; 784]].concat()).unwrap();
}

fn evaluate(folder: &Folder, weights: &str, set: &str, more: &str) -> Said {
    folder.run(&format!("evaluate @{weights} --data @{set}/t-000000.tar --out @out --device cpu {more}"))
}

fn share(said: &Said) -> f64 {
    said.json()["top1"].as_f64().unwrap()
}

#[test]
fn a_constant_answer_has_the_loss_of_its_logits() {
    let folder = Folder::new();
    write_weights(&folder, "w", 0.0, always(2, 3f32.ln()), Some(usage(&["ant", "bee", "cat"])));
    pack(&folder, "set", "ant,bee,cat");
    let said = evaluate(&folder, "w", "set", "--json");
    let found = said.json();
    // Ten of 31 are right at probability 3/12, the others have 1/12 each; ties are not among the five highest.
    assert!((share(&said) - 10.0 / 31.0).abs() < 1e-12, "{found}");
    let loss = (10.0 * (12f64 / 3.0).ln() + 21.0 * 12f64.ln()) / 31.0;
    assert!((found["loss"].as_f64().unwrap() - loss).abs() < 1e-6, "{found}");
    assert_eq!(found["confusion"], json!({ "counts": [[0, 2, 11], [1, 2, 10], [2, 2, 10]] }));
    assert_eq!(found["classes"], json!(["ant", "bee", "cat"]));
    for said_about in ["weights of a file", "32x32x1, mean 0.286, deviation 0.353, padded"] {
        assert!(said.error.contains(said_about), "{said:?}");
    }
    assert!(!said.error.contains("warning"), "{said:?}");
    let written: Value = serde_json::from_slice(&fs::read(folder.path("out/evaluation.json")).unwrap()).unwrap();
    assert_eq!(written, found);
}

/// In the set, cats are class 0 and ants class 2: by number, ten of 31 would be right, by name eleven are.
#[test]
fn labels_are_compared_by_name() {
    let folder = Folder::new();
    write_weights(&folder, "w", 0.0, always(2, 1.0), Some(usage(&["ant", "bee", "cat", "dog"])));
    pack(&folder, "set", "cat,bee,ant");
    let said = evaluate(&folder, "w", "set", "--json");
    assert!((share(&said) - 11.0 / 31.0).abs() < 1e-12, "{said:?}");
    assert_eq!(said.json()["classes"], json!(["ant", "bee", "cat", "dog"]));

    // Names for the model that the command line gives count more than its own.
    fs::write(folder.path("names"), "bee\nant\ncat\n").unwrap();
    assert!((share(&evaluate(&folder, "w", "set", "--json --classes @names")) - 11.0 / 31.0).abs() < 1e-12);
    fs::write(folder.path("names"), "bee\ncat\nant\n").unwrap();
    assert!((share(&evaluate(&folder, "w", "set", "--json --classes @names")) - 10.0 / 31.0).abs() < 1e-12);
}

#[test]
fn the_unicode_form_of_a_name_does_not_count() {
    let folder = Folder::new();
    write_weights(&folder, "w", 0.0, always(1, 1.0), Some(usage(&["ant", "cafe\u{301}", "dog"])));
    pack(&folder, "set", "caf\u{e9},ant,dog");
    assert!((share(&evaluate(&folder, "w", "set", "--json")) - 11.0 / 31.0).abs() < 1e-12);
}

#[test]
fn classes_that_the_model_does_not_know_are_told() {
    let folder = Folder::new();
    write_weights(&folder, "w", 0.0, always(2, 1.0), Some(usage(&["ant", "bee", "cat"])));
    pack(&folder, "set", "ant,Bee,fox");
    evaluate(&folder, "w", "set", "").failed(1, &["\"Bee\"", "\"fox\"", "\"bee\"", "--classes"]);
    assert!(!folder.path("out").exists());
}

#[test]
fn where_there_are_no_names_numbers_are_compared_and_it_is_told() {
    let folder = Folder::new();
    write_weights(&folder, "named", 0.0, always(2, 1.0), Some(usage(&["ant", "bee", "cat"])));
    write_weights(&folder, "unnamed", 0.0, always(2, 1.0), Some(usage(&[])));
    write_weights(&folder, "two", 0.0, always(1, 1.0), Some(usage(&["ant", "bee"])));
    pack(&folder, "set", "");
    pack(&folder, "other", "x,y,z");
    for (weights, set, who) in [
        ("named", "set", "shards do not name"),
        ("unnamed", "set", "classes have no names"),
        ("unnamed", "other", "weights do not"),
    ] {
        let said = evaluate(&folder, weights, set, "--json");
        assert!((share(&said) - 10.0 / 31.0).abs() < 1e-12, "{said:?}");
        assert!(said.error.contains(who), "{said:?}");
    }
    evaluate(&folder, "two", "set", "").failed(1, &["labels up to 2", "2 classes"]);
}

#[test]
fn an_answer_that_is_not_a_number_is_none() {
    let folder = Folder::new();
    pack(&folder, "set", "");
    picture(&folder, "x.pgm");
    for (name, head, logit) in [("nan", f32::NAN, 0.0), ("inf", 3e38, 0.0), ("bias", 0.0, f32::INFINITY)] {
        write_weights(&folder, name, head, always(4, logit), Some(usage(&[])));
        let said = evaluate(&folder, name, "set", "--json");
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{name}: {said:?}");
        assert!(!folder.path("out").exists(), "{name}");
        let said = folder.run(&format!("predict --weights @{name} --device cpu @x.pgm"));
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{name}: {said:?}");
    }
    // These are finite, and their products are not.
    let said = evaluate(&folder, "inf", "set", "");
    said.failed(1, &["the logit of class", "normalised"]);
}

#[test]
fn an_evaluation_without_mistakes_is_written() {
    let folder = Folder::new();
    write_weights(&folder, "w", 0.0, always(0, 1.0), Some(usage(&[])));
    folder.idx(1);
    let packed = folder.run("pack --images @images.idx --labels @labels.idx --output @set/t");
    assert_eq!(packed.code, 0, "{packed:?}");
    assert!((share(&evaluate(&folder, "w", "set", "--json")) - 1.0).abs() < 1e-12);
    assert!(folder.path("out/evaluation.json").is_file());
}

#[test]
fn what_weights_say_is_used_and_flags_say_otherwise() {
    let folder = Folder::new();
    write_weights(&folder, "w", 0.0, always(0, 1.0), Some(usage(&["ant", "bee"])));
    write_weights(&folder, "silent", 0.0, always(0, 1.0), None);
    picture(&folder, "x.pgm");
    let predict = |weights: &str, more: &str| {
        folder.run(&format!("predict --weights @{weights} --device cpu --top 1 {more} @x.pgm"))
    };
    let said = predict("w", "");
    assert!(said.out.contains("ant") && said.error.contains("mean 0.286, deviation 0.353, padded"), "{said:?}");
    let said = predict("w", "--mean 0.1 --std 0.2 --crop 0.5");
    assert!(said.error.contains("mean 0.1, deviation 0.2, cropped to 0.5"), "{said:?}");
    assert!(predict("w", "--view warped").error.contains("warped"));
    assert!(predict("w", "--view cropped").error.contains("cropped to 0.875"));

    predict("silent", "").failed(2, &["--model"]);
    let said = predict("silent", "--model micro");
    assert!(said.code == 0 && said.error.contains("warning: nothing says how"), "{said:?}");
    let said = predict("silent", "--model micro --mean 0.3 --std 0.3 --view padded");
    assert!(said.code == 0 && !said.error.contains("warning"), "{said:?}");

    predict("w", "--model atto").failed(1, &["`micro`, trained on images of 32x32x1", "224x224x3"]);
    predict("w", "--view padded --crop 0.5").failed(2, &["--view cropped"]);
    predict("w", "--mean 123.675").failed(2, &["0.485"]);
    predict("w", "--mean 0.1,0.2,0.3").failed(2, &["--mean: 3 values for 1 channels"]);
}

#[test]
fn what_weights_say_of_another_model_or_of_nonsense_is_refused() {
    let folder = Folder::new();
    picture(&folder, "x.pgm");
    let mut larger = usage(&[]);
    (larger["height"], larger["width"]) = (json!(64), json!(64));
    let mut unknown = usage(&[]);
    unknown["model"] = json!("mine");
    let mut flat = usage(&[]);
    flat["std"] = json!([0.0]);
    let mut tiny = usage(&[]);
    tiny["view"] = json!({ "cropped": 1e-9 });
    let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    let many = usage(&many.iter().map(String::as_str).collect::<Vec<_>>());
    for (wrong, code, text) in [
        (larger, 1, "trained on images of 64x64x1; `micro` takes 32x32x1"),
        (unknown, 2, "no model `mine`"),
        (flat, 1, "deviation of 0"),
        (tiny, 1, "crop of"),
        (many, 1, "11 names"),
    ] {
        write_weights(&folder, "w", 0.0, always(0, 1.0), Some(wrong));
        folder.run("predict --weights @w --device cpu @x.pgm").failed(code, &[text]);
    }
}

#[test]
fn one_bad_file_costs_no_other_prediction() {
    let folder = Folder::new();
    write_weights(&folder, "w", 0.0, always(1, 1.0), Some(usage(&["ant", "bee"])));
    for name in ["a.pgm", "b.pgm", "c.pgm"] {
        picture(&folder, name);
    }
    fs::write(folder.path("empty.jpg"), "").unwrap();
    let images = "@a.pgm @empty.jpg @b.pgm @absent.png /dev/zero @c.pgm";
    let said = folder.run(&format!("predict --weights @w --device cpu --top 1 {images}"));
    assert_eq!((said.code, said.out.matches("bee").count()), (1, 3), "{said:?}");
    assert_eq!(said.error.lines().filter(|line| line.starts_with("error:   ")).count(), 3, "{said:?}");
    for bad in ["empty.jpg", "absent.png", "/dev/zero"] {
        assert!(said.error.contains(bad), "{said:?}");
    }
    let said = folder.run(&format!("predict --weights @w --device cpu --top 1 --json {images}"));
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((said.code, lines.len()), (1, 6), "{said:?}");
    assert_eq!((&lines[0]["classes"][0][0], &lines[0]["names"]), (&json!(1), &json!(["bee"])));
    assert!(lines[1]["error"].is_string() && lines[1]["image"].as_str().unwrap().ends_with("empty.jpg"));
    assert_eq!(lines[5]["classes"][0][0], json!(1));
}

#[test]
fn a_signal_ends_a_prediction_with_what_there_is() {
    let folder = Folder::new();
    write_weights(&folder, "w", 0.0, always(1, 1.0), Some(usage(&[])));
    picture(&folder, "x.pgm");
    let mut child = command()
        .args(["predict", "--device", "cpu", "--top", "1", "--json", "--weights"])
        .arg(folder.path("w"))
        .args(vec![folder.path("x.pgm"); 20_000])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let ended = child.wait_with_output().unwrap();
    let error = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(1) && error.contains("stopped by a signal"), "{:?} {error}", ended.status);
    assert!(rest.lines().count() < 19_999 && rest.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn numbers_out_of_range_are_mistakes_of_the_command_line() {
    let folder = Folder::new();
    for (line, text) in [
        ("predict --weights w --top 0 x.png", "--top"),
        ("reconstruct w --count 0", "--count"),
        ("reconstruct w --count 1000000", "--count"),
        ("bench --job infer --model atto --batch 4294967295", "--batch"),
        ("bench --job infer --model atto --batch 1048576", "memory"),
        ("bench --job infer --model micro --steps 4294967295", "--steps"),
        ("--threads 100000 models", "--threads"),
        ("debug crops --height 1 --width 1 --count 4294967295 --output x", "--count"),
        ("debug image --model atto --input x --output y --crop 1e-9", "--crop"),
        ("evaluate w --crop 0", "--crop"),
        ("evaluate w --std 0", "--std"),
    ] {
        let said = folder.run(line);
        assert!(said.code == 2 && said.error.contains(text), "{line}: {said:?}");
    }
}

#[test]
fn a_level_that_there_is_not_is_named_with_those_there_are() {
    for level in ["v9", "", "SCALAR"] {
        let said = command().env("CONVNEXT_LEVEL", level).args(["models"]).output().unwrap();
        let error = String::from_utf8(said.stderr).unwrap();
        assert!(
            said.status.code() == Some(2) && error.contains("CONVNEXT_LEVEL") && error.contains("scalar"),
            "{error}"
        );
    }
}

#[test]
fn a_terminal_is_given_no_orders_by_arguments() {
    for arguments in [&["evaluate", "\u{1b}[2J.safetensors"][..], &["\u{1b}[2J"], &["models", "--\u{1b}]0;x\u{7}"]] {
        let said = common::run(arguments);
        assert!(said.code != 0 && !said.error.contains('\u{1b}') && !said.out.contains('\u{1b}'), "{said:?}");
    }
}
