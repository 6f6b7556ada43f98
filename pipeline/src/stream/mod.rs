//! The streaming pipeline: shards to batches.
//!
//! ```text
//! read (1 thread) -> workers: decode, augment, mask (n threads) -> batch (1 thread) -> the run
//! ```
//!
//! The three joints are bounded crossbeam channels. A sample's stages share a worker, so that its pixels stay in one
//! core's cache. Buffers travel back to where they are filled: the steady state allocates nothing per sample, and the
//! memory in flight has a ceiling, [`Stream::ceiling`]. Errors and the end travel in the channels; dropping the
//! [`Stream`] is the shutdown. Samples arrive in the order of their positions for any number of workers.

mod batch;
mod form;
mod item;
mod quarantine;
mod stages;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use convnext_data::{Draw, Order, Purpose, Random, ShardSet};
use crossbeam::channel::{Receiver, Sender, bounded};

pub use batch::Batch;
pub use form::{Form, Misfit};
pub use item::Item;
use quarantine::Quarantine;
pub use quarantine::{Bounds, Policy};
pub use stages::{Augmented, Decode, Mask, Normalise, Stage, Work};

/// What can end a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Two stages do not fit.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// A sample cannot be used, and the policy is to fail.
    #[error(transparent)]
    Sample(#[from] convnext_data::Error),
    /// More bad samples than the policy allows.
    #[error(
        "{substituted} of {seen} samples were bad and replaced, more than allowed; the last: {example}. \
         They are listed in {}: repair or drop them, or raise the bounds", list.display()
    )]
    TooManyBad {
        /// Substitutions so far.
        substituted: u64,
        /// Samples so far.
        seen: u64,
        /// Where they are listed.
        list: PathBuf,
        /// What was wrong with the last.
        example: String,
    },
    /// The list of bad samples cannot be written.
    #[error("cannot write the list of bad samples {}: {source}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There are no samples.
    #[error("the shards hold no samples; pack some with `convnext pack`")]
    Empty,
    /// A thread cannot be started.
    #[error("cannot start a thread of the pipeline: {0}")]
    Thread(std::io::Error),
}

/// What a stream delivers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Samples of a batch; the last one may hold fewer.
    pub batch: usize,
    /// Positions of an epoch: the first so many of the order's are used. At most the order's length.
    pub epoch: u64,
    /// Position to start at: samples already consumed, counted over epochs.
    pub start: u64,
    /// Position to end before.
    pub end: u64,
    /// Seed of every random decision.
    pub seed: u64,
    /// Worker threads; at least 1.
    pub workers: usize,
    /// What happens to bad samples.
    pub policy: Policy,
}

/// Batches ready beyond the one in use.
const BATCHES_AHEAD: usize = 2;

/// Samples in flight per worker: one being worked on and one waiting on either side.
const ITEMS_PER_WORKER: usize = 3;

/// How often a substitute may be bad itself.
const SUBSTITUTES: u64 = 16;

/// A running pipeline. Iterate with [`next`](Self::next); drop it to stop it.
#[derive(Debug)]
pub struct Stream {
    batches: Option<Receiver<Result<Batch, StreamError>>>,
    used: Sender<Batch>,
    form: Form,
    ceiling: usize,
    waited: Duration,
    threads: Vec<JoinHandle<()>>,
}

/// A sample to be made: its position, and whose randomness it has.
struct Ticket {
    position: u64,
    draw: Draw,
    item: Item,
}

impl Stream {
    /// Checks that the stages fit, and starts the threads.
    pub fn start(
        shards: Arc<ShardSet>,
        order: Order,
        stages: Arc<[Box<dyn Stage>]>,
        settings: Settings,
    ) -> Result<Self, StreamError> {
        let form = check(&stages)?;
        if shards.is_empty() || order.is_empty() || settings.epoch == 0 {
            return Err(StreamError::Empty);
        }
        let workers = settings.workers.max(1);
        let items = workers * ITEMS_PER_WORKER + settings.batch.min(64);
        let (ticket_sender, tickets) = bounded::<Ticket>(items);
        let (done_sender, done) = bounded::<(u64, Result<Item, convnext_data::Error>)>(items);
        let (free_sender, free) = bounded::<Item>(items);
        let (batch_sender, batches) = bounded(BATCHES_AHEAD);
        let (used, reused) = bounded::<Batch>(BATCHES_AHEAD + 2);
        for _ in 0..items {
            // The channel was made to hold them all.
            let _ = free_sender.try_send(Item::default());
        }

        let mut threads = Vec::with_capacity(workers + 2);
        let reader = {
            let settings = settings.clone();
            move || read(&order, &settings, &free, &ticket_sender)
        };
        threads.push(spawn("read", reader)?);
        for _ in 0..workers {
            let (tickets, done_sender) = (tickets.clone(), done_sender.clone());
            let (shards, stages, policy) = (shards.clone(), stages.clone(), settings.policy.clone());
            let worker = move || work(&shards, &stages, &policy, &tickets, &done_sender);
            threads.push(spawn("work", worker)?);
        }
        let batcher = {
            let settings = settings.clone();
            move || assemble(&settings, form, &done, &free_sender, &reused, &batch_sender)
        };
        threads.push(spawn("batch", batcher)?);

        let ceiling = ceiling(form, settings.batch, items);
        Ok(Self { batches: Some(batches), used, form, ceiling, waited: Duration::ZERO, threads })
    }

    /// The next batch; `None` at the end. After an error there is no more.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not take the batches back")]
    pub fn next(&mut self) -> Option<Result<Batch, StreamError>> {
        let begin = Instant::now();
        let batch = self.batches.as_ref()?.recv().ok();
        self.waited += begin.elapsed();
        batch
    }

    /// Gives a batch's buffers back.
    pub fn recycle(&self, batch: Batch) {
        let _ = self.used.try_send(batch);
    }

    /// What the samples are like when they leave the last stage.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How long [`next`](Self::next) has waited for data, in total.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Most bytes of pixels and masks that are in flight at once, encoded and decoded originals not counted.
    pub fn ceiling(&self) -> usize {
        self.ceiling
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Without its receiver the batch thread ends, then the workers, then the reader.
        self.batches = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The form that leaves the last stage, if every stage takes what the one before it gives.
pub fn check(stages: &[Box<dyn Stage>]) -> Result<Form, Misfit> {
    stages.iter().try_fold(Form::Encoded, |form, stage| stage.output(form))
}

fn ceiling(form: Form, batch: usize, items: usize) -> usize {
    let (values, patches) = match form {
        Form::Encoded | Form::Image { .. } => (0, 0),
        Form::Sized { height, width, channels } | Form::Pixels { height, width, channels } => {
            (height * width * channels, 0)
        }
        Form::Masked { height, width, channels, patches, .. } => (height * width * channels, patches),
    };
    let bytes = if form.normalised() { size_of::<f32>() } else { 1 };
    (values * bytes + patches) * (batch * (BATCHES_AHEAD + 2) + items)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StreamError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(StreamError::Thread)
}

/// Names the samples in order. Ends when all are named or nobody listens.
fn read(order: &Order, settings: &Settings, free: &Receiver<Item>, tickets: &Sender<Ticket>) {
    for position in settings.start..settings.end {
        let Ok(item) = free.recv() else { return };
        let epoch = position / settings.epoch;
        let draw = Draw { seed: settings.seed, epoch, sample: order.at(epoch, position % settings.epoch) };
        if tickets.send(Ticket { position, draw, item }).is_err() {
            return;
        }
    }
}

/// Makes samples. Ends when there are no more tickets or nobody listens.
fn work(
    shards: &ShardSet,
    stages: &[Box<dyn Stage>],
    policy: &Policy,
    tickets: &Receiver<Ticket>,
    done: &Sender<(u64, Result<Item, convnext_data::Error>)>,
) {
    let mut chain: Vec<Box<dyn Work>> = stages.iter().map(|stage| stage.worker()).collect();
    for Ticket { position, draw, mut item } in tickets {
        item.begin(position, draw);
        let result = make(shards, &mut chain, policy, &mut item).map(|()| item);
        if done.send((position, result)).is_err() {
            return;
        }
    }
}

/// Runs a sample through the stages; by policy another one instead, which keeps the first one's randomness.
fn make(
    shards: &ShardSet,
    chain: &mut [Box<dyn Work>],
    policy: &Policy,
    item: &mut Item,
) -> Result<(), convnext_data::Error> {
    let asked = item.draw.sample;
    let mut substitutes = Random::new(item.draw.seed, item.draw.epoch, asked, Purpose::Substitute);
    for _ in 0..SUBSTITUTES {
        let result = chain.iter_mut().try_for_each(|work| work.process(shards, item));
        match (result, policy) {
            (Ok(()), _) => return Ok(()),
            (Err(error), Policy::Fail) => return Err(error),
            (Err(error), Policy::Substitute(_)) => {
                item.faults.push((item.draw.sample, error.to_string()));
                item.draw.sample = substitutes.range(shards.len());
            }
        }
    }
    // So many bad ones in a row are not bad luck: the last one's own error says what is wrong.
    chain.iter_mut().try_for_each(|work| work.process(shards, item))
}

/// Puts samples in order and joins them. Ends at the end, after an error, or when nobody listens.
fn assemble(
    settings: &Settings,
    form: Form,
    done: &Receiver<(u64, Result<Item, convnext_data::Error>)>,
    free: &Sender<Item>,
    reused: &Receiver<Batch>,
    batches: &Sender<Result<Batch, StreamError>>,
) {
    let mut quarantine = Quarantine::new(&settings.policy);
    let mut early = BTreeMap::new();
    let mut batch = Batch::default();
    let mut next = settings.start;
    for (position, result) in done {
        early.insert(position, result);
        while let Some(result) = early.remove(&next) {
            let checked = result.map_err(StreamError::from).and_then(|item| {
                quarantine.note(next, &item.faults)?;
                Ok(item)
            });
            let item = match checked {
                Ok(item) => item,
                Err(error) => {
                    let _ = batches.send(Err(error));
                    return;
                }
            };
            batch.push(&item, form.normalised());
            let _ = free.try_send(item);
            next += 1;
            if batch.samples == settings.batch || next == settings.end {
                let mut fresh = reused.try_recv().unwrap_or_default();
                fresh.clear();
                if batches.send(Ok(std::mem::replace(&mut batch, fresh))).is_err() {
                    return;
                }
            }
        }
    }
}
