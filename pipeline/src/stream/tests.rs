//! How streams end: by a panic, too early, by bad samples.

use std::fs;

use convnext_data::{Error, pack::Options};
use tempfile::TempDir;

use super::*;

/// A shard whose samples in `bad` are changed after it was packed.
fn shards(folder: &TempDir, count: usize, bad: &[usize]) -> Arc<ShardSet> {
    let options = Options { name: "x".into(), ..Options::default() };
    let path = crate::testing::shard(folder.path(), &options, count);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let starts: Vec<usize> = (0..bytes.len() - 11).filter(|&at| bytes[at..].starts_with(b"P5\n4 4\n")).collect();
    for &sample in bad {
        bytes[starts[sample] + 14] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
    Arc::new(ShardSet::open(&[path]).unwrap())
}

/// Passes everything on, but panics at a sample, or quits.
#[derive(Debug, Clone, Copy)]
struct Trap(u64);

impl Stage for Trap {
    fn name(&self) -> &'static str {
        "trap"
    }

    fn output(&self, input: Form) -> Result<Form, Mismatch> {
        Ok(input)
    }

    fn worker(&self) -> Box<dyn Work> {
        Box::new(*self)
    }
}

impl Work for Trap {
    fn process(&mut self, _: &ShardSet, _: &mut Workspace, item: &mut Item) -> Result<(), Error> {
        assert!(item.draw.sample != self.0, "no room for {}", self.0);
        Ok(())
    }
}

fn settings(samples: u64, workers: usize, policy: Policy) -> Delivery {
    Delivery {
        batch: 4,
        epoch: samples,
        start: 0,
        end: 2 * samples,
        seed: 1,
        workers,
        policy,
        replaced: Replaced::default(),
    }
}

fn grey() -> convnext_data::Decoder {
    convnext_data::Decoder::new(convnext_data::Channels::Grey)
}

fn start(set: &Arc<ShardSet>, trap: u64, settings: Delivery) -> Stream {
    let stages: Vec<Box<dyn Stage>> = vec![
        Box::new(Read { decoder: grey(), target: convnext_data::TargetKind::Class }),
        Box::new(Decode { decoder: grey(), chain: None }),
        Box::new(Trap(trap)),
    ];
    Stream::start(set.clone(), Order::sequential(set.len()), stages.into(), settings).unwrap()
}

/// Samples that came, and the error that came last.
fn drain(stream: &mut Stream) -> (usize, Option<StreamError>) {
    let mut samples = 0;
    while let Some(batch) = stream.next() {
        match batch {
            Ok(batch) => samples += batch.samples,
            Err(error) => {
                assert!(stream.next().is_none(), "there is more after an error");
                return (samples, Some(error));
            }
        }
    }
    (samples, None)
}

#[test]
fn a_panic_is_an_error_that_names_stage_and_sample() {
    let folder = TempDir::new().unwrap();
    let set = shards(&folder, 20, &[]);
    for workers in [1, 3] {
        let (samples, error) = drain(&mut start(&set, 13, settings(20, workers, Policy::Fail)));
        let Some(StreamError::Panicked { stage: "trap", message }) = error else { panic!("{error:?}") };
        assert_eq!(samples, 12);
        assert!(message.contains("x-000000.tar, sample 13") && message.contains("no room for 13"), "{message}");
    }
    let (samples, error) = drain(&mut start(&set, 99, settings(20, 2, Policy::Fail)));
    assert!(samples == 40 && error.is_none(), "{error:?}");
}

#[test]
fn a_stream_that_ends_early_is_an_error() {
    let folder = TempDir::new().unwrap();
    let set = shards(&folder, 8, &[]);
    let mut stream = start(&set, 99, settings(8, 1, Policy::Fail));
    stream.asked += 1;
    assert!(matches!(drain(&mut stream), (16, Some(StreamError::Short { delivered: 16, asked: 17 }))));

    // The thread that names the samples dies: of a position that no order has.
    let order = Order::sequential(8);
    let stages: Vec<Box<dyn Stage>> = vec![
        Box::new(Read { decoder: grey(), target: convnext_data::TargetKind::Class }),
        Box::new(Decode { decoder: grey(), chain: None }),
    ];
    let settings = Delivery { epoch: 1 << 40, start: 4, end: 20, ..settings(8, 1, Policy::Fail) };
    let mut stream = Stream::start(set, order, stages.into(), settings).unwrap();
    let (_, error) = drain(&mut stream);
    let Some(StreamError::Panicked { stage: "tickets", message }) = error else { panic!("{error:?}") };
    assert!(message.contains("position 8 is beyond an epoch of 8"), "{message}");
}

#[test]
fn bad_samples_are_counted_over_interruptions() {
    let folder = TempDir::new().unwrap();
    let bad = [3, 11, 40];
    let set = shards(&folder, 60, &bad);
    let policy = |name: &str| Policy::Substitute(Bounds { count: 1000, rate: 0.01, list: folder.path().join(name) });
    let mut whole = start(&set, 99, settings(60, 2, policy("whole")));
    assert!(matches!(drain(&mut whole), (120, None)));
    let replaced = whole.replaced();
    assert!(replaced.bad_samples == 3 && replaced.substituted >= 6, "{replaced:?}");

    let mut first = start(&set, 99, settings(60, 2, policy("cut")));
    let taken: usize = (0..14).map(|_| first.next().unwrap().unwrap().samples).sum();
    let before = first.replaced();
    drop(first);
    let rest = Delivery { start: taken as u64, replaced: before, ..settings(60, 1, policy("cut")) };
    let mut second = start(&set, 99, rest);
    assert!(matches!(drain(&mut second), (64, None)));
    assert_eq!(second.replaced(), replaced);
    let list = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(list("cut"), list("whole"));
}

#[test]
fn too_many_bad_samples_end_a_small_set_too() {
    let folder = TempDir::new().unwrap();
    let bad: Vec<usize> = (0..200).filter(|n| n % 8 != 0).take(126).collect();
    let set = shards(&folder, 200, &bad);
    let policy = Policy::Substitute(Bounds { count: 1000, rate: 0.01, list: folder.path().join("list") });
    let (_, error) = drain(&mut start(&set, 999, settings(200, 2, policy)));
    assert!(matches!(error, Some(StreamError::TooManyBad { bad: 4, allowed: 3, samples: 200, .. })), "{error:?}");
    let all: Vec<usize> = (0..20).collect();
    let other = TempDir::new().unwrap();
    let set = shards(&other, 20, &all);
    let policy = Policy::Substitute(Bounds { count: 1000, rate: 1.0, list: other.path().join("list") });
    let (_, error) = drain(&mut start(&set, 999, settings(20, 2, policy)));
    assert!(matches!(error, Some(StreamError::NoSubstitute { tried: 17, .. })), "{error:?}");
}
