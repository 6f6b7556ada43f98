//! `init`: from a folder to recipes that run as they are.

mod common;

use std::fs;

use common::Folder;
use serde_json::json;

#[test]
fn a_folder_becomes_recipes_that_run_as_they_are() {
    let folder = Folder::new();
    folder.photographs("photos", &[("ant", 10), ("bee", 6), ("cow", 1)]);
    let said = folder.run("init @photos --out @out");
    assert_eq!(said.code, 0, "{said:?}");
    for text in ["17, grey", "3, of 1 to 10 images; uneven: `cow`", "micro: 32x32x1", "next:\n  convnext pretrain"] {
        assert!(said.out.contains(text), "no {text:?} in {said:?}");
    }
    let short = "--device cpu --set pretrain.epochs=1 --set pretrain.warmup_epochs=0 --out @out/pretrain";
    let run = folder.run(&format!("pretrain --recipe @out/pretrain.toml {short}"));
    assert_eq!(run.code, 0, "{run:?}");
    let short = "--device cpu --set finetune.epochs=1 --set finetune.warmup_epochs=0 --out @out/finetune --json";
    let run = folder.run(&format!("finetune --recipe @out/finetune.toml {short}")).json();
    assert!(run["evaluation"]["top1"].is_number(), "{run}");
    assert!(fs::read_to_string(folder.path("out/finetune/recipe.toml")).unwrap().contains("classes = 3"));

    folder.run("init @photos --out @out").failed(1, &["pretrain.toml: is there already"]);
    let shards = "init @out/data/train-*.tar --validation @out/data/validation-*.tar --out @again --json";
    let found = folder.run(shards).json();
    assert_eq!((&found["model"], &found["images"], &found["classes"]), (&json!("micro"), &json!(14), &json!(3)));
    let recipe = fs::read_to_string(folder.path("again/finetune.toml")).unwrap();
    assert!(recipe.contains("validation = ") && recipe.contains("mean = ["), "{recipe}");
}

#[test]
fn images_without_labels_get_a_recipe_for_pre_training() {
    let folder = Folder::new();
    folder.photographs("photos", &[("", 9)]);
    let found = folder.run("init @photos --out @out --json").json();
    assert_eq!((&found["classes"], found["files"].as_array().unwrap().len()), (&json!(null), 1));
    assert!(!folder.path("out/finetune.toml").exists());
    folder.run("init @photos @photos --out @other").failed(2, &["one folder"]);
    folder.run("init @photos --out @other --model none").failed(2, &["no model `none`"]);
}
