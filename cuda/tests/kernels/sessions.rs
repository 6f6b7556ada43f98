//! Whole runs on the CPU: a trainer's batches, copies, phases and reports, by a device whose streams are as late, as early
//! or as irregular as they may be, against the CPU executor's steps.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
};

use convnext_core::{
    Entry, Variant,
    dfdx::{prelude::Gradients, tensor::Cpu},
    launch::{element::Element, kernels::images::mix, schedule::View},
    optim::{self, AdamW, Ema, LayerDecay, Optimizer, Rule, clip_scale, global_norm},
    visibility::Visibility,
};
use convnext_cuda::{
    detect::usable,
    memory::{self, Placement},
    session::{Backend, Command, Event, REPORTS, Report, SLOTS, Stream},
    trainer::{Batch, BatchImages, BatchTargets, Trainer, TrainerSettings, TrainerState},
    training::{Options, TrainingStep, accumulating_autoencoder, accumulating_classifier},
};

use crate::{
    distance,
    host::Memory,
    operations::{narrow, random, widen},
    steps::Small,
};

const SAMPLES: usize = 2;
const MAX_NORM: f64 = 0.5;
const EMA: Ema = Ema { decay: 0.9, warmup: true };
const UPDATES: usize = 3;

/// When the work on a stream is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// As soon as nothing forbids it.
    Eager,
    /// When somebody waits for it.
    Lazy,
    /// Now and then, by numbers that look random.
    Irregular,
}

/// A device made of the CPU, with two streams of work to do and memory of its own.
struct Host {
    step: TrainingStep,
    memory: Memory,
    placement: Placement,
    staging: [Vec<u8>; SLOTS],
    arrival: [Vec<u8>; SLOTS],
    ring: [[f32; 4]; REPORTS],
    /// Work by stream; what waits or is recorded comes with how often the event had been recorded.
    queues: HashMap<Stream, VecDeque<(Command, u64)>>,
    recorded: HashMap<Event, (u64, Stream)>,
    happened: HashMap<Event, u64>,
    pace: Pace,
    noise: u64,
}

impl Host {
    fn new(step: TrainingStep, pace: Pace) -> Self {
        let memory = Memory::new(&step.schedule);
        let placement = memory::place(&step.schedule);
        let bytes = || vec![0xff; placement.inputs];
        Self {
            staging: [bytes(), bytes()],
            arrival: [bytes(), bytes()],
            ring: [[f32::NAN; 4]; REPORTS],
            queues: HashMap::new(),
            recorded: HashMap::new(),
            happened: HashMap::new(),
            noise: 1,
            step,
            memory,
            placement,
            pace,
        }
    }

    /// Does the first piece of work on a stream; says whether it could.
    fn advance(&mut self, stream: Stream) -> bool {
        let queue = self.queues.entry(stream).or_default();
        let Some(&(command, count)) = queue.front() else { return false };
        if let Command::Wait(_, event) = command
            && self.happened.get(&event).copied().unwrap_or(0) < count
        {
            return false;
        }
        queue.pop_front();
        match command {
            Command::Upload(slot) => self.arrival[slot].copy_from_slice(&self.staging[slot]),
            Command::Take(slot) => self.memory.set_inputs(&self.arrival[slot]),
            Command::Run(phase) => self.memory.run_part(&self.step.schedule, self.step.steps(phase)),
            Command::Report(entry) => {
                let status = narrow(&self.memory.get(&self.step.state.status));
                self.ring[entry].copy_from_slice(&status);
            }
            Command::Record(_, event) => drop(self.happened.insert(event, count)),
            Command::Wait(..) => {}
            Command::Await(_) => unreachable!("the host awaits"),
        }
        true
    }

    /// Works on a stream until an event has happened, and on the other only as far as this one waits for it.
    fn until(&mut self, event: Event, count: u64) {
        while self.happened.get(&event).copied().unwrap_or(0) < count {
            let stream = self.recorded[&event].1;
            if !self.advance(stream) {
                match self.queues[&stream].front() {
                    Some(&(Command::Wait(_, other), count)) => self.until(other, count),
                    blocked => panic!("{event:?} never happens: {blocked:?}"),
                }
            }
        }
    }

    /// Does everything that is to be done.
    fn finish(&mut self) {
        while self.advance(Stream::Copy) || self.advance(Stream::Compute) {}
        assert!(self.queues.values().all(VecDeque::is_empty), "streams that wait for each other");
    }

    fn work(&mut self) {
        match self.pace {
            Pace::Eager => self.finish(),
            Pace::Lazy => {}
            Pace::Irregular => loop {
                self.noise = self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let stream = match self.noise >> 61 {
                    0 | 1 => Stream::Copy,
                    2 => Stream::Compute,
                    _ => return,
                };
                self.advance(stream);
            },
        }
    }
}

impl Backend for Host {
    type Error = Infallible;

    fn placement(&self) -> &Placement {
        &self.placement
    }

    fn execute(&mut self, command: Command) -> Result<(), Infallible> {
        let stream = match command {
            Command::Await(event) => {
                self.until(event, self.recorded.get(&event).map_or(0, |recorded| recorded.0));
                return Ok(());
            }
            Command::Upload(_) => Stream::Copy,
            Command::Take(_) | Command::Run(_) | Command::Report(_) => Stream::Compute,
            Command::Record(stream, _) | Command::Wait(stream, _) => stream,
        };
        let count = match command {
            Command::Record(stream, event) => {
                let recorded = self.recorded.entry(event).or_insert((0, stream));
                recorded.0 += 1;
                recorded.0
            }
            Command::Wait(_, event) => self.recorded.get(&event).map_or(0, |recorded| recorded.0),
            _ => 0,
        };
        self.queues.entry(stream).or_default().push_back((command, count));
        self.work();
        Ok(())
    }

    fn staging(&mut self, slot: usize) -> &mut [u8] {
        &mut self.staging[slot]
    }

    fn report(&mut self, entry: usize) -> [f32; 4] {
        self.ring[entry]
    }

    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Infallible> {
        self.finish();
        self.memory.set_bytes(view, bytes);
        Ok(())
    }

    fn read(&mut self, view: &View) -> Result<Vec<u8>, Infallible> {
        self.finish();
        Ok(self.memory.get_bytes(view).to_vec())
    }
}

/// A job and its batches, each with its own images and masks or targets.
struct Job {
    entry: Entry,
    masked: bool,
    accumulation: usize,
    /// A number that is put into the first pixel of a batch.
    spoilt: Option<(usize, f32)>,
}

/// What a batch holds.
struct Data {
    images: Vec<f32>,
    visible: Visibility,
    targets: Vec<f32>,
    keys: Arc<[u64]>,
}

impl Job {
    fn new(masked: bool, accumulation: usize) -> Self {
        Self { entry: Small::entry(), masked, accumulation, spoilt: None }
    }

    fn data(&self, number: usize) -> Data {
        let plan = self.entry.plan;
        let seed = 100 + 10 * number as u64;
        let mut images = narrow(&random(seed, SAMPLES * plan.height * plan.width * plan.channels));
        if let Some((_, value)) = self.spoilt.filter(|(batch, _)| *batch == number) {
            images[0] = value;
        }
        // Three of six patches, others in every batch.
        let mask: Vec<u8> = (0..SAMPLES)
            .flat_map(|sample| (0..6).map(move |patch| u8::from((patch + sample + number) % 6 < 3)))
            .collect();
        let visible = Visibility::from_mask(&mask, 2, 3, 3).unwrap();
        let targets = random(seed + 1, SAMPLES * plan.classes).into_iter().map(|value| value.abs() as f32).collect();
        let keys = (0..SAMPLES as u64).map(|sample| (seed + 2) * 7919 + sample * 104_729).collect();
        Data { images, visible, targets, keys }
    }

    fn lr(update: usize) -> f64 {
        1e-2 / (1.0 + update as f64)
    }

    fn rules(&self, layout: &optim::Layout) -> Vec<Rule> {
        optim::rules(layout, &self.entry.plan, Some(LayerDecay::single(0.8))).unwrap()
    }

    /// The state that a run starts from, with the model's layout.
    fn start(&self) -> (optim::Layout, TrainerState) {
        let device = Cpu::default();
        let layout = match self.masked {
            true => self.entry.autoencoder(&device).unwrap().unwrap().layout(),
            false => self.entry.classifier(&device).unwrap().layout(),
        };
        let parameters: Vec<f32> =
            narrow(&random(11, layout.len()).into_iter().map(|value| 0.4 * value).collect::<Vec<_>>());
        let zeros = vec![0.0; layout.len()];
        let average = Some(parameters.clone());
        (layout, TrainerState { parameters, m: zeros.clone(), v: zeros, average, updates: 0 })
    }

    /// The run on the CPU, a step after the other; also its losses, and which updates were made.
    fn on_cpu(&self) -> (TrainerState, Vec<(f64, bool)>) {
        let (layout, start) = self.start();
        let device = Cpu::default();
        let mut parameters = start.parameters;
        let mut optimizer = Optimizer::new(AdamW::default(), self.rules(&layout), Some(EMA), &parameters);
        let mut losses = Vec::new();
        let mut flat = vec![0.0; layout.len()];
        for update in 0..UPDATES {
            let (mut sum, mut gradients) = (0.0, Gradients::leaky());
            for number in update * self.accumulation..(update + 1) * self.accumulation {
                let Data { images, visible, targets, keys } = self.data(number);
                let loss;
                if self.masked {
                    let mut model = self.entry.autoencoder(&device).unwrap().unwrap();
                    model.write(&parameters);
                    (loss, gradients) = model.step(&device, &images, &Arc::new(visible), gradients).unwrap();
                    self.take(&*model, &mut gradients, &mut flat, number);
                } else {
                    let mut model = self.entry.classifier(&device).unwrap();
                    model.set_drop_path(DROP_PATH);
                    model.set_drop_path_keys(&keys);
                    model.write(&parameters);
                    (loss, gradients) = model.step(&device, &images, targets, SAMPLES, gradients).unwrap();
                    self.take(&*model, &mut gradients, &mut flat, number);
                }
                sum += f64::from(loss);
            }
            let (loss, mean) = (sum / self.accumulation as f64, 1.0 / self.accumulation as f32);
            let norm = global_norm(&[&flat]) * f64::from(mean);
            let finite = norm.is_finite() && loss.is_finite();
            if finite {
                let lr = Self::lr(update);
                optimizer.step(&mut parameters, &flat, lr, mean * clip_scale(norm, MAX_NORM));
            }
            losses.push((loss, finite));
        }
        let state = TrainerState {
            parameters,
            m: optimizer.m().to_vec(),
            v: optimizer.v().to_vec(),
            average: optimizer.ema().map(<[f32]>::to_vec),
            updates: optimizer.updates(),
        };
        (state, losses)
    }

    /// Adds a batch's gradients to those of the batches before it in the same step. Models are built anew for every batch,
    /// so that gradients do not go on by themselves.
    fn take(
        &self,
        model: &dyn convnext_core::nn::Flat,
        gradients: &mut Gradients<f32, Cpu>,
        flat: &mut [f32],
        number: usize,
    ) {
        let batch = model.take_gradients(gradients).unwrap().concat();
        if number.is_multiple_of(self.accumulation) {
            flat.fill(0.0);
        }
        flat.iter_mut().zip(batch).for_each(|(sum, value)| *sum += value);
    }

    fn trainer(&self, pace: Pace) -> Trainer<Host> {
        let (layout, start) = self.start();
        let (step, settings) = self.design(&layout);
        Trainer::new(Host::new(step.clone(), pace), step, layout, settings, &start).unwrap()
    }

    /// The step, and how it trains.
    fn design(&self, layout: &optim::Layout) -> (TrainingStep, TrainerSettings) {
        let options = Options {
            samples: SAMPLES,
            real: Element::F32,
            max_norm: MAX_NORM as f32,
            ema: true,
            drop_path: !self.masked,
            bytes: false,
        };
        let plan = self.entry.plan;
        let step = match self.masked {
            true => accumulating_autoencoder(&plan, &options, self.accumulation),
            false => accumulating_classifier(&plan, &options, self.accumulation),
        };
        let settings = TrainerSettings {
            adamw: AdamW::default(),
            rules: self.rules(layout),
            ema: Some(EMA),
            accumulation: self.accumulation,
            drop_path: DROP_PATH,
            table: Vec::new(),
        };
        (step.unwrap(), settings)
    }

    fn submit<B: Backend>(&self, trainer: &mut Trainer<B>, number: usize) {
        let Data { images, visible, targets, keys } = self.data(number);
        let targets = match self.masked {
            true => BatchTargets::Masked(&visible),
            false => BatchTargets::Labelled { targets: &targets, drop_path_keys: &keys },
        };
        let batch = Batch { images: BatchImages::Values(&images), targets };
        trainer.submit(&batch, Self::lr(number / self.accumulation)).unwrap();
    }

    /// The run through a trainer; reports are asked for when more than `lag` are under way.
    fn run<B: Backend>(&self, mut trainer: Trainer<B>, lag: usize) -> (TrainerState, Vec<Report>) {
        let mut reports = Vec::new();
        for number in 0..UPDATES * self.accumulation {
            self.submit(&mut trainer, number);
            reports.extend(collect(&mut trainer, lag));
        }
        reports.extend(collect(&mut trainer, 0));
        (trainer.state().unwrap(), reports)
    }

    /// A run that is as early as may be must give the CPU executor's numbers, and runs at other paces the same bits.
    fn check(&self, others: &[(Pace, usize)]) {
        let run = self.run(self.trainer(Pace::Eager), 0);
        self.compare(&run, 1e-5);
        for &(pace, lag) in others {
            assert!(self.run(self.trainer(pace), lag) == run, "{pace:?}, lag {lag}: other bits");
        }
    }

    /// A run must give the CPU executor's numbers.
    fn compare(&self, (state, reports): &(TrainerState, Vec<Report>), tolerance: f64) {
        let (expected, losses) = self.on_cpu();
        for (report, (loss, finite)) in reports.iter().zip(&losses) {
            assert_eq!(report.finite, *finite, "update {}", report.update);
            if *finite {
                assert!((f64::from(report.loss) - loss).abs() <= tolerance * loss, "{} is not {loss}", report.loss);
            }
        }
        assert_eq!(reports.len(), losses.len());
        close(tolerance, "parameters", &state.parameters, &expected.parameters);
        close(tolerance, "first moments", &state.m, &expected.m);
        close(tolerance, "second moments", &state.v, &expected.v);
        close(tolerance, "average", state.average.as_ref().unwrap(), &expected.average.unwrap());
        assert_eq!(state.updates, expected.updates);
    }
}

const DROP_PATH: f32 = 0.5;

fn collect<B: Backend>(trainer: &mut Trainer<B>, lag: usize) -> Vec<Report> {
    std::iter::from_fn(|| trainer.collect(lag).unwrap()).collect()
}

fn close(tolerance: f64, what: &str, found: &[f32], expected: &[f32]) {
    let error = distance(&widen(found), &widen(expected), &[]);
    assert!(error <= tolerance, "{what} is wrong by {error:.1e} of its norm");
}

/// A run on a device: the first step is run, the second captured, the third replayed. On a machine that has one:
/// `cargo test --release -p convnext-core --test cuda -- --ignored`.
#[test]
#[ignore = "needs a GPU"]
fn a_run_on_a_device_equals_the_cpu_s() {
    let device = usable().unwrap();
    for job in [Job::new(true, 1), Job::new(false, 1), Job::new(false, 2)] {
        for lag in [0, 2] {
            let (layout, start) = job.start();
            let (step, settings) = job.design(&layout);
            let trainer = Trainer::on_device(&device, step, layout, settings, &start, false).unwrap();
            job.compare(&job.run(trainer, lag), 1e-4);
        }
    }
}

/// Runs whose device is the CPU wherever the tests run: what needs a C++ compiler even on a machine with a GPU.
mod on_the_host {
    use super::*;

    #[test]
    fn a_pretraining_run_equals_the_cpu_s_at_every_pace() {
        Job::new(true, 1).check(&[(Pace::Lazy, 2), (Pace::Irregular, 1)]);
    }

    #[test]
    fn accumulated_batches_make_the_cpu_s_steps() {
        Job::new(true, 2).check(&[]);
        Job::new(false, 3).check(&[(Pace::Irregular, 2)]);
    }

    /// The second of three updates is not made, and the third is the second that counts.
    #[test]
    fn an_update_that_is_not_finite_is_left_out() {
        Job { spoilt: Some((1, f32::INFINITY)), ..Job::new(false, 1) }.check(&[]);
    }

    /// The mean of two batches' gradients is the gradient of both as one batch: one step of each is the same.
    #[test]
    fn two_batches_of_one_step_equal_one_batch_of_both() {
        let two = Job::new(true, 2);
        let (mut apart, entry) = (two.trainer(Pace::Eager), Small::entry());
        two.submit(&mut apart, 0);
        two.submit(&mut apart, 1);
        let [a, b] = [two.data(0), two.data(1)];
        let plan = entry.plan;
        let options = Options {
            samples: 2 * SAMPLES,
            real: Element::F32,
            max_norm: 0.5,
            ema: true,
            drop_path: false,
            bytes: false,
        };
        let step = accumulating_autoencoder(&plan, &options, 1).unwrap();
        let (layout, start) = two.start();
        let settings = TrainerSettings {
            adamw: AdamW::default(),
            rules: two.rules(&layout),
            ema: Some(EMA),
            accumulation: 1,
            drop_path: 0.0,
            table: Vec::new(),
        };
        let Ok(mut together) = Trainer::new(Host::new(step.clone(), Pace::Eager), step, layout, settings, &start);
        let mask = |data: &Data| -> Vec<u8> {
            let removed = |sample: usize, patch: usize| data.visible.slot(sample, patch / 3, patch % 3).is_none();
            (0..SAMPLES).flat_map(|sample| (0..6).map(move |patch| u8::from(removed(sample, patch)))).collect()
        };
        let visible = Visibility::from_mask(&[mask(&a), mask(&b)].concat(), 2, 3, 3).unwrap();
        let images = [&a.images[..], &b.images].concat();
        let batch = Batch { images: BatchImages::Values(&images), targets: BatchTargets::Masked(&visible) };
        let Ok(()) = together.submit(&batch, Job::lr(0));
        let (Ok(apart), Ok(together)) = (apart.state(), together.state());
        close(1e-5, "parameters", &apart.parameters, &together.parameters);
        close(1e-5, "first moments", &apart.m, &together.m);
    }

    /// A state that was read, and put into a new trainer, goes on to the same bits.
    #[test]
    fn a_restored_run_goes_on_to_the_same_bits() {
        let job = Job::new(false, 1);
        let (whole, _) = job.run(job.trainer(Pace::Eager), 0);
        let mut first = job.trainer(Pace::Irregular);
        job.submit(&mut first, 0);
        let Ok(state) = first.state();
        // What is under way when a state is put back is forgotten.
        job.submit(&mut first, 2);
        let Ok(()) = first.restore(&state);
        let mut second = job.trainer(Pace::Eager);
        let Ok(()) = second.restore(&state);
        for mut trainer in [first, second] {
            for number in 1..UPDATES {
                job.submit(&mut trainer, number);
            }
            let Ok(state) = trainer.state();
            assert!(state == whole);
        }
    }

    /// Bytes become what the CPU's table makes of them; mirrored by the step as well.
    #[test]
    fn bytes_are_the_images_that_they_stand_for() {
        let (entry, job) = (Small::entry(), Job::new(true, 1));
        let plan = entry.plan;
        let pixels: Vec<u8> =
            (0..SAMPLES * plan.height * plan.width * plan.channels).map(|at| (at * 89 % 251) as u8).collect();
        let table: Vec<f32> =
            (0..plan.channels * 256).map(|at| (at % 256) as f32 / 100.0 - at as f32 / 700.0).collect();
        let (line, channels) = (plan.width * plan.channels, plan.channels);
        let values: Vec<f32> = (0..pixels.len())
            .map(|at| {
                let (row, x, channel) = (at / line, at % line / channels, at % channels);
                let mirrored = at >= pixels.len() / SAMPLES;
                let x = if mirrored { plan.width - 1 - x } else { x };
                table[channel * 256 + usize::from(pixels[row * line + x * channels + channel])]
            })
            .collect();
        let (layout, start) = job.start();
        let run = |bytes: bool, images: BatchImages<'_>| {
            let options =
                Options { samples: SAMPLES, real: Element::F32, max_norm: 0.0, ema: true, drop_path: false, bytes };
            let step = accumulating_autoencoder(&plan, &options, 1).unwrap();
            let settings = TrainerSettings {
                adamw: AdamW::default(),
                rules: job.rules(&layout),
                ema: Some(EMA),
                accumulation: 1,
                drop_path: 0.0,
                table: table.clone(),
            };
            let host = Host::new(step.clone(), Pace::Lazy);
            let Ok(mut trainer) = Trainer::new(host, step, layout.clone(), settings, &start);
            let visible = job.data(0).visible;
            let Ok(()) = trainer.submit(&Batch { images, targets: BatchTargets::Masked(&visible) }, 1e-2);
            let Ok(state) = trainer.state();
            state
        };
        let from_bytes = run(true, BatchImages::Bytes { pixels: &pixels, flips: &[0, 1], mix: mix(1.0, [0; 4]) });
        assert!(from_bytes == run(false, BatchImages::Values(&values)));
        assert!(from_bytes.parameters != start.parameters);
    }
}
