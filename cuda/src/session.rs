//! The order of a training run's work on a device: what is copied and computed on which stream, and what waits for what.
//!
//! ```text
//! host     fill 0   fill 1     fill 0 ...                                     read report 0
//! copy     [upload 0][upload 1]         [upload 0]
//! compute           [take 0 | batch 0  ][take 1 | batch 1 | update | report 0][take 0 | ...
//! ```
//!
//! A batch's inputs are written to one of [`SLOTS`] slots of staging memory on the host, uploaded to the slot's arrival
//! memory on the device while the batch before it is computed, and taken from there into the buffers that the schedule
//! reads. What an update did - norm, loss - is copied into a ring of [`REPORTS`] entries on the host, and read when the
//! caller wants it: no stream waits for the host, and the host waits only for what it asked for, or for room.
//!
//! The session decides, a [`Backend`] does. Every wait is a [`Command`], so a test can take a session's commands and prove
//! that nothing is overwritten while it is read.

use std::collections::VecDeque;

use convnext_core::launch::schedule::View;

use crate::{memory::Placement, training::Phase};

/// Batches that are on their way at once.
pub const SLOTS: usize = 2;

/// Updates whose reports can be on their way at once.
pub const REPORTS: usize = 4;

/// A queue of work on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// For copies from the host.
    Copy,
    /// For everything else.
    Compute,
}

/// A point that a stream passes, and that the other stream or the host can wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// A slot's staging memory has been copied to its arrival memory.
    Uploaded(usize),
    /// A slot's arrival memory has been copied into the schedule's inputs.
    Taken(usize),
    /// A report is in its entry of the ring.
    Reported(usize),
}

/// One thing that a session asks for. Work is put on a stream and the call returns; only [`Command::Await`] waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// On the copy stream: a slot's staging memory to its arrival memory.
    Upload(usize),
    /// On the compute stream: a slot's arrival memory to the schedule's inputs.
    Take(usize),
    /// On the compute stream: a phase of the training step.
    Run(Phase),
    /// On the compute stream: the update's status to an entry of the ring.
    Report(usize),
    /// The event happens when the stream has done what was put on it so far. What an earlier record stood for is forgotten.
    Record(Stream, Event),
    /// The stream goes on when the event, as it was recorded last, has happened.
    Wait(Stream, Event),
    /// The host goes on when the event, as it was recorded last, has happened.
    Await(Event),
}

/// What does a session's work.
pub trait Backend {
    /// Why it cannot.
    type Error: std::error::Error;

    /// Where the schedule's buffers lie; staging memory has the inputs' part of it.
    fn placement(&self) -> &Placement;

    /// Puts work on a stream, or waits.
    ///
    /// # Errors
    /// What the device says.
    fn execute(&mut self, command: Command) -> Result<(), Self::Error>;

    /// A slot's staging memory, as long as the inputs.
    fn staging(&mut self, slot: usize) -> &mut [u8];

    /// An entry of the ring: what the update's status held.
    fn report(&mut self, entry: usize) -> [f32; 4];

    /// Copies bytes to the device when everything before has finished, and returns when they are there.
    ///
    /// # Errors
    /// What the device says, also of what ran before.
    fn write(&mut self, view: &View, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Copies bytes from the device when everything before has finished.
    ///
    /// # Errors
    /// What the device says, also of what ran before.
    fn read(&mut self, view: &View) -> Result<Vec<u8>, Self::Error>;
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Report {
    /// Its number in the session, from 0.
    pub update: u64,
    /// Norm of the mean gradient, before clipping.
    pub norm: f32,
    /// Mean loss of the batches.
    pub loss: f32,
    /// Whether norm and loss were finite; if not, nothing was updated.
    pub finite: bool,
}

/// A training run's work on a device.
#[derive(Debug)]
pub struct Session<B> {
    backend: B,
    /// Batches whose gradients make one step.
    accumulation: usize,
    /// Batches submitted.
    batches: u64,
    /// Updates submitted.
    updates: u64,
    /// Reports read from the ring.
    read: u64,
    /// Reports that were read to make room, and not asked for yet.
    early: VecDeque<Report>,
}

impl<B: Backend> Session<B> {
    /// A session that updates after every `accumulation` batches, at least one.
    pub fn new(backend: B, accumulation: usize) -> Self {
        Self { backend, accumulation: accumulation.max(1), batches: 0, updates: 0, read: 0, early: VecDeque::new() }
    }

    /// Puts a batch on its way, and the update behind it if it is the last of its step. `fill` writes all inputs.
    ///
    /// Waits until a slot is free, and if the ring is full until its oldest report is there.
    ///
    /// # Errors
    /// What the device says.
    pub fn submit(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<(), B::Error> {
        let (slot, used) = ((self.batches % SLOTS as u64) as usize, self.batches >= SLOTS as u64);
        let phase = Phase::of((self.batches % self.accumulation as u64) as usize, self.accumulation);
        let backend = &mut self.backend;
        if used {
            backend.execute(Command::Await(Event::Uploaded(slot)))?;
        }
        fill(backend.staging(slot));
        if used {
            backend.execute(Command::Wait(Stream::Copy, Event::Taken(slot)))?;
        }
        for command in [
            Command::Upload(slot),
            Command::Record(Stream::Copy, Event::Uploaded(slot)),
            Command::Wait(Stream::Compute, Event::Uploaded(slot)),
            Command::Take(slot),
            Command::Record(Stream::Compute, Event::Taken(slot)),
            Command::Run(phase),
        ] {
            backend.execute(command)?;
        }
        self.batches += 1;
        if phase.updates() { self.report() } else { Ok(()) }
    }

    /// Sends the report of an update on its way.
    fn report(&mut self) -> Result<(), B::Error> {
        if self.updates - self.read == REPORTS as u64 {
            let oldest = self.read_oldest()?;
            self.early.push_back(oldest);
        }
        let entry = (self.updates % REPORTS as u64) as usize;
        self.backend.execute(Command::Report(entry))?;
        self.backend.execute(Command::Record(Stream::Compute, Event::Reported(entry)))?;
        self.updates += 1;
        Ok(())
    }

    /// The report of the oldest update that has not been asked for, if more than `in_flight` have not; waits for it.
    ///
    /// # Errors
    /// What the device says.
    pub fn collect(&mut self, in_flight: usize) -> Result<Option<Report>, B::Error> {
        if self.in_flight() <= in_flight {
            return Ok(None);
        }
        match self.early.pop_front() {
            Some(report) => Ok(Some(report)),
            None => self.read_oldest().map(Some),
        }
    }

    /// Updates whose reports have not been asked for.
    pub fn in_flight(&self) -> usize {
        (self.updates - self.read) as usize + self.early.len()
    }

    fn read_oldest(&mut self) -> Result<Report, B::Error> {
        let entry = (self.read % REPORTS as u64) as usize;
        self.backend.execute(Command::Await(Event::Reported(entry)))?;
        let [norm, _, finite, loss] = self.backend.report(entry);
        let report = Report { update: self.read, norm, loss, finite: finite == 1.0 };
        self.read += 1;
        Ok(report)
    }

    /// The device, between two updates.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        convert::Infallible,
    };

    use super::*;
    use crate::memory;
    use convnext_core::launch::schedule::Schedule;

    /// What a session did, accesses of the host to memory that it shares with the device among it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Entry {
        Command(Command),
        Fill(usize),
        Read(usize),
    }

    /// Writes down what it is asked for. Its reports hold their own number as the norm.
    struct Recorder {
        placement: Placement,
        staging: Vec<u8>,
        trace: Vec<Entry>,
        reported: [f32; REPORTS],
        updates: f32,
    }

    impl Recorder {
        fn new() -> Self {
            let placement = memory::place(&Schedule::new());
            Self { placement, staging: Vec::new(), trace: Vec::new(), reported: [f32::NAN; REPORTS], updates: 0.0 }
        }
    }

    impl Backend for Recorder {
        type Error = Infallible;

        fn placement(&self) -> &Placement {
            &self.placement
        }

        fn execute(&mut self, command: Command) -> Result<(), Infallible> {
            if let Command::Report(entry) = command {
                self.reported[entry] = self.updates;
                self.updates += 1.0;
            }
            self.trace.push(Entry::Command(command));
            Ok(())
        }

        fn staging(&mut self, slot: usize) -> &mut [u8] {
            self.trace.push(Entry::Fill(slot));
            &mut self.staging
        }

        fn report(&mut self, entry: usize) -> [f32; 4] {
            self.trace.push(Entry::Read(entry));
            [self.reported[entry], 1.0, 1.0, 0.0]
        }

        fn write(&mut self, _: &View, _: &[u8]) -> Result<(), Infallible> {
            Ok(())
        }

        fn read(&mut self, _: &View) -> Result<Vec<u8>, Infallible> {
            Ok(Vec::new())
        }
    }

    /// A session of some batches; after each, all but `lag` reports are collected.
    fn session(batches: usize, accumulation: usize, lag: usize) -> (Vec<Entry>, Vec<Report>) {
        let mut session = Session::new(Recorder::new(), accumulation);
        let mut reports = Vec::new();
        for _ in 0..batches {
            session.submit(|_| {}).unwrap();
            while let Some(report) = session.collect(lag).unwrap() {
                reports.push(report);
            }
        }
        while let Some(report) = session.collect(0).unwrap() {
            reports.push(report);
        }
        (session.backend.trace, reports)
    }

    /// Memory that is shared.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    enum Place {
        Staging(usize),
        Arrival(usize),
        Inputs,
        /// Parameters, gradients, the status of the update.
        State,
        Ring(usize),
    }

    /// Who does something: the host, or a stream.
    const ACTORS: usize = 3;
    const HOST: usize = 0;

    fn actor(stream: Stream) -> usize {
        match stream {
            Stream::Copy => 1,
            Stream::Compute => 2,
        }
    }

    /// Vector clocks: how much of each actor's work is known to be over.
    type Clock = [u64; ACTORS];

    fn join(clock: &mut Clock, other: &Clock) {
        clock.iter_mut().zip(other).for_each(|(clock, other)| *clock = (*clock).max(*other));
    }

    /// The two accesses to one place, of which one writes, that nothing orders; `None` if there are none.
    ///
    /// Work on a stream comes after what the stream did before, after the events it waited for, and after what the host
    /// did before it put the work there; the host's work comes after the events it awaited. Nothing else is known.
    fn race(trace: &[Entry]) -> Option<(Place, Entry, Entry)> {
        let mut clocks = [[0; ACTORS]; ACTORS];
        let mut events: HashMap<Event, Clock> = HashMap::new();
        let mut accesses: HashMap<Place, Vec<(usize, u64, bool, Entry)>> = HashMap::new();
        for &entry in trace {
            let (who, touched): (usize, Vec<(Place, bool)>) = match entry {
                Entry::Fill(slot) => (HOST, vec![(Place::Staging(slot), true)]),
                Entry::Read(at) => (HOST, vec![(Place::Ring(at), false)]),
                Entry::Command(Command::Upload(slot)) => {
                    (actor(Stream::Copy), vec![(Place::Staging(slot), false), (Place::Arrival(slot), true)])
                }
                Entry::Command(Command::Take(slot)) => {
                    (actor(Stream::Compute), vec![(Place::Arrival(slot), false), (Place::Inputs, true)])
                }
                Entry::Command(Command::Run(_)) => {
                    (actor(Stream::Compute), vec![(Place::Inputs, false), (Place::State, true)])
                }
                Entry::Command(Command::Report(at)) => {
                    (actor(Stream::Compute), vec![(Place::State, false), (Place::Ring(at), true)])
                }
                Entry::Command(Command::Record(stream, event)) => {
                    let host = clocks[HOST];
                    join(&mut clocks[actor(stream)], &host);
                    events.insert(event, clocks[actor(stream)]);
                    continue;
                }
                Entry::Command(Command::Wait(stream, event)) => {
                    let happened = events.get(&event).copied().unwrap_or_default();
                    join(&mut clocks[actor(stream)], &happened);
                    continue;
                }
                Entry::Command(Command::Await(event)) => {
                    let happened = events.get(&event).copied().unwrap_or_default();
                    join(&mut clocks[HOST], &happened);
                    continue;
                }
            };
            let host = clocks[HOST];
            join(&mut clocks[who], &host);
            clocks[who][who] += 1;
            for (place, writes) in touched {
                let before = accesses.entry(place).or_default();
                for &(other, at, wrote, earlier) in before.iter() {
                    if (writes || wrote) && clocks[who][other] < at {
                        return Some((place, earlier, entry));
                    }
                }
                before.push((who, clocks[who][who], writes, entry));
            }
        }
        None
    }

    /// Every accumulation, every lag: nothing is touched while something else touches it.
    #[test]
    fn nothing_races() {
        for accumulation in 1..=5 {
            for lag in 0..=2 * REPORTS {
                let (trace, _) = session(40, accumulation, lag);
                assert_eq!(race(&trace), None, "accumulation {accumulation}, lag {lag}");
            }
        }
    }

    /// The checker sees a race wherever a wait is missing; so it can fail, and every wait is needed.
    #[test]
    fn every_wait_is_needed() {
        let (trace, _) = session(40, 1, REPORTS);
        let waits = |entry: &Entry| matches!(entry, Entry::Command(Command::Wait(..) | Command::Await(_)));
        let mut kinds = HashSet::new();
        for without in (0..trace.len()).filter(|&at| waits(&trace[at])) {
            let rest: Vec<_> = trace[..without].iter().chain(&trace[without + 1..]).copied().collect();
            assert!(race(&rest).is_some(), "{:?} at {without} could be left out", trace[without]);
            kinds.insert(match trace[without] {
                Entry::Command(Command::Wait(stream, _)) => Some(stream),
                _ => None,
            });
        }
        assert_eq!(kinds.len(), 3, "waits of the host and of either stream");
    }

    #[test]
    fn each_report_comes_once_and_in_order() {
        for accumulation in 1..=3 {
            for lag in 0..=2 * REPORTS {
                let (_, reports) = session(12 * accumulation, accumulation, lag);
                let found: Vec<_> = reports.iter().map(|report| (report.update, report.norm)).collect();
                let expected: Vec<_> = (0..12).map(|number| (number, number as f32)).collect();
                assert_eq!(found, expected, "accumulation {accumulation}, lag {lag}");
            }
        }
    }

    /// The next batch is on its way before the host asks what became of the last; of those asked for, it takes the oldest.
    #[test]
    fn the_host_does_not_wait_for_the_update_it_has_just_started() {
        let mut session = Session::new(Recorder::new(), 1);
        for batch in 0..10u64 {
            session.submit(|_| {}).unwrap();
            let report = session.collect(2).unwrap();
            assert_eq!(report.map(|report| report.update), batch.checked_sub(2));
        }
        assert_eq!(session.in_flight(), 2);
    }

    #[test]
    fn phases_follow_the_accumulation() {
        let runs = |accumulation| -> Vec<Phase> {
            let (trace, _) = session(6, accumulation, 0);
            let run = |entry: &Entry| match entry {
                Entry::Command(Command::Run(phase)) => Some(*phase),
                _ => None,
            };
            trace.iter().filter_map(run).collect()
        };
        use Phase::{First, Last, Middle, Only};
        assert_eq!(runs(1), [Only; 6]);
        assert_eq!(runs(2), [First, Last, First, Last, First, Last]);
        assert_eq!(runs(3), [First, Middle, Last, First, Middle, Last]);
    }

    /// Two slots in turn, each uploaded before it is taken; a report after every update and nowhere else.
    #[test]
    fn one_batch_of_two_is_these_commands() {
        use Command::{Record, Report, Run, Take, Upload, Wait};
        let (trace, _) = session(2, 2, 1);
        let batch = |slot, phase| {
            [
                Entry::Fill(slot),
                Entry::Command(Upload(slot)),
                Entry::Command(Record(Stream::Copy, Event::Uploaded(slot))),
                Entry::Command(Wait(Stream::Compute, Event::Uploaded(slot))),
                Entry::Command(Take(slot)),
                Entry::Command(Record(Stream::Compute, Event::Taken(slot))),
                Entry::Command(Run(phase)),
            ]
        };
        let end = [
            Entry::Command(Report(0)),
            Entry::Command(Record(Stream::Compute, Event::Reported(0))),
            Entry::Command(Command::Await(Event::Reported(0))),
            Entry::Read(0),
        ];
        let expected: Vec<_> = batch(0, Phase::First).into_iter().chain(batch(1, Phase::Last)).chain(end).collect();
        assert_eq!(trace, expected);
    }
}
