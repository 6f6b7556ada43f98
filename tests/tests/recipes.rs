//! The recipes that come with the program are recipes, and say what the paper says.

use std::{fs, path::PathBuf};

use convnext_core::optim::LayerDecay;
use convnext_pipeline::{
    recipe::{Recipe, Resolved, Run},
    tasks::{
        Section,
        classify::{Finetune, Start},
    },
};

const IMAGENET: u64 = 1_281_167;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../cli/recipes")
}

fn load(name: &str, sets: &[&str]) -> Resolved {
    let recipe = Recipe::load(folder().join(name), sets).unwrap_or_else(|error| panic!("{error}"));
    recipe.resolve().unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn finetune(name: &str) -> (Finetune, Run) {
    let resolved = load(name, &["model.name=any"]);
    let run = resolved.run(IMAGENET, 1).unwrap();
    match resolved.training.map(|training| training.section) {
        Some(Section::Classify(finetune)) => (finetune, run),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_recipe_resolves_and_says_what_to_expect() {
    let mut found = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = fs::read_to_string(folder().join(&name)).unwrap();
        assert!(text.starts_with("# ") && text.contains("#   convnext ") && text.contains("Expected metric"), "{name}");
        let sets: &[&str] = if text.contains("[model]") { &[] } else { &["model.name=any"] };
        load(&name, sets).run(IMAGENET, 1).unwrap();
        found += 1;
    }
    assert!(found >= 11);
}

#[test]
fn pre_training_is_the_paper_s() {
    let run = load("pretrain.toml", &["model.name=any"]).run(IMAGENET, 1).unwrap();
    assert_eq!((run.epochs, run.images_per_step), (800, 4096));
    assert!((run.schedule.peak - 2.4e-3).abs() < 1e-12);
    assert_eq!(run.schedule.warmup, 40 * run.steps_per_epoch);
    assert_eq!((run.adamw.beta1, run.adamw.beta2, run.adamw.weight_decay), (0.9, 0.95, 0.05));
}

/// Epochs, learning rate for 256 images, warm-up, layer decay, weight decay, drop path, mixup, CutMix, smoothing.
type Row = (u64, f64, f64, LayerDecay, f64, f64, f64, f64, f64);

#[test]
fn fine_tuning_is_the_paper_s() {
    let (single, group) = (LayerDecay::single(0.9), LayerDecay::group);
    let rows: [(&str, Row); 5] = [
        ("finetune-atto.toml", (600, 2e-4, 0.0, single, 0.3, 0.1, 0.0, 0.0, 0.2)),
        ("finetune-tiny.toml", (300, 8e-4, 40.0, single, 0.05, 0.2, 0.8, 1.0, 0.1)),
        ("finetune-base.toml", (100, 6.25e-4, 20.0, group(0.6), 0.05, 0.1, 0.8, 1.0, 0.1)),
        ("finetune-large.toml", (100, 6.25e-4, 20.0, group(0.6), 0.05, 0.2, 0.8, 1.0, 0.1)),
        ("finetune-huge.toml", (50, 6.25e-4, 20.0, group(0.75), 0.05, 0.3, 0.8, 1.0, 0.1)),
    ];
    for (name, row) in rows {
        let (f, run) = finetune(name);
        let (decay, drop_path) = (run.layer_decay.unwrap(), f.drop_path.unwrap());
        let weight_decay = run.adamw.weight_decay;
        let found =
            (f.epochs, f.base_lr, f.warmup_epochs, decay, weight_decay, drop_path, f.mixup, f.cutmix, f.smoothing);
        assert_eq!(found, row, "{name}");
        assert_eq!((f.start, f.head_scale(), run.images_per_step), (Start::Pretrained, 0.001, 1024), "{name}");
        assert_eq!((run.adamw.beta1, run.adamw.beta2, run.ema.unwrap().decay), (0.9, 0.999, 0.9999), "{name}");
    }
}

#[test]
fn from_scratch_the_head_is_not_scaled_down() {
    assert_eq!(finetune("micro-scratch.toml").0.head_scale(), 1.0);
}
