//! The streaming pipeline: shards to batches.
//!
//! ```text
//! tickets (1 thread) -> workers: read, decode, augment, mask (n threads) -> batch (1 thread) -> the run
//! ```
//!
//! The joints are bounded crossbeam channels. A sample's stages share a worker, so that its pixels stay in one core's cache;
//! the last of them writes to the sample's place in the batch. Batches travel back to where they are filled: the memory in
//! flight has a ceiling, [`Stream::ceiling`], whatever the size of the pictures. Errors and the end travel in the channels; dropping the
//! [`Stream`] is the shutdown. Samples arrive in the order of their positions for any number of workers. A stream that ends
//! before all were delivered, or a stage that panics, is an error.

mod batch;
mod busy;
mod form;
mod item;
mod panics;
mod quarantine;
#[allow(unsafe_code, reason = "parts of one vector, which threads fill at once")]
mod slots;
mod stages;
#[cfg(test)]
mod tests;

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
use batch::{Making, Places, SampleSizes};
pub use busy::Busy;
use busy::Times;
pub use form::{Form, Mismatch};
pub use item::{Item, Workspace};
use quarantine::Quarantine;
pub use quarantine::{Bounds, Policy, Replaced};
pub use stages::{Augmented, Decode, Mask, Normalise, Read, Stage, Work};

/// What can end a stream.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Two stages do not fit.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// A sample cannot be used, and the policy is to fail.
    #[error(transparent)]
    Sample(#[from] convnext_data::Error),
    /// More bad samples than the policy allows.
    #[error(
        "{bad} of {samples} samples are bad after {read} were read, and {allowed} are allowed; the last: {example}. They are \
         listed in {}: repair them or pack without them, or raise data.bad.max_rate and data.bad.max_count",
        list.display()
    )]
    TooManyBad {
        /// Bad samples met so far.
        bad: u64,
        /// How many the policy allows.
        allowed: u64,
        /// Samples of the set.
        samples: u64,
        /// Positions read so far.
        read: u64,
        /// Where they are listed.
        list: PathBuf,
        /// What was wrong with the last.
        example: String,
    },
    /// All that were to stand in for a bad sample are bad too.
    #[error("none of {tried} samples, drawn one in the place of the other, can be used; the last: {source}")]
    NoSubstitute {
        /// How many were tried.
        tried: u64,
        /// What was wrong with the last.
        source: convnext_data::Error,
    },
    /// A stage panicked: a mistake of the program.
    #[error(
        "the pipeline's stage `{stage}` panicked: {message}. That is a mistake of the program, not of the data: please report it"
    )]
    Panicked {
        /// The stage, or the thread.
        stage: &'static str,
        /// At which sample, and what it said.
        message: String,
    },
    /// The stream ended before all samples were delivered.
    #[error("the pipeline ended after {delivered} of {asked} samples")]
    Short {
        /// Samples that came.
        delivered: u64,
        /// Samples that were to come.
        asked: u64,
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
pub struct Delivery {
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
    /// What was replaced before `start`.
    pub replaced: Replaced,
}

/// Batches that wait in the channel to whoever uses them. One more waits for its place there.
const BATCHES_AHEAD: usize = 1;

/// Samples in flight per worker: one being worked on and one waiting on either side.
const ITEMS_PER_WORKER: usize = 3;

/// Samples of which the system is told before they are asked for: of a disk, a read takes as long as decoding some of them.
const EXPECTED: u64 = 64;

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
    /// Batches that were asked for, and of them those that were there already.
    served: (u64, u64),
    times: Arc<Times>,
    workers: usize,
    /// Samples that are to come, and that have come.
    asked: u64,
    delivered: u64,
    replaced: Replaced,
    threads: Vec<Thread>,
}

/// A thread by its name; ends with the message of its panic.
type Thread = (&'static str, JoinHandle<Result<(), String>>);

/// A made sample, or why there is none, under its position.
type Made = (u64, Result<Item, StreamError>);

/// A sample to be made: its position, and whose randomness it has.
struct Ticket {
    position: u64,
    draw: Draw,
    places: Places,
}

impl Stream {
    /// Checks that the stages fit, and starts the threads.
    pub fn start(
        shards: Arc<ShardSet>,
        order: Order,
        stages: Arc<[Box<dyn Stage>]>,
        settings: Delivery,
    ) -> Result<Self, StreamError> {
        let form = check(&stages)?;
        if shards.is_empty() || order.is_empty() || settings.epoch == 0 {
            return Err(StreamError::Empty);
        }
        let quarantine = Quarantine::new(&settings.policy, shards.len(), settings.start, settings.replaced)?;
        let workers = settings.workers.max(1);
        let (waiting, at_once) = (workers * ITEMS_PER_WORKER, making(workers, settings.batch));
        let (ticket_sender, tickets) = bounded::<Ticket>(waiting);
        let (done_sender, done) = bounded::<Made>(waiting);
        let (making_sender, begun) = bounded::<Making>(at_once);
        let (permit, permits) = bounded::<()>(at_once);
        let (batch_sender, batches) = bounded(BATCHES_AHEAD);
        let (used, reused) = bounded::<Batch>(BATCHES_AHEAD + 2);
        for _ in 0..at_once {
            // The channel was made to hold them all.
            let _ = permit.try_send(());
        }

        let mut threads = Vec::with_capacity(workers + 2);
        let reader = {
            let (settings, shards) = (settings.clone(), shards.clone());
            let sizes = SampleSizes::of(form);
            move || read(&shards, &order, &settings, sizes, &permits, &reused, &making_sender, &ticket_sender)
        };
        threads.push(spawn("tickets", reader)?);
        let times = Arc::new(Times::of(stages.iter().map(|stage| stage.name())));
        for _ in 0..workers {
            let times = times.clone();
            let (tickets, done_sender) = (tickets.clone(), done_sender.clone());
            let (shards, stages, policy) = (shards.clone(), stages.clone(), settings.policy.clone());
            let worker = move || work(&shards, &stages, &times, &policy, &tickets, &done_sender);
            threads.push(spawn("work", worker)?);
        }
        let start = settings.start;
        let batcher = move || assemble(start, quarantine, &begun, &done, &permit, &batch_sender);
        threads.push(spawn("batch", batcher)?);

        let ceiling = most_bytes(form, settings.batch, workers);
        Ok(Self {
            batches: Some(batches),
            used,
            form,
            ceiling,
            waited: Duration::ZERO,
            served: (0, 0),
            times,
            workers,
            asked: settings.end.saturating_sub(settings.start),
            delivered: 0,
            replaced: settings.replaced,
            threads,
        })
    }

    /// The next batch; `None` when all were delivered. After an error there is no more.
    ///
    /// # Errors
    /// What ended the stream before its end.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not take the batches back")]
    pub fn next(&mut self) -> Option<Result<Batch, StreamError>> {
        let begin = Instant::now();
        let batches = self.batches.as_ref()?;
        self.served = (self.served.0 + 1, self.served.1 + u64::from(!batches.is_empty()));
        let received = batches.recv();
        self.waited += begin.elapsed();
        match received {
            Ok(Ok(batch)) => {
                self.delivered += batch.samples as u64;
                self.replaced = batch.replaced;
                Some(Ok(batch))
            }
            Ok(Err(error)) => {
                self.batches = None;
                Some(Err(error))
            }
            Err(_) => self.end().map(Err),
        }
    }

    /// Why there is no more: nothing, if all were delivered.
    fn end(&mut self) -> Option<StreamError> {
        self.batches = None;
        let panicked = self.join();
        if self.delivered == self.asked {
            return None;
        }
        Some(panicked.unwrap_or(StreamError::Short { delivered: self.delivered, asked: self.asked }))
    }

    /// Waits for the threads; the first panic among them.
    fn join(&mut self) -> Option<StreamError> {
        let ends = self.threads.drain(..).map(|(stage, thread)| match thread.join() {
            Ok(Ok(())) => None,
            Ok(Err(message)) => Some(StreamError::Panicked { stage, message }),
            Err(_) => Some(StreamError::Panicked { stage, message: "it did not say why".to_owned() }),
        });
        ends.fold(None, Option::or)
    }

    /// Gives a batch's buffers back.
    pub fn recycle(&self, batch: Batch) {
        let _ = self.used.try_send(batch);
    }

    /// What the samples are like when they leave the last stage.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Where the time has gone, up to now.
    pub fn busy(&self) -> Busy {
        Busy::now(&self.times, self.workers, self.served, self.waited)
    }

    /// What has been replaced since the start of the run, up to the batch that came last.
    pub fn replaced(&self) -> Replaced {
        self.replaced
    }

    /// Most bytes of pixels and masks that are in flight at once. Each worker has one picture beside them, as large as it
    /// was decoded and what decoding it takes.
    pub fn ceiling(&self) -> usize {
        self.ceiling
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Without its receiver the batch thread ends, then the workers, then the reader.
        self.batches = None;
        // Nobody asks any more what became of them.
        let _ = self.join();
    }
}

/// The form that leaves the last stage, if every stage takes what the one before it gives.
pub fn check(stages: &[Box<dyn Stage>]) -> Result<Form, Mismatch> {
    stages.iter().try_fold(Form::Stored, |form, stage| stage.output(form))
}

/// Most bytes in flight of a stream of `form`, in batches of `batch` by `workers`; `usize::MAX` if that is more than there
/// are numbers for.
pub(crate) fn most_bytes(form: Form, batch: usize, workers: usize) -> usize {
    // Those being made, those waiting, and the one in use.
    let batches = making(workers.max(1), batch).saturating_add(BATCHES_AHEAD + 2);
    SampleSizes::of(form).total().saturating_mul(batch).saturating_mul(batches)
}

/// Batches that are being made at once: as many as all workers need, and one so that they need not wait for each other at
/// its end.
fn making(workers: usize, batch: usize) -> usize {
    workers.saturating_mul(ITEMS_PER_WORKER).div_ceil(batch.max(1)) + 1
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<Thread, StreamError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(|| panics::catch(body));
    Ok((name, thread.map_err(StreamError::Thread)?))
}

/// Names the samples in order, and gives each its place in a batch. Ends when all are named or nobody listens.
#[expect(clippy::too_many_arguments, reason = "the ends of the joints are its own")]
fn read(
    shards: &ShardSet,
    order: &Order,
    settings: &Delivery,
    sizes: SampleSizes,
    permits: &Receiver<()>,
    reused: &Receiver<Batch>,
    begun: &Sender<Making>,
    tickets: &Sender<Ticket>,
) {
    let draw = |position: u64| {
        let epoch = position / settings.epoch;
        Draw { seed: settings.seed, epoch, sample: order.at(epoch, position % settings.epoch) }
    };
    let (mut position, mut expected) = (settings.start, settings.start);
    while position < settings.end && permits.recv().is_ok() {
        let most = settings.batch.max(1);
        let samples = usize::try_from(settings.end - position).map_or(most, |left| left.min(most));
        let (making, places) = reused.try_recv().unwrap_or_default().begin(samples, sizes);
        if begun.send(making).is_err() {
            return;
        }
        for places in places {
            while expected < settings.end.min(position + EXPECTED) {
                if let Ok(sample) = shards.sample(draw(expected).sample) {
                    sample.expect();
                }
                expected += 1;
            }
            if tickets.send(Ticket { position, draw: draw(position), places }).is_err() {
                return;
            }
            position += 1;
        }
    }
}

/// Makes samples. Ends when there are no more tickets or nobody listens.
fn work(
    shards: &ShardSet,
    stages: &[Box<dyn Stage>],
    times: &Times,
    policy: &Policy,
    tickets: &Receiver<Ticket>,
    done: &Sender<Made>,
) {
    let stages = stages.iter().map(|stage| (stage.name(), stage.worker())).collect();
    let mut chain = Chain { shards, stages, times, space: Workspace::default() };
    for Ticket { position, draw, places: Places { pixels, bytes, mask, target } } in tickets {
        let mut item = Item { position, draw, bytes, pixels, flip: false, mask, target, faults: Vec::new() };
        let result = make(&mut chain, policy, &mut item).map(|()| {
            chain.space.end(&mut item);
            item
        });
        if done.send((position, result)).is_err() {
            return;
        }
    }
}

/// One worker's copies of all stages, by their names.
struct Chain<'a> {
    shards: &'a ShardSet,
    stages: Vec<(&'static str, Box<dyn Work>)>,
    times: &'a Times,
    space: Workspace,
}

impl Chain<'_> {
    /// Takes the item through all stages. The outer error is a panic, the inner one the sample's fault.
    fn run(&mut self, item: &mut Item) -> Result<Result<(), convnext_data::Error>, StreamError> {
        self.space.begin();
        for (number, (stage, work)) in self.stages.iter_mut().enumerate() {
            let begin = Instant::now();
            let done = panics::catch(|| work.process(self.shards, &mut self.space, item));
            self.times.add(number, begin.elapsed());
            match done {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => return Ok(Err(fault)),
                Err(message) => {
                    let sample = self.shards.sample(item.draw.sample).map(|sample| sample.to_string());
                    let sample = sample.unwrap_or_else(|_| format!("sample {}", item.draw.sample));
                    return Err(StreamError::Panicked { stage, message: format!("at {sample}: {message}") });
                }
            }
        }
        Ok(Ok(()))
    }
}

/// Runs a sample through the stages; by policy another one instead, which keeps the first one's randomness.
fn make(chain: &mut Chain<'_>, policy: &Policy, item: &mut Item) -> Result<(), StreamError> {
    let asked = item.draw.sample;
    let mut substitutes = Random::new(item.draw.seed, item.draw.epoch, asked, Purpose::Substitute);
    for _ in 0..SUBSTITUTES {
        match (chain.run(item)?, policy) {
            (Ok(()), _) => return Ok(()),
            (Err(fault), Policy::Fail) => return Err(fault.into()),
            (Err(fault), Policy::Substitute(_)) => {
                item.faults.push((item.draw.sample, fault.to_string()));
                item.draw.sample = substitutes.range(chain.shards.len());
            }
        }
    }
    // So many bad ones in a row are not bad luck.
    chain.run(item)?.map_err(|source| StreamError::NoSubstitute { tried: SUBSTITUTES + 1, source })
}

/// Counts samples in order, and passes batches on that have all of theirs. Ends at the end, after an error, or when nobody
/// listens.
fn assemble(
    start: u64,
    mut quarantine: Quarantine,
    begun: &Receiver<Making>,
    done: &Receiver<Made>,
    permit: &Sender<()>,
    batches: &Sender<Result<Batch, StreamError>>,
) {
    let (mut early, mut next) = (BTreeMap::new(), start);
    for mut making in begun {
        while !making.is_full() {
            let Some(result) = early.remove(&next) else {
                let Ok((position, result)) = done.recv() else { return };
                early.insert(position, result);
                continue;
            };
            let noted = result.and_then(|item: Item| {
                quarantine.note(next, &item.faults)?;
                making.note(item);
                Ok(())
            });
            if let Err(error) = noted {
                let _ = batches.send(Err(error));
                return;
            }
            next += 1;
        }
        let batch = making.end(quarantine.replaced());
        let _ = permit.try_send(());
        if batches.send(Ok(batch)).is_err() {
            return;
        }
    }
}
