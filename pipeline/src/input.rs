//! From a recipe and a plan to the streams of a run.

use std::{path::PathBuf, sync::Arc};

use convnext_core::plan::Plan;
use convnext_data::{
    Access, Augment as Step, AugmentError, Chain, Channels, Decoder, Geometry, Mixing, Normalise as Table, Order,
    ShardSet, TargetKind,
    augment::{CentreCrop, Pad},
};
use convnext_weights::checkpoint::Usage;
pub use convnext_weights::checkpoint::View;

use crate::{
    settings::{Augment, BadPolicy, Data, Io},
    stream::{
        self, Augmented, Bounds, Decode, Delivery, Form, Normalise, Policy, Read, Replaced, Stage, Stream, StreamError,
    },
};

/// Why a stream cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Images cannot be decoded to the model's channels.
    #[error("`{model}` takes images of {channels} channels, and no image decodes to those")]
    Channels {
        /// The variant.
        model: &'static str,
        /// Its channels.
        channels: usize,
    },
    /// Mean or deviation do not fit the channels.
    #[error("recipe: {0}")]
    Normalisation(String),
    /// An augmentation refuses its settings or its input.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// The pipeline does not fit together, or cannot start.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// More memory than the machine has.
    #[error(
        "batches of {batch} need {:.1} GB for their images alone, and this machine has {:.1} GB; use smaller ones",
        *needed as f64 / 1e9, *memory as f64 / 1e9
    )]
    Memory {
        /// Samples of a batch.
        batch: usize,
        /// Bytes of the batches in flight.
        needed: u64,
        /// Bytes that there are.
        memory: u64,
    },
}

impl From<stream::Mismatch> for InputError {
    fn from(mismatch: stream::Mismatch) -> Self {
        Self::Stream(mismatch.into())
    }
}

/// What a sample goes through, but for its order.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The model that will see it.
    pub plan: &'a Plan,
    /// How pixels are normalised, and the policy for bad samples.
    pub data: &'a Data,
    /// Worker threads; 0 for as many as there are cores.
    pub workers: usize,
}

/// What a task does to samples, beside decoding, augmentation and normalisation.
#[derive(Debug, Default)]
pub struct Samples {
    /// The target that is read with an image; a sample without one is an error.
    pub target: TargetKind,
    /// What it does to an image together with its target, behind augmentation.
    pub steps: Vec<Box<dyn Step>>,
    /// Stages at the end, such as one that draws masks.
    pub stages: Vec<Box<dyn Stage>>,
}

/// Where a training stream starts and ends, in positions.
#[derive(Debug, Clone)]
pub struct Span {
    /// Samples of a batch.
    pub batch: usize,
    /// Positions of an epoch.
    pub epoch: u64,
    /// Samples already consumed.
    pub start: u64,
    /// Where to end.
    pub end: u64,
    /// Seed of every random decision.
    pub seed: u64,
    /// Blocks of the order.
    pub mixing: Mixing,
    /// Where bad samples are listed.
    pub quarantine: PathBuf,
    /// What was replaced before `start`.
    pub replaced: Replaced,
    /// Whether batches hold bytes, for a device that normalises them, and mirrors them if that comes last.
    pub bytes: bool,
}

impl Input<'_> {
    /// Shuffled, augmented batches of a task's samples.
    pub fn training(
        &self,
        shards: Arc<ShardSet>,
        augment: &Augment,
        samples: Samples,
        span: Span,
    ) -> Result<Stream, InputError> {
        let stages = self.training_stages(augment, samples, span.bytes)?;
        let order = Order::new(shards.len(), span.seed, span.mixing.block, span.mixing.window);
        let delivery = Delivery {
            batch: span.batch,
            epoch: span.epoch,
            start: span.start,
            end: span.end,
            seed: span.seed,
            workers: self.workers(),
            policy: self.policy(span.quarantine),
            replaced: span.replaced,
        };
        Ok(Stream::start(shards, order, stages.into(), delivery)?)
    }

    /// Whether [`training`](Self::training) would find anything wrong with its settings: asked before anything is written.
    ///
    /// # Errors
    /// [`InputError`], as there.
    pub fn check_training(
        &self,
        augment: &Augment,
        samples: Samples,
        bytes: bool,
        batch: usize,
    ) -> Result<(), InputError> {
        let form = stream::check(&self.training_stages(augment, samples, bytes)?)?;
        self.check_memory(form, batch)
    }

    /// Whether [`evaluation`](Self::evaluation) would find anything wrong with its settings.
    ///
    /// # Errors
    /// [`InputError`], as there.
    pub fn check_evaluation(&self, batch: usize, view: View, samples: Samples) -> Result<(), InputError> {
        let form = stream::check(&self.stages(vec![self.evaluation_step(view)], samples, false)?)?;
        self.check_memory(form, batch)
    }

    fn check_memory(&self, form: Form, batch: usize) -> Result<(), InputError> {
        let needed = stream::most_bytes(form, batch, self.workers()) as u64;
        match memory() {
            Some(memory) if needed > memory => Err(InputError::Memory { batch, needed, memory }),
            _ => Ok(()),
        }
    }

    /// All samples once, in the order of the shards, as evaluation sees them.
    pub fn evaluation(
        &self,
        shards: Arc<ShardSet>,
        batch: usize,
        view: View,
        samples: Samples,
    ) -> Result<Stream, InputError> {
        let stages = self.stages(vec![self.evaluation_step(view)], samples, false)?;
        let (order, len) = (Order::sequential(shards.len()), shards.len());
        let (workers, policy, replaced) = (self.workers(), Policy::Fail, Replaced::default());
        let delivery = Delivery { batch, epoch: len, start: 0, end: len, seed: 0, workers, policy, replaced };
        Ok(Stream::start(shards, order, stages.into(), delivery)?)
    }

    /// The chain that makes an image what evaluation sees.
    pub fn evaluation_chain(&self, view: View) -> Result<Chain, InputError> {
        Ok(Chain::new(vec![self.evaluation_step(view)], Geometry::decoded(self.plan.channels))?)
    }

    /// The table that normalises pixels.
    pub fn table(&self) -> Result<Table, InputError> {
        let (mean, deviation) = self.data.normalisation(self.plan.channels).map_err(InputError::Normalisation)?;
        Ok(Table::new(&mean, &deviation)?)
    }

    /// A decoder to the model's channels, with the limit on pixels.
    pub fn decoder(&self) -> Result<Decoder, InputError> {
        let decoder = Decoder::new(self.channels()?);
        let most = self.data.max_pixels.map(|pixels| usize::try_from(pixels).unwrap_or(usize::MAX));
        Ok(decoder.with_max_pixels(most.unwrap_or(Decoder::MAX_PIXELS)))
    }

    /// The channels that images are decoded to.
    pub fn channels(&self) -> Result<Channels, InputError> {
        let channels = self.plan.channels;
        Channels::of_count(channels).ok_or(InputError::Channels { model: self.plan.name, channels })
    }

    fn training_stages(
        &self,
        augment: &Augment,
        samples: Samples,
        bytes: bool,
    ) -> Result<Vec<Box<dyn Stage>>, InputError> {
        self.stages(augment.steps(self.plan.height, self.plan.width), samples, bytes)
    }

    fn stages(
        &self,
        mut steps: Vec<Box<dyn Step>>,
        samples: Samples,
        bytes: bool,
    ) -> Result<Vec<Box<dyn Stage>>, InputError> {
        let (channels, target) = (self.plan.channels, samples.target);
        steps.extend(samples.steps);
        let mut chain = Chain::new(steps, Geometry::decoded(channels).with_target(target))?;
        // Whoever takes the bytes mirrors them on the way.
        let flip = chain.split_flip();
        let (size, chain) = ((self.plan.height, self.plan.width, channels), Arc::new(chain));
        let mut stages: Vec<Box<dyn Stage>> = vec![
            Box::new(Read { decoder: self.decoder()?, target }),
            Box::new(Decode { decoder: self.decoder()?, chain: Some(chain.clone()) }),
            Box::new(Augmented { chain, channels, flip }),
        ];
        if !bytes {
            stages.push(Box::new(Normalise { table: Arc::new(self.table()?), size }));
        }
        stages.extend(samples.stages);
        Ok(stages)
    }

    fn evaluation_step(&self, view: View) -> Box<dyn Step> {
        let (height, width) = (self.plan.height, self.plan.width);
        let cropped = CentreCrop::new(height, width);
        match view {
            View::Padded => Box::new(Pad { height, width, shift: 0, fill: 0 }),
            View::Cropped(fraction) => Box::new(cropped.with_fraction((fraction < 1.0).then_some(fraction))),
        }
    }

    fn workers(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }

    fn policy(&self, list: PathBuf) -> Policy {
        let bad = &self.data.bad;
        match bad.policy {
            BadPolicy::Fail => Policy::Fail,
            BadPolicy::Substitute => Policy::Substitute(Bounds { count: bad.max_count, rate: bad.max_rate, list }),
        }
    }
}

/// Bytes of memory that this machine has, where the system tells.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

/// How the bytes of shards are reached.
pub fn access(io: Io) -> Access {
    match io {
        Io::Mmap => Access::Mapped,
        Io::Pread => Access::Read,
    }
}

/// The view that goes with a training augmentation, and `crop` where that resamples.
pub fn view_of(augment: Option<&Augment>, crop: f64) -> View {
    match augment {
        Some(augment) if augment.pad > 0 => View::Padded,
        _ => View::Cropped(crop),
    }
}

/// How a model of `plan` is to be used that was trained on `data`, looked at by `view`, with these classes.
///
/// # Errors
/// Mean or deviation do not fit the channels.
pub fn usage(plan: &Plan, data: &Data, view: View, classes: &[String]) -> Result<Usage, InputError> {
    let (mean, std) = data.normalisation(plan.channels).map_err(InputError::Normalisation)?;
    Ok(Usage {
        model: plan.name.to_owned(),
        height: plan.height,
        width: plan.width,
        channels: plan.channels,
        mean,
        std,
        view,
        classes: classes.to_vec(),
    })
}
