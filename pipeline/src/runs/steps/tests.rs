//! The loop with a trainer that makes its steps late: everything that a run leaves behind is the same.

use std::{cell::Cell, collections::VecDeque, fs, path::Path};

use convnext_core::optim::Layout;
use convnext_data::pack::Options;
use convnext_weights::checkpoint::{self, View};

use super::*;
use crate::{
    recipe::Recipe,
    records::Weights,
    stream::Batch,
    tasks::classify::{
        METRICS,
        metrics::{LOSS, TOP1, TOP5},
    },
    testing,
    trainer::Inference,
};

const PLAN: Plan = Plan { height: 4, width: 4, classes: 2, ..Plan::blank("none") };

/// A number that depends on which samples a batch has, and in which order.
fn worth(ids: &[u64]) -> f64 {
    ids.iter().zip(1..).map(|(&id, at)| (id * at) as f64).sum()
}

/// Epoch and id.
type Sample = (u64, u64);

/// A model of two values that every image of every batch moves. As a device does, it makes a step that it was given whatever
/// became of those before it, and tells of it later.
struct Late {
    layout: Layout,
    values: Vec<f32>,
    updates: u64,
    lag: usize,
    accumulation: usize,
    /// Sums over the batches of the step under way.
    sum: f64,
    batches: usize,
    made: VecDeque<Outcome>,
    /// A step with this sample is not finite.
    bad: Option<Sample>,
    seen: bool,
    /// After so many updates no step is finite.
    diverges: Option<u64>,
    /// The update of this number leaves an infinity, and nobody notices.
    spoils: Option<u64>,
    /// All samples that were submitted, by step.
    submitted: Vec<Vec<Sample>>,
}

impl Late {
    fn new(lag: usize, accumulation: usize, bad: Option<Sample>) -> Self {
        let layout = Layout::new([("head.linear.weight", vec![2])]).unwrap();
        Self {
            layout,
            values: vec![0.0, 1.0],
            updates: 0,
            lag,
            accumulation,
            sum: 0.0,
            batches: 0,
            made: VecDeque::new(),
            bad,
            seen: false,
            diverges: None,
            spoils: None,
            submitted: vec![Vec::new()],
        }
    }
}

impl Trainer for Late {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn submit(&mut self, batch: &mut Batch, lr: f64) -> Result<(), ModelError> {
        assert_eq!(batch.bytes.len(), 16 * batch.samples);
        assert!(self.made.len() <= self.lag, "more steps in flight than the loop was allowed");
        self.sum += worth(&batch.ids);
        let samples: Vec<Sample> = batch.epochs.iter().copied().zip(batch.ids.iter().copied()).collect();
        self.seen |= samples.iter().any(|&sample| Some(sample) == self.bad);
        self.submitted.last_mut().unwrap().extend(samples);
        self.batches += 1;
        if self.batches < self.accumulation {
            return Ok(());
        }
        let loss = std::mem::take(&mut self.sum) / self.accumulation as f64;
        self.batches = 0;
        self.submitted.push(Vec::new());
        if std::mem::take(&mut self.seen) || self.diverges == Some(self.updates) {
            self.made.push_back(Outcome::NonFinite { loss: f64::NAN, what: "the loss is NaN".into() });
            return Ok(());
        }
        self.updates += 1;
        self.values[0] += (loss * lr) as f32;
        self.values[1] = self.values[1] * 0.9 + loss as f32;
        if self.spoils == Some(self.updates) {
            self.values[0] = f32::INFINITY;
        }
        self.made.push_back(Outcome::Updated { loss, norm: loss * lr });
        Ok(())
    }

    fn collect(&mut self, in_flight: usize) -> Result<Option<Outcome>, ModelError> {
        Ok(if self.made.len() > in_flight { self.made.pop_front() } else { None })
    }

    fn lag(&self) -> usize {
        self.lag
    }

    fn state(&mut self) -> Result<State<'_>, ModelError> {
        assert!(self.made.is_empty(), "the run looks at its weights while steps are in flight");
        let values = || std::borrow::Cow::from(&self.values[..]);
        Ok(State { parameters: values(), m: values(), v: values(), average: None, updates: self.updates })
    }

    fn restore(&mut self, state: State<'static>) -> Result<(), ModelError> {
        self.made.clear();
        (self.values, self.updates) = (state.parameters.into_owned(), state.updates);
        Ok(())
    }

    fn averages(&self) -> bool {
        false
    }

    fn measure(
        &mut self,
        _: Weights,
        _: &mut dyn FnMut(&mut dyn Inference) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        Err(ModelError::Unmeasured("nothing"))
    }
}

/// What becomes of a measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Done,
    /// A signal comes in its middle.
    Stopped,
    NotFinite,
}

/// A task that is measured after each epoch, as [`Fate`] has it.
struct Measured<'a> {
    fate: &'a dyn Fn(u64) -> Fate,
    stopped: &'a Cell<bool>,
}

impl Measurement for Measured<'_> {
    fn metrics(&self) -> &'static [MetricKind] {
        &METRICS
    }

    fn is_due(&self, _: u64, _: u64) -> bool {
        true
    }

    fn records(&self, trainer: &mut dyn Trainer, step: u64, _: u64) -> Result<Vec<EvaluateRecord>, ModelError> {
        match (self.fate)(step) {
            Fate::Done => {}
            Fate::Stopped => {
                self.stopped.set(true);
                return Err(ModelError::Stopped);
            }
            Fate::NotFinite => {
                return Err(ModelError::NotFinite { image: "x".into(), what: "the logit of class 0 is NaN".into() });
            }
        }
        let values = trainer.state()?.parameters;
        let [top1, top5] = [values[1].sin(), values[0]].map(f64::from);
        let metrics = [LOSS.of(0.0), TOP1.of(top1), TOP5.of(top5)].into_iter().collect();
        Ok(vec![EvaluateRecord { step, epoch: 0.0, metrics, weights: Weights::Model }])
    }
}

/// What a run left behind.
#[derive(Debug, PartialEq)]
struct Left {
    /// Steps with loss, rate and norm; and what was measured. NaN is written as null.
    metrics: Vec<String>,
    /// The names of its checkpoints, and every file of them.
    checkpoints: Vec<(String, Vec<u8>)>,
    values: Vec<f32>,
    updates: u64,
    /// Images, or why it ended.
    ended: Result<u64, String>,
}

/// What a run is given beside its trainer.
#[derive(Clone, Copy)]
struct Given<'a> {
    policy: &'a str,
    resume: bool,
    /// Settings of the recipe, each changed in its text.
    sets: &'a [&'a str],
    /// How often the run may ask before a signal has come.
    signal: Option<u64>,
    fate: &'a dyn Fn(u64) -> Fate,
    pictures: usize,
}

const GIVEN: Given<'_> =
    Given { policy: "stop", resume: false, sets: &[], signal: None, fate: &|_| Fate::Done, pictures: 64 };

/// A run of 24 steps of two batches of four images, eight an epoch; a checkpoint every three steps.
fn run(trainer: &mut Late, folder: &Path, policy: &str, resume: bool) -> Left {
    run_given(trainer, folder, Given { policy, resume, ..GIVEN })
}

fn usage() -> Usage {
    let [mean, std] = [vec![0.5], vec![0.25]];
    let classes = ["even", "odd"].map(str::to_owned).into();
    Usage { model: "none".into(), height: 4, width: 4, channels: 1, mean, std, view: View::Padded, classes }
}

fn start() -> StartRecord {
    let weights = "random".to_owned();
    StartRecord { images: 0, validation: None, classes: None, batch: 4, accumulation: 2, epochs: 3, steps: 24, weights }
}

fn run_given(trainer: &mut Late, folder: &Path, given: Given<'_>) -> Left {
    let Given { policy, resume, sets, signal, fate, pictures } = given;
    let shards = folder.join("shards");
    if !shards.exists() {
        let options = Options { name: "train".to_owned(), ..Options::default() };
        testing::shard(&shards, &options, pictures);
    }
    let shards = Arc::new(ShardSet::open(&[shards.join("train-000000.tar")]).unwrap());
    let text = format!(
        "[model]\nname = \"none\"\n[finetune]\nstart = \"scratch\"\nepochs = 3\nbatch = 4\naccumulation = 2\n\
         base_lr = 0.5\nwarmup_epochs = 1\n[augment]\npad = 1\n[optimizer]\nnon_finite = \"{policy}\"\n\
         [checkpoint]\nevery_steps = 3\nkeep_last = 100\n[machine]\nworkers = 2\n"
    );
    let recipe = Recipe::parse("test", &text, sets).unwrap().resolve().unwrap();
    let numbers = recipe.run(shards.len(), 1).unwrap();
    assert_eq!((numbers.steps(), numbers.steps_per_epoch), (3 * pictures as u64 / 8, pictures as u64 / 8));
    let out = folder.join(format!("run-{}", trainer.lag));
    let dir = match resume {
        true => RunDir::resume(&out, &recipe, None).unwrap(),
        false => RunDir::create(&out, &recipe, None).unwrap(),
    };
    dir.adopt(&recipe, None).unwrap();
    let quarantine = dir.quarantine_path();
    let source = Source {
        plan: &PLAN,
        recipe: &recipe,
        run: &numbers,
        shards,
        mixing: Mixing::default(),
        quarantine,
        bytes: true,
    };
    let (questions, stopped) = (Cell::new(0), Cell::new(false));
    let asked = || {
        questions.set(questions.get() + 1);
        stopped.get() || signal.is_some_and(|signal| questions.get() > signal)
    };
    let context = RunContext {
        name: "finetune",
        model: PLAN.name,
        multiply_adds: 1,
        run: &numbers,
        dir: &dir,
        device: &Device::Cpu,
        seed: 0,
        recipe_hash: recipe.hash(),
        resume,
        notify: None,
        usage: usage(),
        start: start(),
        asked: &asked,
    };
    let ended = train(&Measured { fate, stopped: &stopped }, trainer, &source, &context);
    if let Ok(record) = &ended {
        assert_eq!(record.stopped.is_some(), record.images < numbers.steps() * 8, "{record:?}");
    }
    let ended = ended.map(|record| record.images);
    let ended = ended.map_err(|error| error.to_string().split(';').next().unwrap().to_owned());
    let (values, updates) = (trainer.values.clone(), trainer.updates);
    Left { metrics: metrics(&out), checkpoints: checkpoints(&out), values, updates, ended }
}

/// The lines of a run's metrics, without what a clock says.
fn metrics(out: &Path) -> Vec<String> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let fields = line.as_object_mut().unwrap();
        for field in ["images_per_second", "waited_seconds", "elapsed_seconds", "loading"] {
            fields.remove(field);
        }
        line.to_string()
    };
    text.lines().map(line).collect()
}

fn checkpoints(out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for checkpoint in fs::read_dir(out.join("checkpoints")).into_iter().flatten() {
        for file in fs::read_dir(checkpoint.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let name = path.strip_prefix(out).unwrap().display().to_string();
            files.push((name, fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

/// Runs with no step in flight and with three: what they leave, and the trainers.
fn both(policy: &str, bad: Option<Sample>) -> [(Left, Late); 2] {
    let folder = tempfile::tempdir().unwrap();
    [0, 3].map(|lag| {
        let mut trainer = Late::new(lag, 2, bad);
        (run(&mut trainer, folder.path(), policy, false), trainer)
    })
}

#[test]
fn late_steps_leave_the_same_run() {
    let [(now, _), (late, trainer)] = both("stop", None);
    assert_eq!(now, late);
    assert_eq!((now.updates, now.ended.clone()), (24, Ok(192)));
    // A record a step and a measurement an epoch; each step's loss is that of the samples submitted for it.
    assert_eq!(now.metrics.len(), 24 + 3);
    let value = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let steps: Vec<_> = now.metrics.iter().map(value).filter(|line| line["kind"] == "train").collect();
    for (number, line) in steps.iter().enumerate() {
        assert_eq!(line["step"], number as u64 + 1);
        let ids: Vec<u64> = trainer.submitted[number].iter().map(|(_, id)| *id).collect();
        assert_eq!(line["loss"], (worth(&ids[..4]) + worth(&ids[4..])) / 2.0, "step {}", number + 1);
    }
}

/// A sample of the eleventh step: between the checkpoints after nine and twelve.
fn bad_sample() -> Sample {
    let [(_, trainer), _] = both("stop", None);
    trainer.submitted[10][5]
}

#[test]
fn a_step_that_is_not_finite_stops_the_run_and_is_named() {
    let [(now, before), (late, behind)] = both("stop", Some(bad_sample()));
    assert_eq!(now.ended, Err("step 10: the loss is NaN".to_owned()));
    assert_eq!((&now.metrics, &now.checkpoints, &now.ended), (&late.metrics, &late.checkpoints, &late.ended));
    // The late one was given steps that nobody will see.
    assert_eq!((before.submitted.len(), behind.submitted.len()), (11 + 1, 12 + 1));
    assert!(now.checkpoints.iter().all(|(name, _)| !name.contains("12")), "{:?}", now.checkpoints);
}

#[test]
fn a_run_that_goes_back_leaves_out_the_same_samples() {
    let bad = bad_sample();
    let [(now, before), (late, _)] = both("rollback", Some(bad));
    assert_eq!(now, late);
    assert_eq!((now.updates, now.ended), (24, Ok(192)));
    // The steps after nine were made again, with the samples after those of the step that was not finite.
    assert_eq!(before.submitted.len(), 24 + 2 + 1);
    assert_eq!(before.submitted.iter().filter(|samples| samples.contains(&bad)).count(), 1);
}

#[test]
fn a_skipped_step_is_recorded_and_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Late::new(0, 2, Some(bad_sample()));
    let left = run(&mut trainer, folder.path(), "skip", false);
    assert_eq!((left.updates, left.ended), (23, Ok(192)));
    assert!(
        left.metrics[11].contains("\"loss\":null") && left.metrics[11].contains("\"step\":11"),
        "{:?}",
        left.metrics
    );
}

/// A run that broke off goes on from its last checkpoint, with a trainer that is late by another number of steps.
#[test]
fn a_run_that_was_cut_goes_on_to_the_same_end() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(&mut Late::new(3, 2, None), folder.path(), "stop", false);
    let folder = tempfile::tempdir().unwrap();
    let stopped = run(&mut Late::new(3, 2, Some(bad_sample())), folder.path(), "stop", false);
    assert!(stopped.ended.is_err() && !stopped.checkpoints.is_empty());
    fs::rename(folder.path().join("run-3"), folder.path().join("run-1")).unwrap();
    let resumed = run(&mut Late::new(1, 2, None), folder.path(), "stop", true);
    assert_eq!(resumed, whole);
}

/// What an uninterrupted run leaves.
fn whole(given: Given<'_>) -> Left {
    run_given(&mut Late::new(3, 2, None), tempfile::tempdir().unwrap().path(), given)
}

/// Whether two runs left the same, but for checkpoints that an interruption added to the first.
fn assert_same(resumed: &Left, whole: &Left) {
    assert_eq!(resumed.metrics, whole.metrics);
    assert_eq!((&resumed.values, resumed.updates), (&whole.values, whole.updates));
    let missing = whole.checkpoints.iter().find(|file| !resumed.checkpoints.contains(file));
    assert!(missing.is_none(), "{:?} is not the same", missing.map(|(name, _)| name));
}

fn has(left: &Left, file: &str) -> bool {
    left.checkpoints.iter().any(|(name, _)| name == &format!("checkpoints/step-0000000000{file}"))
}

/// Nothing is better by ten, so that the run ends after its second measurement, wherever it was interrupted before.
#[test]
fn a_run_that_ends_early_ends_the_same_after_a_signal() {
    let sets = ["stop.patience=1", "stop.min_delta=10", "checkpoint.every_epochs=2"];
    let given = Given { sets: &sets, ..GIVEN };
    let expected = whole(given);
    assert_eq!((expected.ended.clone(), expected.metrics.len()), (Ok(128), 16 + 2));
    assert!(has(&expected, "16/metric.json") && !has(&expected, "18/weights.safetensors"));
    for (lag, signal) in [(0, 1), (3, 7), (0, 9), (3, 10), (3, 15), (0, 17)] {
        let folder = tempfile::tempdir().unwrap();
        let stopped = run_given(&mut Late::new(lag, 2, None), folder.path(), Given { signal: Some(signal), ..given });
        assert!(stopped.ended.is_err(), "{signal}: {stopped:?}");
        let resumed = run_given(&mut Late::new(lag, 2, None), folder.path(), Given { resume: true, ..given });
        assert_eq!(resumed.ended, expected.ended, "{signal}");
        assert_same(&resumed, &expected);
        // With more patience it goes on to its last step.
        let patient = Given { resume: true, sets: &["stop.patience=9"], ..GIVEN };
        assert_eq!(run_given(&mut Late::new(lag, 2, None), folder.path(), patient).ended, Ok(192), "{signal}");
    }
}

#[test]
fn a_signal_at_any_moment_costs_nothing() {
    // In records of two steps each, so that sums are under way.
    let given = Given { pictures: 320, sets: &["checkpoint.every_steps=7", "finetune.warmup_epochs=0"], ..GIVEN };
    let (expected, steps) = (whole(given), 120);
    assert_eq!(expected.metrics.len(), steps / 2 + 3);
    for (lag, signal) in
        [(0, 0), (0, 1), (3, 2), (0, 8), (3, 13), (1, 40), (0, 41), (3, 41), (3, 80), (0, 122), (3, 122)]
    {
        let folder = tempfile::tempdir().unwrap();
        let stopped = run_given(&mut Late::new(lag, 2, None), folder.path(), Given { signal: Some(signal), ..given });
        assert!(stopped.ended.as_ref().unwrap_err().starts_with("stopped by a signal after step"), "{stopped:?}");
        assert_eq!(stopped.checkpoints.is_empty(), signal == 0);
        let resumed = run_given(&mut Late::new(lag, 2, None), folder.path(), Given { resume: true, ..given });
        assert!(resumed.ended.is_ok());
        assert_same(&resumed, &expected);
    }
}

#[test]
fn a_run_that_is_asked_before_its_first_step_says_that_nothing_is_saved() {
    let folder = tempfile::tempdir().unwrap();
    let left = run_given(&mut Late::new(0, 2, None), folder.path(), Given { signal: Some(0), ..GIVEN });
    assert_eq!((left.ended, left.updates), (Err("stopped by a signal after step 0".to_owned()), 0));
    assert!(left.metrics.is_empty() && left.checkpoints.is_empty());
}

/// The checkpoint comes before the measurement, and the measurement is made up for.
#[test]
fn a_signal_during_a_measurement_costs_nothing() {
    for sets in [&[][..], &["checkpoint.every_steps=5", "checkpoint.every_epochs=2", "checkpoint.keep_last=2"]] {
        let given = Given { sets, ..GIVEN };
        let expected = whole(given);
        for step in [8, 16, 24] {
            let folder = tempfile::tempdir().unwrap();
            let fate = |now| if now == step { Fate::Stopped } else { Fate::Done };
            let stopped = run_given(&mut Late::new(3, 2, None), folder.path(), Given { fate: &fate, ..given });
            assert_eq!(stopped.ended, Err(format!("stopped by a signal after step {step}")));
            let name = |file: &str| format!("{step:02}/{file}");
            assert!(has(&stopped, &name("manifest.json")) && !has(&stopped, &name("metric.json")));
            // A second signal, before the measurement is made up for.
            let again = Given { resume: true, signal: Some(0), ..given };
            let again = run_given(&mut Late::new(3, 2, None), folder.path(), again);
            assert_eq!(again.ended, stopped.ended);
            let resumed = run_given(&mut Late::new(3, 2, None), folder.path(), Given { resume: true, ..given });
            if sets.is_empty() {
                assert_eq!(resumed, expected);
            } else {
                assert_same(&resumed, &expected);
            }
        }
    }
}

/// A run that is killed between the lines of a measurement and the checkpoint's metric, and one that was killed after.
#[test]
fn a_measurement_that_was_half_recorded_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let expected = run(&mut Late::new(0, 2, None), folder.path(), "stop", false);
    let out = folder.path().join("run-0");
    for remove in [true, false] {
        if remove {
            fs::remove_file(out.join("checkpoints/step-000000000024/metric.json")).unwrap();
        }
        let resumed = run(&mut Late::new(0, 2, None), folder.path(), "stop", true);
        assert_eq!(resumed, expected);
    }
}

#[test]
fn the_best_is_kept_though_it_is_measured_after_it_is_written() {
    let sets = ["checkpoint.keep_last=1", "checkpoint.keep_best=true", "checkpoint.every_steps=24"];
    let left = whole(Given { sets: &sets, ..GIVEN });
    let value = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let measured: Vec<_> = left.metrics.iter().map(value).filter(|line| line["kind"] == "evaluate").collect();
    let top1 = |line: &serde_json::Value| line["top1"].as_f64().unwrap();
    let best = measured.iter().max_by(|a, b| top1(a).total_cmp(&top1(b))).unwrap();
    let (step, top1) = (best["step"].as_u64().unwrap(), top1(best));
    assert!(step < 24, "the case shows nothing if the newest is the best");
    for step in [8, 16, 24] {
        assert_eq!(has(&left, &format!("{step:02}/manifest.json")), step == 24 || Some(step) == best["step"].as_u64());
    }
    let file = left.checkpoints.iter().find(|(name, _)| name.ends_with(&format!("{step:02}/metric.json"))).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&file.1).unwrap()["metric"], top1);
}

#[test]
fn a_measurement_that_is_not_finite_is_no_metric() {
    let folder = tempfile::tempdir().unwrap();
    let fate = |step| if step == 16 { Fate::NotFinite } else { Fate::Done };
    let left = run_given(&mut Late::new(0, 2, None), folder.path(), Given { fate: &fate, ..GIVEN });
    assert_eq!(left.ended, Ok(192));
    assert!(has(&left, "16/manifest.json") && !has(&left, "16/metric.json") && has(&left, "24/metric.json"));
    assert_eq!(left.metrics.len(), 24 + 2);
}

#[test]
fn a_run_whose_last_measurement_is_not_finite_fails() {
    let folder = tempfile::tempdir().unwrap();
    let fate = |step| if step == 24 { Fate::NotFinite } else { Fate::Done };
    for resume in [false, true] {
        let given = Given { fate: &fate, resume, ..GIVEN };
        let left = run_given(&mut Late::new(0, 2, None), folder.path(), given);
        let why = left.ended.as_ref().unwrap_err();
        assert!(why.contains("the logit of class 0 is NaN") && why.contains("step-000000000024"), "{why}");
        assert!(has(&left, "24/manifest.json") && !has(&left, "24/metric.json"));
    }
}

/// From its eleventh step on, no step is finite.
fn diverging(lag: usize) -> Late {
    Late { diverges: Some(10), ..Late::new(lag, 2, None) }
}

fn events(folder: &Path, lag: usize) -> usize {
    let names = fs::read_dir(folder.join(format!("run-{lag}"))).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("events")).count()
}

#[test]
fn going_back_ends_where_it_leads_nowhere() {
    for lag in [0, 1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = diverging(lag);
        let left = run(&mut trainer, folder.path(), "rollback", false);
        assert_eq!(left.ended, Err("step 10: the loss is NaN".to_owned()));
        assert!(has(&left, "09/manifest.json") && !has(&left, "12/manifest.json"));
        assert_eq!(events(folder.path(), lag), 1);
        // Six times the steps ten and eleven, of which the second is not finite.
        assert_eq!(left.metrics.len(), 9 + 1 + 1);
        if lag == 0 {
            assert_eq!(trainer.submitted.len() - 1, 9 + 2 * 6);
        }
    }
}

#[test]
fn a_signal_between_two_times_of_going_back_is_obeyed() {
    for (lag, signal) in [(0, 14), (1, 14), (3, 15)] {
        let folder = tempfile::tempdir().unwrap();
        let given = Given { policy: "rollback", signal: Some(signal), ..GIVEN };
        let mut trainer = diverging(lag);
        let left = run_given(&mut trainer, folder.path(), given);
        assert!(left.ended.as_ref().unwrap_err().starts_with("stopped by a signal"), "{:?}", left.ended);
        assert!(trainer.submitted.len() <= signal as usize + 1);
    }
}

/// A run that is interrupted after it went back makes the steps of one that was not.
#[test]
fn going_back_and_a_signal_leave_the_same_run() {
    let bad = Some(bad_sample());
    // Not at the step before: going back would find the checkpoint that the signal left.
    for signal in [9, 10, 12, 13, 14, 15, 16] {
        let folder = tempfile::tempdir().unwrap();
        let given = Given { policy: "rollback", ..GIVEN };
        let expected = run_given(&mut Late::new(3, 2, bad), tempfile::tempdir().unwrap().path(), given);
        let late = || Late::new(3, 2, bad);
        run_given(&mut late(), folder.path(), Given { signal: Some(signal), ..given }).ended.unwrap_err();
        let resumed = run_given(&mut late(), folder.path(), Given { resume: true, ..given });
        assert_eq!((&resumed.values, resumed.updates), (&expected.values, expected.updates), "{signal}");
        assert_eq!(resumed.metrics, expected.metrics, "{signal}");
    }
}

#[test]
fn skipping_ends_where_no_step_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let left = run(&mut diverging(0), folder.path(), "skip", false);
    assert_eq!(left.ended, Err("step 17: the loss is NaN, as in each of the last 8 steps".to_owned()));
    // What is left is the weights of the last good step.
    let good =
        run_given(&mut Late::new(0, 2, None), tempfile::tempdir().unwrap().path(), Given { signal: Some(11), ..GIVEN });
    assert_eq!((left.updates, &left.values), (10, &good.values));
    let stopped = run_given(
        &mut diverging(0),
        tempfile::tempdir().unwrap().path(),
        Given { policy: "skip", signal: Some(12), ..GIVEN },
    );
    assert!(stopped.ended.unwrap_err().starts_with("stopped by a signal after step"));
}

#[test]
fn weights_that_are_not_finite_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Late { spoils: Some(5), ..Late::new(0, 2, None) };
    let left = run(&mut trainer, folder.path(), "stop", false);
    let why = left.ended.as_ref().unwrap_err();
    assert!(why.contains("not saved, since `head.linear.weight` is inf at element 0 of the weights"), "{why}");
    assert!(has(&left, "03/manifest.json") && !has(&left, "06/manifest.json"));
}

#[test]
fn the_advice_can_be_followed() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = run(&mut Late::new(0, 2, Some(bad_sample())), folder.path(), "stop", false);
    assert!(stopped.ended.is_err());
    let sets = ["finetune.base_lr=0.25", "optimizer.clip=1.0"];
    let given = Given { policy: "rollback", resume: true, sets: &sets, ..GIVEN };
    let resumed = run_given(&mut Late::new(0, 2, Some(bad_sample())), folder.path(), given);
    assert!(resumed.ended.is_ok(), "{:?}", resumed.ended);
    let changes: Vec<_> = resumed.metrics.iter().filter(|line| line.contains("\"kind\":\"change\"")).collect();
    assert_eq!(changes.len(), 3, "{changes:?}");
    for (change, (key, now)) in changes.iter().zip([
        ("finetune.base_lr", "0.25"),
        ("optimizer.clip", "1.0"),
        ("optimizer.non_finite", "\\\"rollback\\\""),
    ]) {
        let expected = [format!("\"key\":\"{key}\""), format!("\"now\":\"{now}\""), "\"step\":9".to_owned()];
        assert!(expected.iter().all(|part| change.contains(part)), "{change}");
    }
}

#[test]
fn checkpoints_say_how_they_are_to_be_used() {
    let folder = tempfile::tempdir().unwrap();
    run(&mut Late::new(0, 2, None), folder.path(), "stop", false);
    let path = folder.path().join("run-0/checkpoints/step-000000000009/weights.safetensors");
    assert_eq!(checkpoint::read_header(path, checkpoint::Which::default()).unwrap().usage, Some(usage()));
}
