use super::*;
use crate::tasks::Section;

const NONE: [&str; 0] = [];

const PRETRAIN: &str = "
    [model]
    name = 'atto'
    [pretrain]
    epochs = 10
    batch = 64
    accumulation = 2
    base_lr = 1.5e-4
    warmup_epochs = 1
";

const FINETUNE: &str = "
    [model]
    name = 'atto'
    [data]
    train = 'shards/train-*.tar'
    [finetune]
    epochs = 10
    batch = 32
    base_lr = 2e-4
    start = 'pretrained'
    layer_decay = { rate = 0.9, mode = 'single' }
    ema = { decay = 0.9999 }
";

fn resolve(text: &str) -> Resolved {
    Recipe::parse("test", text, &NONE).unwrap().resolve().unwrap()
}

fn with(text: &str, sets: &[&str]) -> Resolved {
    Recipe::parse("test", text, sets).unwrap().resolve().unwrap()
}

/// Names of the keys that are refused.
fn refused(text: &str, sets: &[&str]) -> Vec<String> {
    match Recipe::parse("test", text, sets).unwrap().resolve() {
        Err(RecipeError::Invalid { problems }) => problems.into_iter().map(|problem| problem.key).collect(),
        other => panic!("{other:?}"),
    }
}

fn message(text: &str, sets: &[&str]) -> String {
    Recipe::parse("test", text, sets).unwrap_err().to_string()
}

#[test]
fn first_weights_are_the_papers_unless_said_otherwise() {
    assert_eq!(resolve(PRETRAIN).model.init, Init::Normal);
    assert_eq!(with(PRETRAIN, &["model.init=fan_in"]).model.init, Init::FanIn);
    assert!(message(PRETRAIN, &["model.init=fan-in"]).contains("fan_in"));
    assert_eq!(with(PRETRAIN, &["model.precision=bf16"]).model.precision, Precision::Bf16);
    assert!(message(PRETRAIN, &["model.precision=fp16"]).contains("bf16"));
}

#[test]
fn defaults_depend_on_the_job() {
    let (pretrain, finetune) = (resolve(PRETRAIN), resolve(FINETUNE));
    let (pretrain, finetune) = (pretrain.training.unwrap(), finetune.training.unwrap());
    assert_eq!((pretrain.optimizer.betas, finetune.optimizer.betas), ([0.9, 0.95], [0.9, 0.999]));
    assert_eq!((pretrain.augment.crop_scale, finetune.augment.crop_scale), (Some([0.2, 1.0]), Some([0.08, 1.0])));
}

#[test]
fn the_head_starts_small_except_from_scratch() {
    let scale = |sets: &[&str]| match with(FINETUNE, sets).training.unwrap().section {
        Section::Classify(finetune) => finetune.head_scale,
        other => panic!("{other:?}"),
    };
    assert_eq!(scale(&[]), Some(0.001));
    assert_eq!(scale(&["finetune.start=scratch"]), Some(1.0));
    assert_eq!(refused(FINETUNE, &["finetune.start=scratch", "finetune.head_scale=0.001"]), ["finetune.head_scale"]);
}

#[test]
fn rates_and_steps_are_absolute() {
    let run = resolve(PRETRAIN).run(1000, 1).unwrap();
    assert_eq!((run.images_per_step, run.steps_per_epoch, run.steps()), (128, 7, 70));
    assert_eq!((run.schedule.peak, run.schedule.warmup), (1.5e-4 * 128.0 / 256.0, 7));
    let many = resolve(PRETRAIN).run(1000, 2).unwrap();
    assert_eq!((many.images_per_step, many.steps_per_epoch), (256, 3));
    assert_eq!(many.schedule.peak, 1.5e-4);
}

#[test]
fn layer_decay_and_average_reach_the_run() {
    let run = resolve(FINETUNE).run(100, 1).unwrap();
    assert_eq!(run.layer_decay, Some(convnext_core::optim::LayerDecay::single(0.9)));
    assert_eq!(run.ema, Some(convnext_core::optim::Ema { decay: 0.9999, warmup: false }));
    assert_eq!(run.keep.best, Some(convnext_weights::checkpoint::Better::Higher));
    // Of a held-out loss less is better.
    assert_eq!(resolve(PRETRAIN).run(1000, 1).unwrap().keep.best, Some(convnext_weights::checkpoint::Better::Lower));
}

#[test]
fn checkpoints_are_due_at_epochs_steps_and_the_end() {
    let sets = ["checkpoint.every_epochs=4", "checkpoint.every_steps=10"];
    let run = with(PRETRAIN, &sets).run(1000, 1).unwrap();
    let due: Vec<u64> = (0..=70).filter(|&step| run.saves_after(step)).collect();
    assert_eq!(due, [10, 20, 28, 30, 40, 50, 56, 60, 70]);
    assert_eq!((run.ends_epoch(0), run.ends_epoch(7), run.ends_epoch(8)), (None, Some(1), None));
}

#[test]
fn too_few_images_for_a_step() {
    let error = resolve(PRETRAIN).run(100, 1).unwrap_err().to_string();
    assert!(error.contains("takes 128 images and there are 100"), "{error}");
}

#[test]
fn a_resolved_recipe_is_a_recipe_that_resolves_to_itself() {
    for text in [PRETRAIN, FINETUNE, &format!("{PRETRAIN}\n[augment]\npad = 2"), "[model]\nname = 'atto'\n[evaluate]"] {
        let resolved = resolve(text);
        assert_eq!(resolve(&resolved.to_toml()), resolved, "{}", resolved.to_toml());
    }
}

#[test]
fn hash_sees_numbers_and_not_places_or_speed() {
    let hash = resolve(FINETUNE).hash();
    assert_eq!(hash.len(), 64);
    let same = [
        "data.train=elsewhere/*.tar",
        "finetune.weights=runs/pretrain",
        "machine.threads=7",
        "machine.workers=3",
        "checkpoint.keep_last=9",
        "evaluate.batch=7",
        "finetune.mixup=0",
    ];
    for set in same {
        assert_eq!(with(FINETUNE, &[set]).hash(), hash, "{set}");
    }
    for set in ["seed=1", "finetune.base_lr=1e-4", "model.name=femto", "augment.flip=false", "optimizer.clip=1"] {
        assert_ne!(with(FINETUNE, &[set]).hash(), hash, "{set}");
    }
    let evaluate = "[model]\nname = 'atto'\n[evaluate]";
    assert_ne!(with(evaluate, &["evaluate.crop=0.9"]).hash(), resolve(evaluate).hash());
}

#[test]
fn differences_are_named() {
    let now = with(FINETUNE, &["finetune.base_lr=1e-3", "optimizer.clip=1.0", "machine.threads=2"]);
    let lines: Vec<String> = now.differences(&resolve(FINETUNE)).iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["finetune.base_lr: 0.001, was 0.0002", "optimizer.clip: 1.0, was absent"]);
}

#[test]
fn unknown_keys_are_refused_with_the_line_and_the_likely_name() {
    let text = message("[finetune]\nepocs = 3\n", &[]);
    assert!(text.contains("line 2") && text.contains("did you mean `epochs`?"), "{text}");
    let text = message("[fintune]\nepochs = 3\n", &[]);
    assert!(text.contains("did you mean `finetune`?"), "{text}");
    let text = message(&PRETRAIN.replace("warmup_epochs", "weight_decay"), &[]);
    assert!(text.contains("`weight_decay` belongs in [optimizer]"), "{text}");
    let text = message(&FINETUNE.replace("'single'", "'singel'"), &[]);
    assert!(text.contains("did you mean `single`?"), "{text}");
}

#[test]
fn a_bad_setting_is_blamed_by_name() {
    let text = message(PRETRAIN, &["seed=3", "pretrain.epocs=3"]);
    assert!(text.starts_with("--set pretrain.epocs=3:") && text.contains("did you mean `epochs`?"), "{text}");
    let text = message(PRETRAIN, &["pretrain.epochs=many", "seed=3"]);
    assert!(text.starts_with("--set pretrain.epochs=many:"), "{text}");
    assert!(message(PRETRAIN, &["seed"]).contains("no `=`"));
    assert!(message(PRETRAIN, &["pretrain..epochs=3"]).contains("empty part"));
    assert!(message("seed = 1", &["seed.x=3"]).contains("`seed` is a value, not a section"));
}

#[test]
fn settings_may_build_a_section_and_take_a_key_out() {
    let evaluate = with("", &["evaluate.batch=8", "model.name=atto"]);
    assert_eq!(evaluate.name(), "evaluate");
    let built = ["model.name=atto", "pretrain.epochs=1", "pretrain.batch=2", "pretrain.base_lr=1e-3"];
    assert_eq!(with("", &built).name(), "pretrain");
    assert_eq!(with(FINETUNE, &["finetune.ema="]).run(100, 1).unwrap().ema, None);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let sets = [
        "finetune.epochs=0",
        "finetune.batch=0",
        "finetune.base_lr=-1",
        "finetune.min_lr=nan",
        "finetune.warmup_epochs=3",
        "finetune.mixup=0.001",
        "finetune.drop_path=1",
        "finetune.smoothing=1.5",
        "finetune.layer_decay.rate=0",
        "finetune.ema.decay=1.0",
        "optimizer.betas=[0.9, 1.0]",
        "optimizer.clip=0",
        "augment.crop_scale=[0.5, 0.2]",
        "augment.erasing=2",
        "evaluate.crop=0",
        "checkpoint.keep_last=0",
        "data.std=[0]",
    ];
    let mut expected: Vec<&str> = sets.iter().filter_map(|set| Some(set.split_once('=')?.0)).collect();
    let mut found = refused(FINETUNE, &sets);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_recipe_does_one_thing() {
    assert_eq!(refused("", &["model.name=atto"]), ["recipe"]);
    let both = format!("{PRETRAIN}\n[finetune]\nepochs = 1\nbatch = 1\nbase_lr = 1\nstart = 'scratch'");
    assert_eq!(refused(&both, &[]), ["pretrain"]);
    assert_eq!(with(PRETRAIN, &["evaluate.batch=2"]).evaluate.unwrap().batch, 2);
    assert_eq!(refused("[model]\nname = 'a'\n[evaluate]\n[optimizer]\n[augment]", &[]), ["optimizer", "augment"]);
    assert_eq!(refused(PRETRAIN.replace("[model]\n    name = 'atto'", "").as_str(), &[]), ["model.name"]);
}

#[test]
fn arguments_of_tasks_set_keys_that_there_are() {
    let sections = reference::sections();
    let keys: Vec<&str> = sections.iter().flat_map(|section| &section.settings).map(|s| s.key.as_str()).collect();
    for flag in crate::tasks::ALL.iter().flat_map(|task| task.flags()) {
        assert!(keys.contains(&flag.key), "{}", flag.key);
    }
}

#[test]
fn normalisation_fits_the_channels() {
    let data = resolve(FINETUNE).data;
    assert_eq!(data.normalisation(3).unwrap().0, [0.485, 0.456, 0.406]);
    assert_eq!(data.normalisation(1).unwrap(), (vec![0.5], vec![0.25]));
    let data = with(FINETUNE, &["data.mean=[0.3]"]).data;
    assert_eq!(data.normalisation(2).unwrap().0, [0.3, 0.3]);
    let data = with(FINETUNE, &["data.std=[0.1, 0.2]"]).data;
    assert!(data.normalisation(3).unwrap_err().contains("data.std: 2 values for 3 channels"));
}

#[test]
fn images_are_padded_or_cropped() {
    assert_eq!(with(FINETUNE, &["augment.pad=2"]).training.unwrap().augment.pad, 2);
    assert_eq!(refused(FINETUNE, &["augment.pad=2", "augment.crop_scale=[0.5, 1]"]), ["augment.pad"]);
}

#[test]
fn numbers_have_ranges() {
    let wrong = [
        ("pretrain.epochs", "4611686018427387904"),
        ("pretrain.batch", "4294967296"),
        ("pretrain.accumulation", "1048577"),
        ("pretrain.base_lr", "inf"),
        ("pretrain.base_lr", "1e308"),
        ("pretrain.min_lr", "1e308"),
        ("pretrain.warmup_epochs", "nan"),
        ("machine.workers", "9223372036854775807"),
        ("machine.threads", "100000"),
        ("optimizer.eps", "1e-50"),
        ("optimizer.betas", "[0.9, 0.99999999]"),
        ("optimizer.weight_decay", "1e300"),
        ("optimizer.clip", "1e-60"),
        ("augment.crop_ratio", "[0.75, 1.7976931348623157e308]"),
        ("augment.crop_scale", "[1e-300, 1.0]"),
        ("augment.erasing", "1e300"),
        ("augment.pad", "4294967295"),
        ("augment.rand_augment", "{ magnitude = 9, operations = 4294967295 }"),
        ("augment.rand_augment", "{ magnitude = 9, std = 1e300 }"),
        ("checkpoint.every_steps", "9223372036854775807"),
        ("data.std", "[1e-50]"),
        ("data.std", "[1e-40]"),
        ("data.mean", "[1e38]"),
        ("data.bad.max_rate", "nan"),
    ];
    for (key, value) in wrong {
        let found = refused(PRETRAIN, &[&format!("{key}={value}")]);
        assert!(found.len() == 1 && found[0].starts_with(key), "{key}={value}: {found:?}");
    }
    let wrong = [
        ("finetune.drop_path", "0.99999999"),
        ("finetune.smoothing", "0.99999999999999999"),
        ("finetune.ema.decay", "0.99999999"),
        ("finetune.mixup", "1e300"),
        ("finetune.cutmix", "1e-300"),
        ("finetune.head_scale", "1e-60"),
        ("finetune.layer_decay.rate", "1e-300"),
        ("evaluate.crop", "1e-9"),
        ("evaluate.batch", "1099511627776"),
    ];
    for (key, value) in wrong {
        assert_eq!(refused(FINETUNE, &[&format!("{key}={value}")]), [key], "{value}");
    }
}

#[test]
fn products_of_numbers_do_not_wrap() {
    let message = |sets: &[&str], samples| with(PRETRAIN, sets).run(samples, 1 << 20).unwrap_err().to_string();
    let said = message(&["pretrain.batch=1048576", "pretrain.accumulation=1048576"], 1 << 60);
    assert!(said.contains("pretrain.batch") && said.contains("2^53"), "{said}");
    let said = message(&["pretrain.epochs=1000000000"], 1 << 40);
    assert!(said.contains("pretrain.epochs") && said.contains("2^53"), "{said}");
}

#[test]
fn files_that_are_no_recipe_are_read_no_further_than_one() {
    let said = |path: &std::path::Path| Recipe::load::<&str>(path, &[]).unwrap_err().to_string();
    assert!(said("/dev/zero".as_ref()).contains("more than 1048576 bytes"));
    let folder = tempfile::tempdir().unwrap();
    assert!(said(folder.path()).contains("a folder"));
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(said(&pipe).contains("a named pipe"));
    std::fs::write(folder.path().join("picture"), [0xff, 0xd8, 0xff]).unwrap();
    assert!(said(&folder.path().join("picture")).contains("no text"));
    assert!(said(&folder.path().join("missing")).contains("No such file"));
}
