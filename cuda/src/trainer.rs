//! A training run on a device: a model's parameters and the optimiser's state there, and what each batch brings.

use std::sync::Arc;

use bytemuck::cast_slice;
use convnext_core::{
    launch::{geometry::TableValues, schedule::View},
    nn::DropPath,
    optim::{AdamW, Ema, Layout, Rule, cuda::coefficient_values},
    plan,
    visibility::Visibility,
};
use half::bf16;

use crate::{
    cache::Cache,
    detect::Device,
    error::ExecuteError,
    executor::Executor,
    memory::Placement,
    session::{Backend, Report, SLOTS, Session},
    streams::Streams,
    training::{ParameterLayout, TrainingStep},
};

/// How a run trains.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerSettings {
    /// The optimiser.
    pub adamw: AdamW,
    /// What it does to each tensor, in the model's layout.
    pub rules: Vec<Rule>,
    /// The moving average of the parameters; there is one if the step was built with one.
    pub ema: Option<Ema>,
    /// Batches whose gradients make one step: what the step was built for.
    pub accumulation: usize,
    /// Drop-path rate of the last block; those before it rise linearly from 0.
    pub drop_path: f32,
    /// What each byte of a channel becomes, `[C, 256]`, for a step that takes bytes.
    pub table: Vec<f32>,
}

/// What a batch brings.
#[derive(Debug)]
pub struct Batch<'a> {
    /// `[N, H, W, C]`.
    pub images: BatchImages<'a>,
    /// What is learnt from them.
    pub targets: BatchTargets<'a>,
}

/// The images of a batch.
#[derive(Debug, Clone, Copy)]
pub enum BatchImages<'a> {
    /// As the model reads them.
    Values(&'a [f32]),
    /// As they arrive; the step normalises, mirrors and mixes them.
    Bytes {
        /// The pixels.
        pixels: &'a [u8],
        /// `[N]`: 1 mirrors a sample left to right.
        flips: &'a [u8],
        /// What [`mix`](convnext_core::launch::kernels::images::mix) returns.
        mix: [f32; 5],
    },
}

/// What is learnt from the images of a batch.
#[derive(Debug)]
pub enum BatchTargets<'a> {
    /// To fill in the patches that a mask removes.
    Masked(&'a Visibility),
    /// To tell classes apart.
    Labelled {
        /// `[N, CLASSES]`.
        targets: &'a [f32],
        /// One random key a sample, which its drop paths follow from.
        drop_path_keys: &'a Arc<[u64]>,
    },
}

/// Parameters and the optimiser's state, in the model's layout.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerState {
    /// The parameters.
    pub parameters: Vec<f32>,
    /// First moments.
    pub m: Vec<f32>,
    /// Second moments.
    pub v: Vec<f32>,
    /// The moving average, if one is kept.
    pub average: Option<Vec<f32>>,
    /// Updates made.
    pub updates: u64,
}

/// A training run on a device.
pub struct Trainer<B = Streams> {
    session: Session<B>,
    step: TrainingStep,
    placement: Placement,
    layout: Layout,
    settings: TrainerSettings,
    /// The rules in the device's layout.
    rules: Vec<Rule>,
    drop_paths: Vec<(View, DropPath)>,
    /// Updates made, if all that are under way go through.
    updates: u64,
}

impl Trainer<Streams> {
    /// Compiles and loads the step on `device`, with `state` to start from.
    ///
    /// `tf32` allows f32 products to round their factors to 10 bits of mantissa.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub fn on_device(
        device: &Device,
        step: TrainingStep,
        layout: Layout,
        settings: TrainerSettings,
        state: &TrainerState,
        tf32: bool,
    ) -> Result<Self, ExecuteError> {
        let cache = Cache::of_user();
        let executor = Executor::with_slots(device, &step.schedule, cache.as_ref(), tf32, SLOTS)?;
        let streams = Streams::new(executor, step.clone())?;
        Self::new(streams, step, layout, settings, state)
    }
}

impl<B: Backend> Trainer<B> {
    /// A run of `step` on a device, with `state` to start from; `layout` is the model's.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Panics
    /// If `layout`, `settings` or `state` are those of another model than the step's.
    pub fn new(
        mut backend: B,
        step: TrainingStep,
        layout: Layout,
        settings: TrainerSettings,
        state: &TrainerState,
    ) -> Result<Self, B::Error> {
        assert_eq!(settings.ema.is_some(), step.state.average.is_some(), "a moving average on one side only");
        backend.write(&step.state.ends, cast_slice(&step.layout.ends()))?;
        if let Some(bytes) = &step.bytes {
            backend.write(&bytes.table, cast_slice(&settings.table))?;
        }
        let rules = step.layout.rules(&layout, &settings.rules);
        let drop_paths = drop_paths(&step, settings.drop_path);
        let (placement, accumulation) = (backend.placement().clone(), settings.accumulation);
        let session = Session::new(backend, accumulation);
        let mut trainer = Self { session, step, placement, layout, settings, rules, drop_paths, updates: 0 };
        trainer.restore(state)?;
        Ok(trainer)
    }

    /// Puts a batch on its way, and if it is the last of its step the update behind it, at the schedule's rate `lr`.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Panics
    /// If the batch is of another size or kind than the step was built for.
    pub fn submit(&mut self, batch: &Batch<'_>, lr: f64) -> Result<(), B::Error> {
        let Self { session, step, placement, settings, rules, drop_paths, updates, .. } = self;
        let update = *updates + 1;
        let before = session.in_flight();
        session.submit(|staging| {
            let mut inbox = Inbox { staging, placement };
            inbox.images(step, &batch.images);
            inbox.targets(step, drop_paths, &batch.targets);
            let coefficients: Vec<_> = rules.iter().map(|rule| settings.adamw.coefficients(rule, lr, update)).collect();
            inbox.put(&step.state.coefficients, cast_slice(&coefficient_values(&coefficients)));
            inbox.put(&step.state.ema_rate, cast_slice(&[settings.ema.map_or(0.0, |ema| ema.rate(update))]));
        })?;
        if session.in_flight() > before {
            *updates += 1;
        }
        Ok(())
    }

    /// The oldest report that has not been asked for, if more than `in_flight` updates have none; waits for it.
    ///
    /// An update that was not made does not count for those that are submitted after this. With more than one in flight
    /// those behind it were submitted before: then [`Trainer::restore`] a state, or take none at a time.
    ///
    /// # Errors
    /// What the device says.
    pub fn collect(&mut self, in_flight: usize) -> Result<Option<Report>, B::Error> {
        let report = self.session.collect(in_flight)?;
        if report.is_some_and(|report| !report.finite) {
            self.updates -= 1;
        }
        Ok(report)
    }

    /// Parameters and the optimiser's state, when everything before has finished.
    ///
    /// # Errors
    /// What the device says.
    pub fn state(&mut self) -> Result<TrainerState, B::Error> {
        let state = self.step.state;
        Ok(TrainerState {
            parameters: self.parameters()?,
            m: self.read(&state.m)?,
            v: self.read(&state.v)?,
            average: self.average()?,
            updates: self.updates,
        })
    }

    /// The parameters alone.
    ///
    /// # Errors
    /// What the device says.
    pub fn parameters(&mut self) -> Result<Vec<f32>, B::Error> {
        let parameters = self.step.state.parameters;
        self.read(&parameters)
    }

    /// Their moving average alone, if one is kept.
    ///
    /// # Errors
    /// What the device says.
    pub fn average(&mut self) -> Result<Option<Vec<f32>>, B::Error> {
        self.step.state.average.map(|average| self.read(&average)).transpose()
    }

    /// Puts a state back, and forgets what is under way.
    ///
    /// # Errors
    /// What the device says.
    ///
    /// # Panics
    /// If the state is that of another model.
    pub fn restore(&mut self, state: &TrainerState) -> Result<(), B::Error> {
        while self.session.collect(0)?.is_some() {}
        let optim = self.step.state;
        let parameters = self.step.layout.spread(&self.layout, &state.parameters);
        let backend = self.session.backend_mut();
        backend.write(&optim.parameters, cast_slice(&parameters))?;
        if let Some(mirror) = optim.mirror {
            backend.write(&mirror, &narrowed(&parameters))?;
        }
        let averages = optim.average.iter().zip(&state.average);
        for (view, values) in [(&optim.m, &state.m), (&optim.v, &state.v)].into_iter().chain(averages) {
            backend.write(view, cast_slice(&self.step.layout.spread(&self.layout, values)))?;
        }
        self.updates = state.updates;
        Ok(())
    }

    /// Which range of a flat buffer is which tensor.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn read(&mut self, view: &View) -> Result<Vec<f32>, B::Error> {
        let bytes = self.session.backend_mut().read(view)?;
        Ok(join(&self.step.layout, &self.layout, &bytes))
    }
}

/// The drop paths of the blocks that have a buffer for their scales.
fn drop_paths(step: &TrainingStep, rate: f32) -> Vec<(View, DropPath)> {
    let blocks = step.drop_paths.len();
    let configured = |(block, view): (usize, &Option<View>)| {
        let mut drop_path = DropPath::default();
        drop_path.configure(plan::drop_path(rate, block, blocks), block);
        view.map(|view| (view, drop_path))
    };
    step.drop_paths.iter().enumerate().filter_map(configured).collect()
}

/// A batch's place in staging memory.
struct Inbox<'a> {
    staging: &'a mut [u8],
    placement: &'a Placement,
}

impl Inbox<'_> {
    fn put(&mut self, view: &View, bytes: &[u8]) {
        self.staging[self.placement.range(view)].copy_from_slice(bytes);
    }

    fn images(&mut self, step: &TrainingStep, images: &BatchImages<'_>) {
        match (*images, &step.bytes) {
            (BatchImages::Values(values), None) => self.put(&step.images, cast_slice(values)),
            (BatchImages::Bytes { pixels, flips, mix }, Some(to)) => {
                self.put(&to.bytes, pixels);
                self.put(&to.flips, flips);
                self.put(&to.mix, cast_slice(&mix));
            }
            _ => panic!("images of another type than the step was built for"),
        }
    }

    fn targets(&mut self, step: &TrainingStep, drop_paths: &mut [(View, DropPath)], targets: &BatchTargets<'_>) {
        match (targets, step.tables, step.targets) {
            (BatchTargets::Masked(visible), Some(tables), None) => {
                let TableValues { visible, slots, removed } = TableValues::from(*visible);
                self.put(&tables.visible, cast_slice(&visible));
                self.put(&tables.slots, cast_slice(&slots));
                self.put(&tables.removed, cast_slice(&removed));
            }
            (BatchTargets::Labelled { targets, drop_path_keys }, None, Some(to)) => {
                self.put(&to, cast_slice(targets));
                for (view, drop_path) in drop_paths {
                    drop_path.set_keys(Some((*drop_path_keys).clone()));
                    // A rate of 0 drops nothing; its key is never drawn from.
                    let scales = drop_path.scales(view.length, || 0).unwrap_or_else(|| vec![1.0; view.length]);
                    self.put(view, cast_slice(&scales));
                }
            }
            _ => panic!("a batch of another kind than the step was built for"),
        }
    }
}

/// Values in bf16, rounded to nearest, as the device has them in memory.
pub(super) fn narrowed(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect()
}

/// A flat buffer of the device, as the model has it.
fn join(here: &ParameterLayout, layout: &Layout, bytes: &[u8]) -> Vec<f32> {
    let (values, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    here.join(layout, &values)
}
