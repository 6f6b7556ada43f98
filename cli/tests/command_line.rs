//! Help, mistakes and exit codes, and the commands that only tell something.

mod common;

use std::{io::Read, process::Stdio};

use common::{command, line};

#[test]
fn help_is_an_answer() {
    let help = line("--help");
    assert_eq!(help.code, 0);
    for name in ["models", "summary", "pack", "index", "inspect", "bench", "doctor", "debug"] {
        assert!(help.out.contains(&format!("\n  {name}")), "no {name} in {}", help.out);
        let help = line(&format!("{name} --help"));
        assert_eq!(help.code, 0);
        assert!(help.out.contains(&format!("convnext {name}")) && help.out.contains("Example"), "{}", help.out);
    }
    assert!(line("--version").out.starts_with("convnext "));
}

#[test]
fn a_wrong_command_line_is_exit_code_two() {
    line("").failed(2, &["Usage"]);
    line("modles").failed(2, &["error: ", "models"]);
    line("summary atto --jsno").failed(2, &["error: ", "--json"]);
    line("models --threads 0").failed(2, &["error: "]);
    line("pack --output x").failed(2, &["error: ", "--folder"]);
    line("bench --job load --model micro").failed(2, &["--data"]);
    line("debug init --model micro --output x --layout tim").failed(2, &["no layout `tim`; known: ours, official"]);
}

#[test]
fn an_unknown_model_comes_with_a_suggestion() {
    let models = "models: micro, nano64, mini96, atto";
    line("summary ato").failed(2, &["error: no model `ato`; did you mean `atto`?", models]);
    let said = line("summary resnet");
    said.failed(2, &["error: no model `resnet`\n", models]);
    assert_eq!(line("summary ATTO").code, 0);
}

#[test]
fn models_are_listed() {
    let text = line("models");
    assert!(text.out.lines().any(|line| line.starts_with("atto ") && line.contains("40-80-160-320")), "{}", text.out);
    let list = line("models --json").json();
    let atto = list.as_array().unwrap().iter().find(|model| model["name"] == "atto").unwrap();
    assert_eq!(atto["input"], serde_json::json!([224, 224, 3]));
    assert_eq!(atto["depths"], serde_json::json!([2, 2, 6, 2]));
    assert_eq!(atto["parameters"], 3_708_400);
    assert_eq!(atto["fcmae"]["visible"], 19);
}

#[test]
fn a_summary_adds_up() {
    for model in line("models --json").json().as_array().unwrap() {
        let summary = line(&format!("summary {} --json", model["name"].as_str().unwrap())).json();
        for field in ["parameters", "multiply_adds"] {
            let stages = summary["stages"].as_array().unwrap();
            let sum: u64 = stages.iter().chain([&summary["head"]]).map(|part| part[field].as_u64().unwrap()).sum();
            assert_eq!(Some(sum), summary[field].as_u64(), "{field} of {}", summary["name"]);
            assert_eq!(summary[field], model[field]);
        }
    }
    let atto = line("summary atto --json").json();
    assert_eq!(atto["stages"][3]["grid"], serde_json::json!([7, 7]));
    assert_eq!(atto["fcmae"]["cells"], serde_json::json!([8, 4, 2, 1]));
    let text = line("summary atto").out;
    assert!(text.contains("7x7 of 32x32 pixels; 19 of 49 visible, 30 removed"), "{text}");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = command().arg("models").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((child.wait().unwrap().code(), error.as_str()), (Some(0), ""));
}

/// Every command that computes refuses a GPU that is not there, with what is missing and what to do instead.
#[test]
fn a_gpu_that_is_not_there_is_refused() {
    if line("doctor --json").json()["cuda"]["usable"] == true {
        return;
    }
    let folder = common::Folder::new();
    for command in [
        "pretrain --model micro --data none-*.tar --recipe @recipe.toml --out @run",
        "finetune --model micro --data none-*.tar --recipe @recipe.toml --out @run",
        "quickstart --out @run",
        "bench --job infer --model micro",
        "bench --job pretrain --model micro --dtype bf16",
    ] {
        let section = if command.starts_with("finetune") { "[finetune]\nstart = 'scratch'" } else { "[pretrain]" };
        let recipe = format!("{section}\nepochs = 1\nbatch = 1\nbase_lr = 1.0\n");
        std::fs::write(folder.path("recipe.toml"), recipe).unwrap();
        for device in ["cuda", "cuda:0"] {
            let said = folder.run(&format!("{command} --device {device}"));
            said.failed(1, &[&format!("--device {device}"), "--device cpu", "convnext doctor", "because: no CUDA: "]);
            assert!(!folder.path("run").exists());
        }
    }
    line("bench --job infer --model micro --device gpu").failed(2, &["no device `gpu`", "cuda:N"]);
    line("bench --job infer --model micro --dtype fp16").failed(2, &["sum of squares", "bf16"]);
}

/// What a step costs at least on a GPU is said on a machine that has none.
#[test]
fn the_model_of_cost_needs_no_gpu() {
    for (job, kernel) in [("pretrain", "depthwise_weight_gradient"), ("finetune", "adamw"), ("infer", "pool")] {
        let command = format!("bench --job {job} --model micro --batch 4 --dtype bf16 --model-of-cost");
        let report = line(&format!("{command} --device cuda --json")).json();
        let kernels = report["kernels"].as_array().unwrap();
        let of = |name: &str| kernels.iter().find(|line| line["kernel"] == name).unwrap();
        assert!(of(kernel)["bytes"].as_u64().unwrap() > 0, "{report}");
        let sum = |lines: &[serde_json::Value], what: &str| -> f64 {
            lines.iter().map(|line| line[what].as_f64().unwrap()).sum()
        };
        let ms = report["ms"].as_f64().unwrap();
        assert!((sum(kernels, "ms") / ms - 1.0).abs() < 1e-9, "{report}");
        assert!((report["img_s"].as_f64().unwrap() * ms / 4e3 - 1.0).abs() < 1e-9, "{report}");
        let products = report["products"].as_array().unwrap();
        assert_eq!(sum(products, "multiply_adds"), of("(product)")["multiply_adds"].as_f64().unwrap());
        let text = line(&command).out;
        let last = text.lines().last().unwrap();
        assert!(text.starts_with(&format!("{job} micro, batch 4, bf16: ")) && text.contains("img/s"), "{text}");
        assert!(last.starts_with("the whole") && last.ends_with(&format!("{ms:.3}")), "{text}");
    }
    line("bench --job infer --model micro --model-of-cost --device cpu").failed(2, &["--model-of-cost"]);
    line("bench --job load --data none --model micro --model-of-cost").failed(2, &["--model-of-cost"]);
    line("bench --job infer --model atto --batch 1048576 --model-of-cost").failed(1, &["--batch 1048576", "smaller"]);
}

#[test]
fn the_doctor_says_what_is_missing_and_why() {
    let report = line("doctor --json --threads 1").json();
    assert_eq!(report["threads"], 1);
    assert!(report["simd"]["available"].as_array().unwrap().contains(&report["simd"]["level"]));
    let cuda = &report["cuda"];
    assert_eq!(cuda["usable"].as_bool().unwrap(), cuda["why"].is_null(), "{cuda}");
    for library in [&report["nccl"], &report["mpi"], &cuda["driver"], &cuda["products"]] {
        assert_eq!(library["found"].as_bool().unwrap(), library["why"].is_null(), "{library}");
    }
    assert!(report["versions"]["decoder"].as_str().unwrap().contains("zune-jpeg"));
    let said = line("doctor").out;
    assert!(said.contains(cuda["why"].as_str().unwrap_or("usable")), "{said}");
    let forced = command().args(["doctor", "--json"]).env("CONVNEXT_LEVEL", "v9").output().unwrap();
    assert!(String::from_utf8(forced.stdout).unwrap().contains("no SIMD level `v9` here"));
}

#[test]
fn recipes_and_settings_are_found_by_name() {
    let show = line("recipes show micro-pretrain").out;
    assert_eq!(show, include_str!("../recipes/micro-pretrain.toml"));
    assert!(line("recipes").out.contains("\nmicro-pretrain "));
    line("recipes show micro-pretrian").failed(2, &["did you mean `micro-pretrain`?"]);
    line("pretrain --recipe micro-pretrian --out x").failed(2, &["no recipe `micro-pretrian`", "did you mean"]);
    let printed = line("pretrain --recipe micro-pretrain --print-recipe --set pretrain.epochs=3");
    assert!(
        printed.code == 0 && printed.out.contains("epochs = 3\n") && printed.out.contains("[machine]"),
        "{printed:?}"
    );
    line("pretrain --recipe micro-pretrain").failed(2, &["--out"]);
    assert!(line("settings optimizer.clip").out.contains("a number from 1e-9 to 1000000000"));
    line("settings optimiser").failed(2, &["did you mean `optimizer`?"]);
    let schema = line("settings --json").json();
    assert_eq!(schema["properties"]["finetune"]["properties"]["epochs"]["minimum"], 1);
}

/// Made anew by `convnext settings --markdown`, below its title.
#[test]
fn the_reference_of_settings_is_up_to_date() {
    let written = include_str!("../../docs/settings.md");
    let (_, reference) = written.split_once("\n\n").unwrap();
    assert!(
        reference.ends_with(&line("settings --markdown").out),
        "docs/settings.md is not what `settings --markdown` says"
    );
}

#[test]
fn nothing_is_coloured_where_nobody_wants_it() {
    let help = |no_color: bool| {
        let mut command = command();
        command.arg("--help").env("CLICOLOR_FORCE", "1");
        if no_color {
            command.env("NO_COLOR", "1").env_remove("CLICOLOR_FORCE")
        } else {
            command.env_remove("NO_COLOR")
        };
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(help(false).contains('\u{1b}') && !help(true).contains('\u{1b}'));
}
