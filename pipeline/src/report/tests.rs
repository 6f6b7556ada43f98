use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{ReportError, Run, render, write};
use crate::{
    pictures,
    records::{
        EVALUATION, EvaluateRecord, Evaluation, History, Line, METRICS, Metrics, Mistake, RECIPE, RECONSTRUCTION, RUN,
        RunRecord, TrainRecord, Unreadable, Weights,
    },
    tasks::classify::metrics::{LOSS, TOP1, TOP5},
};

const MALICIOUS: &str = r#"</title><script src="http://x">alert('&')</script>"#;

fn train(step: u64) -> TrainRecord {
    let x = step as f64 / 1000.0;
    TrainRecord {
        step,
        epoch: x * 5.0,
        loss: 2.3 * (-3.0 * x).exp() + 0.2,
        lr: 6e-4,
        gradient_norm: 0.9,
        images_per_second: 812.0,
        waited_seconds: 0.3,
        elapsed_seconds: step as f64 * 0.8,
        loading: None,
    }
}

fn measured(loss: f64, top1: f64, top5: f64) -> Metrics {
    [LOSS.of(loss), TOP1.of(top1), TOP5.of(top5)].into_iter().collect()
}

fn evaluate(step: u64) -> EvaluateRecord {
    EvaluateRecord { step, epoch: 5.0, metrics: measured(0.41, 0.893, 0.998), weights: Weights::Ema }
}

fn record(kind: &str) -> RunRecord {
    RunRecord {
        kind: kind.to_owned(),
        model: "atto".to_owned(),
        version: "0.1.0".into(),
        parameters: 3_708_400,
        multiply_adds: 550_000_000,
        seconds: 800.0,
        cpu_seconds: 1500.0,
        images: 300_000,
        threads: 2,
        machine: "x86-64, AVX-512".to_owned(),
        started: "2025-01-01T12:00:00Z".to_owned(),
        bad_samples: 0,
        substituted: 0,
        evaluation: None,
        best: None,
        start: None,
        stopped: None,
    }
}

fn evaluation(class: &str) -> Evaluation {
    let mistake = |picture: Option<&str>| Mistake {
        key: "test/00017".to_owned(),
        label: 0,
        predicted: 1,
        probability: 0.97,
        picture: picture.map(str::to_owned),
    };
    Evaluation {
        samples: 10,
        metrics: measured(0.4, 0.9, 1.0),
        weights: Weights::Ema,
        classes: vec![class.to_owned(), "Coat".to_owned()],
        confusion: [(0, 0, 4), (0, 1, 1), (1, 1, 5)].into_iter().collect(),
        mistakes: vec![mistake(Some("pictures/mistake-00.png")), mistake(None)],
    }
}

fn small_png() -> Vec<u8> {
    pictures::png(&pictures::picture(&[7; 12], 2, 2, 3).unwrap()).unwrap()
}

/// A run that has everything.
fn full(name: &str, kind: &str) -> Run {
    Run {
        name: name.to_owned(),
        record: Some(record(kind)),
        recipe: Some("model = \"atto\"\n".to_owned()),
        history: History {
            train: (1..=100).map(|i| train(i * 10)).collect(),
            evaluate: vec![evaluate(1000)],
            changes: Vec::new(),
            unreadable: Unreadable::default(),
        },
        evaluation: Some(evaluation("T-shirt")),
        pictures: [(RECONSTRUCTION, small_png())].into(),
        mistakes: vec![Some(small_png()), None],
        ..Run::default()
    }
}

/// Panics unless every element is closed in order. Enough for the HTML that `maud` and `plotters` write.
fn assert_balanced(page: &str) {
    const VOID: [&str; 3] = ["meta", "img", "!DOCTYPE"];
    let mut open = Vec::new();
    let style = page.find("<style>").unwrap()..page.find("</style>").unwrap();
    let page = [&page[..style.start], &page[style.end + "</style>".len()..]].concat();
    for tag in page.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("unclosed <{tag}"));
        let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap();
        match tag {
            _ if VOID.contains(&name) || tag.ends_with('/') => {}
            _ if tag.starts_with('/') => assert_eq!(open.pop(), Some(name)),
            _ => open.push(name),
        }
    }
    assert_eq!(open, [""; 0]);
}

/// Panics if a browser would fetch or run anything.
fn assert_self_contained(page: &str) {
    assert!(!page.contains("://"), "{:?}", page.find("://"));
    assert!(!page.contains("<script") && !page.contains("<link") && !page.contains("@import"));
    assert!(page.split("src=\"").skip(1).all(|value| value.starts_with("data:image/png;base64,")));
    assert!(page.split("href=\"").skip(1).all(|value| value.starts_with('#')));
}

fn checked(runs: &[Run]) -> String {
    let page = render(runs).unwrap();
    assert_balanced(&page);
    page
}

#[test]
fn a_full_page_is_whole_and_self_contained() {
    let page = checked(&[full("first", "pretrain"), full("second", "finetune")]);
    assert_self_contained(&page);
    let parts = [
        "Pre-training",
        "Fine-tuning",
        "Training loss",
        "Learning rate",
        "Gradient norm",
        "Images a second",
        "waiting for data",
        "Top-1",
        "Reconstruction",
        "both, at the true mean and deviation",
        "Confusion",
        "Classes, the worst recall first",
        "Most confident mistakes",
        "Recipe",
        "T-shirt",
        "97.0\u{a0}%",
        "3.71\u{a0}M",
        "13\u{a0}min 20\u{a0}s",
        "test/00017",
        "no picture",
    ];
    for part in parts {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("class=\"missing\""), "nothing is missing");
}

#[test]
fn runs_of_one_kind_share_charts() {
    let charts = |runs: &[Run]| checked(runs).matches("<figure class=\"chart\"").count();
    let [a, b] = [full("a", "pretrain"), full("b", "pretrain")];
    assert_eq!(charts(&[a.clone(), b]), charts(std::slice::from_ref(&a)));
    assert!(checked(&[a.clone(), full("b", "pretrain")]).contains("class=\"legend\""));
    assert_eq!(charts(&[a.clone(), full("b", "finetune")]), 2 * charts(&[a]));
}

#[test]
fn strings_are_escaped() {
    let mut run = full(MALICIOUS, "finetune");
    run.record.as_mut().unwrap().model = MALICIOUS.to_owned();
    run.record.as_mut().unwrap().machine = MALICIOUS.to_owned();
    run.recipe = Some(MALICIOUS.to_owned());
    run.evaluation = Some(evaluation(MALICIOUS));
    run.evaluation.as_mut().unwrap().mistakes[0].key = MALICIOUS.to_owned();
    let page = checked(&[run.clone(), run]);
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script"));
}

#[test]
fn what_is_missing_is_said() {
    let bare = |kind| Run { name: "bare".to_owned(), record: Some(record(kind)), ..Run::default() };
    let page = checked(&[bare("pretrain")]);
    assert!(page.contains("No curves") && page.contains("convnext reconstruct") && !page.contains("convnext evaluate"));
    let page = checked(&[bare("finetune")]);
    assert!(page.contains("No curves") && page.contains("convnext evaluate") && !page.contains("convnext reconstruct"));
    let page = checked(&[bare("evaluate")]);
    assert!(!page.contains("No curves") && page.contains("convnext evaluate"));
}

#[test]
fn losses_that_are_not_finite_are_drawn_around() {
    let mut run = full("nan", "pretrain");
    run.history.train[50].loss = f64::NAN;
    run.history.train[99].loss = f64::INFINITY;
    assert!(checked(&[run.clone()]).contains("too big: 2."));
    run.history.train.iter_mut().for_each(|record| record.loss = f64::NAN);
    assert!(checked(&[run]).contains("not finite"), "the table says what the loss was");
}

#[test]
fn one_record_is_enough() {
    let history = History { train: vec![train(10)], ..History::default() };
    let page = checked(&[Run { name: "one".to_owned(), history, ..Run::default() }]);
    assert!(page.contains("<circle"));
}

#[test]
fn a_long_run_is_a_small_page() {
    let mut run = full("long", "pretrain");
    run.history.train = (1..=200_000).map(train).collect();
    assert!(checked(&[run]).len() < 300_000);
}

#[test]
fn no_runs_and_no_run_are_refused() {
    assert!(matches!(render(&[]), Err(ReportError::NoRuns)));
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(Run::read(directory.path()), Err(ReportError::NotARun { path, .. }) if path == directory.path()));
}

/// Writes the run directory of [`full`], with half a last line.
fn write_run(directory: &Path) {
    let full = full("", "finetune");
    let lines = full.history.train.into_iter().map(Line::Train);
    let lines = lines.chain(full.history.evaluate.into_iter().map(Line::Evaluate));
    let lines: Vec<_> = lines.map(|line| line.to_line().unwrap()).collect();
    fs::create_dir(directory.join("pictures")).unwrap();
    fs::write(directory.join(METRICS), lines.join("\n") + "\n{\"kind\":\"tra").unwrap();
    fs::write(directory.join(RUN), serde_json::to_vec(&full.record).unwrap()).unwrap();
    fs::write(directory.join(EVALUATION), serde_json::to_vec(&full.evaluation).unwrap()).unwrap();
    fs::write(directory.join(RECIPE), full.recipe.unwrap()).unwrap();
    fs::write(directory.join(RECONSTRUCTION), small_png()).unwrap();
    fs::write(directory.join("pictures/mistake-00.png"), small_png()).unwrap();
}

#[test]
fn a_directory_becomes_a_page() {
    let directory = tempfile::tempdir().unwrap();
    write_run(directory.path());
    let run = Run::read(directory.path()).unwrap();
    assert_eq!(run.history.unreadable, Unreadable { count: 1, first: 102 });
    let expected = full(&run.name, "finetune");
    assert_eq!(run.path, directory.path().canonicalize().unwrap());
    assert_eq!(Run { history: expected.history.clone(), path: PathBuf::new(), ..run }, expected);
    let output = directory.path().join("report.html");
    write(&[directory.path()], &output).unwrap();
    let page = fs::read_to_string(output).unwrap();
    assert_balanced(&page);
    assert_self_contained(&page);
    assert!(page.contains("the first is line 102"));
}

#[test]
fn pictures_outside_the_run_stay_outside() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("run");
    fs::create_dir(&directory).unwrap();
    write_run(&directory);
    fs::write(parent.path().join("secret.png"), small_png()).unwrap();
    let absolute = parent.path().join("secret.png").display().to_string();
    std::os::unix::fs::symlink("../secret.png", directory.join("link.png")).unwrap();
    std::os::unix::fs::symlink("..", directory.join("up")).unwrap();
    for outside in ["../secret.png", &absolute, "link.png", "up/secret.png", "pictures", ""] {
        let mut evaluation = evaluation("a");
        evaluation.mistakes.truncate(1);
        evaluation.mistakes[0].picture = Some(outside.to_owned());
        fs::write(directory.join(EVALUATION), serde_json::to_vec(&evaluation).unwrap()).unwrap();
        let run = Run::read(&directory).unwrap();
        assert_eq!(run.mistakes, [None], "{outside:?}");
        assert_eq!(run.notes.is_empty(), outside.is_empty(), "{:?}", run.notes);
    }
}

/// No file of a run may be a link, a folder or a pipe; the page says which is, and has what is left.
#[test]
fn files_that_are_no_plain_files_are_left_out_and_said() {
    let names = [RECIPE, RUN, METRICS, EVALUATION, RECONSTRUCTION, "quarantine.tsv"];
    type Kind = (&'static str, fn(&Path));
    let kinds: [Kind; 3] = [
        ("symbolic link", |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
        ("no plain file", |path| fs::create_dir(path).unwrap()),
        ("no plain file", |path| {
            std::process::Command::new("mkfifo").arg(path).status().unwrap();
        }),
    ];
    for (name, (kind, put)) in names.into_iter().flat_map(|name| kinds.map(|kind| (name, kind))) {
        let directory = tempfile::tempdir().unwrap();
        write_run(directory.path());
        let path = directory.path().join(name);
        let _ = fs::remove_file(&path);
        put(&path);
        let run = Run::read(directory.path()).unwrap();
        assert!(
            matches!(&run.notes[..], [note] if note.contains(name) && note.contains(kind)),
            "{name}: {:?}",
            run.notes
        );
        assert!(checked(&[run]).contains("is left out"), "{name}");
    }
}

#[test]
fn nothing_but_links_is_no_run() {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join(METRICS)).unwrap();
    let error = Run::read(directory.path()).unwrap_err().to_string();
    assert!(error.contains("not a run directory") && error.contains("symbolic link"), "{error}");
}

/// Sparse files, so that the test costs no disk; what would be read is bounded.
#[test]
fn files_larger_than_a_run_writes_are_left_out_or_cut() {
    let directory = tempfile::tempdir().unwrap();
    write_run(directory.path());
    let grow = |name| fs::OpenOptions::new().append(true).open(directory.path().join(name)).unwrap().set_len(1 << 33);
    for name in [RECIPE, EVALUATION, RECONSTRUCTION] {
        grow(name).unwrap();
    }
    let run = Run::read(directory.path()).unwrap();
    assert_eq!((run.recipe.is_none(), run.evaluation.is_none(), run.pictures.is_empty()), (true, true, true));
    assert_eq!(run.notes.len(), 3, "{:?}", run.notes);
    assert!(run.notes.iter().all(|note| note.contains("more than")), "{:?}", run.notes);
}

#[test]
fn a_picture_that_would_unpack_to_gigabytes_is_not_shown() {
    let mut png = small_png();
    png[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let run = Run { pictures: [(RECONSTRUCTION, png)].into(), ..full("bomb", "pretrain") };
    assert!(checked(&[run]).contains("is not a PNG that can be shown"));
}

#[test]
fn bad_samples_are_shown_and_escaped() {
    let mut run = full("bad", "finetune");
    assert!(!checked(&[run.clone()]).contains("Bad samples"));
    run.record.as_mut().unwrap().bad_samples = 126;
    run.record.as_mut().unwrap().substituted = 378;
    run.quarantine = vec![format!("7\t12\tcannot be decoded: {MALICIOUS}"), "no tabs".to_owned()];
    run.has_more_bad_samples = true;
    let page = checked(&[run]);
    for part in ["<strong>126</strong>", "<strong>378</strong>", "cannot be decoded", "no tabs", "and more"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script"));
}

#[test]
fn the_list_of_bad_samples_is_read_in_part() {
    let directory = tempfile::tempdir().unwrap();
    write_run(directory.path());
    fs::write(directory.path().join("quarantine.tsv"), "1\t2\tbroken\n".repeat(100_000)).unwrap();
    let run = Run::read(directory.path()).unwrap();
    assert_eq!((run.quarantine.len(), run.has_more_bad_samples), (10, true));
}

#[test]
fn a_run_that_ended_early_says_so() {
    let mut run = full("early", "pretrain");
    run.recipe = Some("[pretrain]\nepochs = 12\n".to_owned());
    run.evaluation = None;
    assert!(!checked(&[run.clone()]).contains("Not finished"));
    run.record = None;
    run.history.evaluate.clear();
    let page = checked(&[run]);
    assert!(page.contains("Not finished: epoch 5 of 12") && page.contains("convnext pretrain --resume"));
}

#[test]
fn machines_have_names() {
    let mut run = full("old", "pretrain");
    run.record.as_mut().unwrap().machine = "v4".to_owned();
    assert!(checked(&[run]).contains("x86-64 with AVX-512"));
    assert!(!crate::device::Device::Cpu.machine().starts_with('v'));
}

#[test]
fn a_page_replaces_a_page_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    write_run(directory.path());
    let put = |name: &str| write(&[directory.path()], &directory.path().join(name));
    put("page.html").unwrap();
    put("page.html").unwrap();
    let recipe = fs::read(directory.path().join(RECIPE)).unwrap();
    let victim = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(victim.path(), directory.path().join("link.html")).unwrap();
    let refused = [
        (RECIPE, "something else"),
        ("pictures", "it is a folder"),
        ("link.html", "a link"),
        ("missing/page.html", "does not exist"),
        ("..", "no name of a file"),
    ];
    for (name, why) in refused {
        let error = put(name).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    assert_eq!(fs::read(directory.path().join(RECIPE)).unwrap(), recipe);
    assert_eq!(fs::metadata(victim.path()).unwrap().len(), 0);
}

#[test]
fn a_wrong_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    write_run(directory.path());
    fs::write(directory.path().join(EVALUATION), "[1]").unwrap();
    assert!(Run::read(directory.path()).unwrap_err().to_string().contains(EVALUATION));
    fs::remove_file(directory.path().join(EVALUATION)).unwrap();
    fs::write(directory.path().join(RECONSTRUCTION), "GIF89a").unwrap();
    assert!(checked(&[Run::read(directory.path()).unwrap()]).contains("is not a PNG that can be shown"));
}
