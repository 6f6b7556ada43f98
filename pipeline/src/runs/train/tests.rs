//! The loop with a trainer that makes its steps late: everything that a run leaves behind is the same.

use std::{collections::VecDeque, fs};

use convnext_core::{ops::block::Flavour, optim::Layout};
use convnext_data::{
    PackError,
    pack::{self, Options},
};

use super::*;
use crate::{recipe::Recipe, records::Weights, trainer::Classifier};

/// Pictures of one grey each.
struct Pictures(usize);

impl pack::Source for Pictures {
    fn len(&self) -> usize {
        self.0
    }

    fn label(&self, index: usize) -> Option<u32> {
        Some((index % 2) as u32)
    }

    fn load(&self, index: usize, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        bytes.clear();
        bytes.extend_from_slice(b"P5\n4 4\n255\n");
        bytes.extend([index as u8; 16]);
        Ok(())
    }

    fn origin(&self, index: usize) -> PathBuf {
        PathBuf::from(index.to_string())
    }

    fn class_names(&self) -> Option<&[String]> {
        None
    }
}

const PLAN: Plan = Plan {
    name: "none",
    about: "",
    height: 4,
    width: 4,
    channels: 1,
    stem: 1,
    flavour: Flavour::V2,
    stages: &[],
    classes: 2,
    drop_path: 0.0,
    fcmae: None,
    parameters: 2,
    multiply_adds: 1,
};

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
    /// All samples that were submitted, by step.
    submitted: Vec<Vec<Sample>>,
}

impl Late {
    fn new(lag: usize, accumulation: usize, bad: Option<Sample>) -> Self {
        let layout = Layout::new([("encoder.stem.conv.weight", vec![2])]).unwrap();
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
            submitted: vec![Vec::new()],
        }
    }
}

impl Trainer for Late {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn submit(&mut self, batch: &mut Batch, _: Aim, lr: f64) -> Result<(), RunError> {
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
        if std::mem::take(&mut self.seen) {
            self.made.push_back(Outcome::NonFinite { loss: f64::NAN, what: "the loss is NaN".into() });
            return Ok(());
        }
        self.updates += 1;
        self.values[0] += (loss * lr) as f32;
        self.values[1] = self.values[1] * 0.9 + loss as f32;
        self.made.push_back(Outcome::Updated { loss, norm: loss * lr });
        Ok(())
    }

    fn collect(&mut self, in_flight: usize) -> Result<Option<Outcome>, RunError> {
        Ok(if self.made.len() > in_flight { self.made.pop_front() } else { None })
    }

    fn lag(&self) -> usize {
        self.lag
    }

    fn state(&mut self) -> Result<State<'_>, RunError> {
        assert!(self.made.is_empty(), "the run looks at its weights while steps are in flight");
        let values = || std::borrow::Cow::from(&self.values[..]);
        Ok(State { parameters: values(), m: values(), v: values(), average: None, updates: self.updates })
    }

    fn restore(&mut self, state: State<'static>) -> Result<(), RunError> {
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
        _: &mut dyn FnMut(&mut dyn Classifier) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        unreachable!("nothing is measured")
    }
}

struct Nothing;

impl Task for Nothing {
    fn aim(&self, batch: &Batch) -> Result<Aim, RunError> {
        assert_eq!(batch.bytes.len(), 16 * batch.samples);
        let drop_path_keys = batch.ids.clone().into();
        Ok(Aim::Labelled { targets: Vec::new(), mixing: crate::Mixing::None, drop_path_keys })
    }

    fn evaluate(&self, trainer: &mut dyn Trainer, step: u64, _: u64) -> Result<Vec<EvaluateRecord>, RunError> {
        let values = trainer.state()?.parameters;
        let [top1, top5] = [values[0], values[1]].map(f64::from);
        Ok(vec![EvaluateRecord { step, epoch: 0.0, loss: 0.0, top1, top5, weights: Weights::Model }])
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
    ended: Result<(), String>,
}

/// A run of 24 steps of two batches of four images, eight an epoch; a checkpoint every three steps.
fn run(trainer: &mut Late, folder: &Path, policy: &str, resume: bool) -> Left {
    let shards = folder.join("shards");
    if !shards.exists() {
        let options = Options { name: "train".to_owned(), ..Options::default() };
        pack::pack(&Pictures(64), &shards, &options, &mut |_, _| {}).unwrap();
    }
    let shards = Arc::new(ShardSet::open(&[shards.join("train-000000.tar")]).unwrap());
    let text = format!(
        "[model]\nname = \"none\"\n[finetune]\nstart = \"scratch\"\nepochs = 3\nbatch = 4\naccumulation = 2\n\
         base_lr = 0.5\nwarmup_epochs = 1\n[augment]\npad = 1\n[optimizer]\nnon_finite = \"{policy}\"\n\
         [checkpoint]\nevery_steps = 3\nkeep_last = 100\n[machine]\nworkers = 2\n"
    );
    let recipe = Recipe::parse::<&str>("test", &text, &[]).unwrap().resolve().unwrap();
    let numbers = recipe.run(shards.len(), 1).unwrap();
    assert_eq!((numbers.steps(), numbers.steps_per_epoch), (24, 8));
    let out = folder.join(format!("run-{}", trainer.lag));
    let dir = if resume {
        RunDir::resume(&out, &recipe, None).unwrap()
    } else {
        RunDir::create(&out, &recipe, None).unwrap()
    };
    let quarantine = dir.quarantine_path();
    let source = Source { plan: &PLAN, recipe: &recipe, run: &numbers, shards, quarantine, masked: false, bytes: true };
    let setting = Setting {
        kind: RunKind::Finetune,
        plan: &PLAN,
        run: &numbers,
        dir: &dir,
        device: &Device::Cpu,
        seed: 0,
        recipe_hash: recipe.hash(),
        resume,
    };
    let ended = train(&Nothing, trainer, &source, &setting).map(|_| ());
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
        for field in ["images_per_second", "waited_seconds", "elapsed_seconds"] {
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
    assert_eq!((now.updates, now.ended.clone()), (24, Ok(())));
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
    assert_eq!((now.updates, now.ended), (24, Ok(())));
    // The steps after nine were made again, with the samples after those of the step that was not finite.
    assert_eq!(before.submitted.len(), 24 + 2 + 1);
    assert_eq!(before.submitted.iter().filter(|samples| samples.contains(&bad)).count(), 1);
}

#[test]
fn a_skipped_step_is_recorded_and_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Late::new(0, 2, Some(bad_sample()));
    let left = run(&mut trainer, folder.path(), "skip", false);
    assert_eq!((left.updates, left.ended), (23, Ok(())));
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
