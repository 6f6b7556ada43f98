//! The examples in the help of every command, run: in a folder that has what they name, with few and small images.

mod common;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use common::{Folder, command, line};

/// Examples that are not run here, by what they contain, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("convnext quickstart", "packs and trains for minutes"),
    ("watch.html", "goes on until all runs have ended"),
    ("convnext init", "run in init.rs"),
    ("--split", "run in shards.rs"),
];

/// Commands whose examples make what those of others take, in this order.
const FIRST: &[&[&str]] = &[&["pack"], &["pretrain"], &["finetune"], &["debug", "init"]];

/// What examples of the large variants become here.
const SMALL: &[(&str, &str)] = &[
    ("--model atto", "--model micro"),
    ("--model base", "--model micro"),
    ("--model tiny", "--model micro"),
    ("--model mine", "--model micro"),
    ("model.name=tiny", "model.name=micro"),
    ("finetune-atto", "micro-finetune"),
    ("finetune-base", "micro-finetune"),
    ("--batch 128", "--batch 4"),
    ("--batch 64", "--batch 4"),
    ("--count 10000", "--count 10"),
];

/// What examples become that write for programs which hold no small variant: one of the paper's, with random weights.
const OF_THE_PAPER: &[(&str, &str)] =
    &[("--model mine", "--model atto"), ("runs/finetune", "atto.safetensors"), ("runs/pretrain", "atto.safetensors")];

/// What an example of a command becomes here.
fn made_small(commands: &[String], example: &str) -> String {
    let rules = match commands.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["import" | "export"] => OF_THE_PAPER,
        // It takes an autoencoder, where other passes take a classifier.
        ["debug", "fcmae"] => &[("w.safetensors", "runs/pretrain"), ("--model atto", "--model micro")],
        _ => SMALL,
    };
    let small = rules.iter().fold(example.to_owned(), |line, (large, small)| line.replace(large, small));
    match small.split_once(" > ") {
        Some((before, after)) => format!("{before} {} > {after}", quickly(commands)),
        None if small.contains("--model-of-cost") || small.contains("; ") => small,
        None => format!("{small} {}", quickly(commands)),
    }
}

/// What is added to a command's examples, so that they take little time.
fn quickly(commands: &[String]) -> &'static str {
    match commands.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pretrain"] => "--device cpu --set pretrain.epochs=1 --set pretrain.batch=4 --set pretrain.warmup_epochs=0",
        ["finetune"] => {
            "--device cpu --set finetune.epochs=1 --set finetune.batch=4 --set finetune.warmup_epochs=0 \
             --set finetune.weights=runs/pretrain"
        }
        ["bench"] => "--steps 1 --warmup 0",
        ["evaluate" | "predict"] => "--device cpu",
        _ => "",
    }
}

/// The lines of a command's help, as a wide terminal shows them: in the workspace another crate has clap break long ones.
fn help(commands: &[String]) -> String {
    let said = command().args(commands).arg("--help").env("COLUMNS", "200").output().unwrap();
    assert!(said.status.success(), "{said:?}");
    String::from_utf8(said.stdout).unwrap()
}

/// Every command, those that commands have of their own included.
fn commands() -> Vec<Vec<String>> {
    let (mut all, mut open) = (Vec::new(), vec![Vec::new()]);
    while let Some(commands) = open.pop() {
        let help = help(&commands);
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        for name in names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
            open.push([commands.clone(), vec![name.to_owned()]].concat());
        }
        all.push(commands);
    }
    let rank = |commands: &[String]| FIRST.iter().position(|first| *first == commands).unwrap_or(FIRST.len());
    all.sort_by_key(|commands| (rank(commands), commands.clone()));
    all
}

/// The examples in a command's help: the indented lines after `Example`, each with the lines that go on from it.
fn examples(commands: &[String]) -> Vec<String> {
    let help = help(commands);
    let lines =
        help.lines().skip_while(|line| !line.starts_with("Example")).skip(1).take_while(|line| line.starts_with("  "));
    let mut examples: Vec<String> = Vec::new();
    for line in lines {
        match examples.last_mut().and_then(|last| last.strip_suffix('\\').map(str::to_owned).map(|whole| (last, whole)))
        {
            Some((last, whole)) => *last = whole + line.trim_start(),
            None => examples.push(line.trim().to_owned()),
        }
    }
    examples
}

/// A folder with everything that examples name and do not make.
fn world() -> Folder {
    let folder = Folder::new();
    folder.idx(12);
    let path = |name: &str| folder.path(name);
    for name in ["data/test", "imagenet/train", "imagenet/val", "read-only/train"] {
        let pack = format!("pack --images @images.idx --labels @labels.idx --class-names a,b,c --output @{name}");
        assert_eq!(folder.run(&pack).code, 0);
    }
    for made in [
        "debug init --model atto --seed 1 --output @atto.safetensors",
        "export --model atto --weights @atto.safetensors --layout timm --output @timm.safetensors",
        "export --model atto --weights @atto.safetensors --layout official --output @official.safetensors",
    ] {
        assert_eq!(folder.run(made).code, 0, "{made}");
    }
    fs::rename(path("official.safetensors"), path("convnextv2_atto_1k_224_ema.pt")).unwrap();
    let picture = |at: usize| -> Vec<u8> {
        [&b"P5\n28 28\n255\n"[..], &(0..784).map(|pixel| (pixel * (at + 3) % 251) as u8).collect::<Vec<u8>>()].concat()
    };
    let pictures = [
        "shoe.png",
        "coat.jpg",
        "photo.jpg",
        "photos/a/one.png",
        "photos/b/two.png",
        "photos/val/a/one.png",
        "photos/val/b/two.png",
        "more/three.jpg",
    ];
    for (at, name) in pictures.iter().enumerate() {
        fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        fs::write(path(name), picture(at)).unwrap();
    }
    fs::write(path("list.tsv"), "shoe.png\t0\ncoat.jpg\t1\n").unwrap();
    folder.array("x.npy", &[2, 32, 32, 1], |at| (at % 17) as f32 / 17.0);
    folder.array("t.npy", &[2, 10], |at| f32::from(u8::from(at % 10 == 3)));
    let models = line("models --json").json();
    let micro = models.as_array().unwrap().iter().find(|model| model["name"] == "micro").unwrap();
    let [patches, visible] = ["patches", "visible"].map(|key| micro["fcmae"][key].as_u64().unwrap());
    folder.array("m.npy", &[2, patches], |at| f32::from(u8::from(at as u64 % patches >= visible)));
    folder
}

/// Runs a line in a shell that finds the program.
fn shell(folder: &Path, line: &str) -> Output {
    let program = command().get_program().to_owned();
    let programs = Path::new(&program).parent().unwrap().display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
    Command::new("sh").args(["-ec", line]).env("PATH", path).current_dir(folder).output().unwrap()
}

#[test]
fn every_example_runs() {
    let folder = world();
    let root = folder.path("");
    let mut run = 0;
    for commands in commands() {
        for example in examples(&commands) {
            assert!(example.contains("convnext "), "{commands:?} has an example of something else: {example}");
            if SKIPPED.iter().any(|(part, _)| example.contains(part)) {
                continue;
            }
            let small = made_small(&commands, &example);
            before(&folder, &small);
            let Output { status, stdout, stderr } = shell(&root, &small);
            let [out, error] = [stdout, stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            assert!(status.success(), "{example}\nas {small}\n{out}{error}");
            run += 1;
        }
    }
    assert!(run > 50, "{run} examples");
    for made in ["predictions.html", "features.npy", "convnext.1", "man/man1/convnext-predict.1", "convnext.bash"] {
        assert!(root.join(made).exists(), "{made}");
    }
}

/// Makes what an example takes that no other makes.
fn before(folder: &Folder, example: &str) {
    if example.contains(" weights.safetensors") {
        let said =
            folder.run("export --model micro --weights @runs/finetune --layout ours --output @weights.safetensors");
        assert_eq!(said.code, 0, "{said:?}");
    }
    if example.contains("runs/scratch") && !folder.path("runs/scratch").exists() {
        assert!(shell(&folder.path(""), "cp -r runs/finetune runs/scratch").status.success());
    }
}
