//! `import` and `export`: weights from and to other layouts.

mod common;

use std::{fs, path::Path};

use common::Folder;
use serde_json::json;

/// A folder with weights of `micro`: its classifier in `w`, its autoencoder in `f`.
fn folder() -> Folder {
    folder_of("micro")
}

fn folder_of(model: &str) -> Folder {
    let folder = Folder::new();
    for (name, part) in [("w", ""), ("f", "--fcmae")] {
        let said = folder.run(&format!("debug init --model {model} --seed 5 --noise 0.1 {part} --output @{name}"));
        assert_eq!(said.code, 0, "{said:?}");
    }
    folder
}

#[test]
fn there_and_back_is_the_same_file() {
    for (model, classifier, autoencoder, encoder) in [
        ("micro", &["ours", "official"][..], &["ours", "official", "sparse"][..], &["ours", "official", "sparse"][..]),
        ("nano64", &["hf"], &[], &["hf"]),
        ("atto", &["timm"], &[], &["timm"]),
    ] {
        let folder = folder_of(model);
        let there_and_back = |from: &str, layout: &str, part: &str| {
            let given = format!("--model {model} --weights @{from} --output @there --layout {layout} --json");
            let there = folder.run(&format!("export {given}")).json();
            assert_eq!((&there["from_layout"], &there["to_layout"]), (&"ours".into(), &layout.into()));
            let back = folder.run(&format!("import --model {model} --weights @there --output @back --json")).json();
            assert_eq!((&back["from_layout"], &back["part"]), (&layout.into(), &part.into()));
            assert!(fs::read(folder.path(from)).unwrap() == fs::read(folder.path("back")).unwrap(), "{from} {layout}");
        };
        classifier.iter().for_each(|layout| there_and_back("w", layout, "classifier"));
        autoencoder.iter().for_each(|layout| there_and_back("f", layout, "autoencoder"));
        let alone = folder.run(&format!("export --model {model} --weights @f --encoder --layout ours --output @e"));
        assert_eq!(alone.code, 0, "{alone:?}");
        encoder.iter().for_each(|layout| there_and_back("e", layout, "encoder"));
    }
}

#[test]
fn what_a_layout_cannot_express_is_named() {
    let folder = folder_of("nano64");
    let export = |weights, layout| {
        folder.run(&format!("export --model nano64 --weights @{weights} --layout {layout} --output @out"))
    };
    export("f", "hf").failed(1, &["hf layout has no name", "densify.projection.weight", "encoder alone"]);
    export("w", "sparse").failed(1, &["sparse layout has no name", "head.norm.weight"]);
    export("w", "keras").failed(2, &["keras", "official", "timm"]);
    // Names alone would do, and no program would load the file.
    export("w", "timm").failed(1, &["no model of timm can hold `nano64`", "4 stages", "3", "onnx"]);
    let micro = folder.run("export --model micro --weights @w --layout hf --output @out");
    micro.failed(1, &["no model of hf can hold `micro`", "side of 7", "stage 1 have 3"]);
    assert!(!folder.path("out").exists());
}

#[test]
fn another_number_of_classes_is_kept_or_gets_a_new_head() {
    let folder = Folder::new();
    folder.array("x.npy", &[1, 224, 224, 3], |i| (i % 13) as f32 / 7.0);
    // Of another class count, with the tensors of Atto otherwise: nine classes in place of a thousand.
    let init = folder.run("debug init --model atto --seed 5 --layout timm --output @w");
    assert_eq!(init.code, 0, "{init:?}");
    let bytes = with_fewer_classes(&fs::read(folder.path("w")).unwrap());
    fs::write(folder.path("nine"), bytes).unwrap();

    let import = "import --model atto --weights @nine --output @out";
    let kept = folder.run("import --model atto --weights @nine --output @kept");
    assert!(
        kept.code == 0 && kept.error.contains("tell 9 classes apart") && kept.error.contains("--reset-head"),
        "{kept:?}"
    );
    assert_eq!(folder.run("export --model atto --weights @kept --layout timm --output @back.safetensors").code, 0);
    let tensors = |name: &str| -> Vec<(String, Vec<u8>)> {
        let bytes = fs::read(folder.path(name)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> = tensors.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect();
        tensors.sort();
        tensors
    };
    assert!(tensors("nine") == tensors("back.safetensors"), "nine classes, there and back");
    let done = folder.run(&format!("{import} --reset-head --json")).json();
    assert_eq!((&done["from_layout"], &done["part"]), (&"timm".into(), &"classifier".into()));
    let forward = "debug forward --model atto --weights @out --input @x.npy --output @y.npy";
    assert_eq!(folder.run(forward).code, 0);
}

/// The same file with the last layer cut down to nine classes.
fn with_fewer_classes(file: &[u8]) -> Vec<u8> {
    use safetensors::{SafeTensors, tensor::TensorView};
    let tensors = SafeTensors::deserialize(file).unwrap();
    let views = tensors.iter().map(|(name, view)| {
        let mut shape = view.shape().to_vec();
        if name.starts_with("head.fc.") {
            shape[0] = 9;
        }
        let bytes = 4 * shape.iter().product::<usize>();
        (name.to_owned(), TensorView::new(view.dtype(), shape, &view.data()[..bytes]).unwrap())
    });
    safetensors::serialize(views.collect::<Vec<_>>(), None).unwrap()
}

/// A pickle that would run a command if anything ran it.
#[test]
fn a_pickle_that_calls_a_function_is_refused_by_its_name() {
    let folder = folder();
    let call = b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00touchq\x00\x85R.";
    let magic_and_protocol = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    let machine = b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u.";
    let no_storages = b"\x80\x02].";
    let legacy = [&magic_and_protocol[..], machine, call, no_storages].concat();
    fs::write(folder.path("evil.pt"), legacy).unwrap();
    folder.run("import --model micro --weights @evil.pt --output @out").failed(1, &["evil.pt", "os.system"]);
    assert!(!folder.path("out").exists() && !Path::new("q").exists());
}

#[test]
fn a_name_that_means_another_format_is_refused() {
    let folder = folder();
    let export = |output: &str, layout: &str| {
        folder.run(&format!("export --model micro --weights @w --layout {layout} --output @{output}"))
    };
    for name in ["o.pth", "o.pt", "o.bin", "o.onnx", "o.ckpt"] {
        export(name, "ours").failed(2, &[name, "safetensors", "o.safetensors"]);
        assert!(!folder.path(name).exists());
    }
    export("o.safetensors", "onnx").failed(2, &["ONNX", "o.onnx"]);
    export("nowhere/o.safetensors", "ours").failed(2, &["nowhere", "no such folder"]);
    // What is there and is of another kind stays.
    fs::write(folder.path("notes.safetensors"), "precious").unwrap();
    export("notes.safetensors", "ours").failed(2, &["notes.safetensors", "remove it"]);
    assert_eq!(fs::read(folder.path("notes.safetensors")).unwrap(), b"precious");
    fs::create_dir(folder.path("d.safetensors")).unwrap();
    export("d.safetensors", "ours").failed(2, &["d.safetensors"]);
    assert_eq!(export("o.safetensors", "ours").code, 0);
    assert_eq!(export("o.safetensors", "official").code, 0);
}

/// The same weights, saying how they are to be used, with each name put through `rename`.
fn with_usage(file: &[u8], view: &str, rename: impl Fn(&str) -> String) -> Vec<u8> {
    with_usage_of(file, "micro", 1, view, rename)
}

fn with_usage_of(file: &[u8], model: &str, channels: usize, view: &str, rename: impl Fn(&str) -> String) -> Vec<u8> {
    let tensors = safetensors::SafeTensors::deserialize(file).unwrap();
    let view: serde_json::Value = serde_json::from_str(view).unwrap();
    let usage = json!({
        "model": model, "height": 28, "width": 28, "channels": channels, "mean": vec![0.25; channels],
        "std": vec![0.5; channels], "view": view, "classes": ["shoe", "coat"],
    })
    .to_string();
    let about = std::collections::HashMap::from([("convnext".to_owned(), usage)]);
    safetensors::serialize(tensors.iter().map(|(name, view)| (rename(name), view)), Some(about)).unwrap()
}

#[test]
fn how_weights_are_used_goes_with_them() {
    let folder = folder();
    let weights = fs::read(folder.path("w")).unwrap();
    fs::write(folder.path("u"), with_usage(&weights, r#"{"cropped":0.875}"#, str::to_owned)).unwrap();
    let usage = |given: &str| folder.run(&format!("{given} --model micro --weights @u --json")).json()["usage"].clone();
    let imported = usage("import --output @o.safetensors");
    assert_eq!(imported["mean"], serde_json::json!([0.25]));
    assert_eq!(imported["classes"], serde_json::json!(["shoe", "coat"]));
    let again = folder.run("import --model micro --weights @o.safetensors --output @p.safetensors --json").json();
    assert_eq!(again["usage"], imported);
    // A new head tells other classes apart, and an encoder none.
    for other in
        ["import --reset-head --output @r.safetensors", "export --encoder --layout official --output @e.safetensors"]
    {
        let usage = usage(other);
        assert_eq!((&usage["classes"], &usage["std"]), (&serde_json::json!([]), &serde_json::json!([0.5])));
    }
    usage("export --layout onnx --output @o.onnx");
    let onnx = fs::read(folder.path("o.onnx")).unwrap();
    assert!(onnx.windows(15).any(|bytes| bytes == br#"["shoe","coat"]"#));
}

#[test]
fn other_programs_are_told_how_weights_are_used() {
    let folder = folder_of("atto");
    let weights = fs::read(folder.path("w")).unwrap();
    let with_view = |view: &str| with_usage_of(&weights, "atto", 3, view, str::to_owned);
    fs::write(folder.path("u"), with_view(r#"{"cropped":0.875}"#)).unwrap();
    let json =
        |name: &str| -> serde_json::Value { serde_json::from_slice(&fs::read(folder.path(name)).unwrap()).unwrap() };
    let export = |layout: &str, weights: &str| {
        let to = format!("--layout {layout} --output @{layout}/");
        let said = folder.run(&format!("export --model atto --weights @{weights} {to}"));
        assert_eq!(said.code, 0, "{said:?}");
        said
    };
    export("hf", "u");
    assert_eq!(json("hf/config.json")["id2label"]["1"], "coat");
    let processor = json("hf/preprocessor_config.json");
    assert_eq!((&processor["image_std"][2], &processor["size"]), (&0.5.into(), &json!({"shortest_edge": 32})));
    export("timm", "u");
    let config = json("timm/config.json");
    assert_eq!((&config["architecture"], &config["label_names"][1]), (&"convnextv2_atto".into(), &"coat".into()));
    let images = &config["pretrained_cfg"];
    assert_eq!((&images["crop_pct"], &images["crop_mode"]), (&0.875.into(), &"center".into()));
    for layout in ["hf", "timm"] {
        let back =
            folder.run(&format!("import --model atto --weights @{layout} --output @b.safetensors --json")).json();
        assert_eq!((&back["from_layout"], &back["usage"]["mean"][0]), (&layout.into(), &0.25.into()));
    }
    // What they cannot express is said.
    fs::write(folder.path("padded"), with_view(r#""padded""#)).unwrap();
    for layout in ["hf", "timm"] {
        let said = export(layout, "padded").error;
        assert!(said.contains("looks at images") | said.contains("look at images") && said.contains("28x28"), "{said}");
    }
}

#[test]
fn what_wrappers_put_before_names_is_said() {
    let folder = folder();
    let weights = fs::read(folder.path("w")).unwrap();
    let wrapped = with_usage(&weights, r#""padded""#, |name| format!("module._orig_mod.{name}"));
    fs::write(folder.path("wrapped"), wrapped).unwrap();
    let said = folder.run("import --model micro --weights @wrapped --output @o.safetensors");
    assert!(said.code == 0 && said.error.contains("`module._orig_mod.` is taken off"), "{said:?}");
}
