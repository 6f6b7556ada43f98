//! What to do with a sample that cannot be used.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use super::StreamError;
use crate::inside;

/// What happens to a bad sample: truncated, of a wrong checksum, not an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// The run ends with the sample's error. Evaluation's default.
    Fail,
    /// Another sample, chosen by the seed, stands in; the bad one is listed in a file.
    Substitute(Bounds),
}

/// When substitution gives up: when more samples of the set are bad than either bound allows. A sample that is met again,
/// in a later epoch, is not another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Most bad samples.
    pub count: u64,
    /// Largest share of the set's samples that may be bad, in `[0, 1]`. Above 0, a small set may have three bad ones, if
    /// these are not more than a quarter of it.
    pub rate: f64,
    /// The list of bad samples: one line each time, tab-separated: position, sample, error.
    pub list: PathBuf,
}

/// Bad samples of a small set that any rate above 0 allows.
const FEW: u64 = 3;

impl Bounds {
    /// Bad samples that a set of `samples` may have.
    pub fn allowed(&self, samples: u64) -> u64 {
        if self.rate <= 0.0 {
            return 0;
        }
        // 0.29 of a hundred are 29, though the product is a little less.
        let share = (self.rate * samples as f64 + 1e-6) as u64;
        self.count.min(share.max(FEW.min(samples / 4)))
    }
}

/// What has been replaced since the start of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Samples that could not be used, each counted once.
    pub bad_samples: u64,
    /// Times that another sample stood in for one of them.
    pub substituted: u64,
}

/// Counts bad samples, in the order of positions, and writes the list.
#[derive(Debug)]
pub(crate) struct Quarantine {
    bounds: Option<Bounds>,
    file: Option<File>,
    /// Samples in the set.
    samples: u64,
    bad: HashSet<u64>,
    replaced: Replaced,
}

impl Quarantine {
    /// Goes on at position `start` of a run on a set of `samples`, which had `replaced` so much before.
    ///
    /// The list is cut back to what lies before `start`: what comes after is met again. What is in the list counts; so
    /// does what a checkpoint knew, should the list be gone.
    pub(crate) fn new(policy: &Policy, samples: u64, start: u64, replaced: Replaced) -> Result<Self, StreamError> {
        let Policy::Substitute(bounds) = policy else {
            return Ok(Self { bounds: None, file: None, samples, bad: HashSet::new(), replaced });
        };
        let failed = |source| StreamError::List { path: bounds.list.clone(), source };
        let (bad, listed) = cut(&bounds.list, start).map_err(failed)?;
        let replaced = Replaced {
            bad_samples: replaced.bad_samples.max(bad.len() as u64),
            substituted: replaced.substituted.max(listed),
        };
        Ok(Self { bounds: Some(bounds.clone()), file: None, samples, bad, replaced })
    }

    /// Notes a sample in its turn, with the faults of those it stands in for.
    pub(crate) fn note(&mut self, position: u64, faults: &[(u64, String)]) -> Result<(), StreamError> {
        for (id, fault) in faults {
            self.replaced.substituted += 1;
            self.replaced.bad_samples += u64::from(self.bad.insert(*id));
            self.write(position, *id, fault)?;
            self.judge(position, fault)?;
        }
        Ok(())
    }

    /// What has been replaced up to the last sample that was noted.
    pub(crate) fn replaced(&self) -> Replaced {
        self.replaced
    }

    fn judge(&self, position: u64, example: &str) -> Result<(), StreamError> {
        let Some(bounds) = &self.bounds else { return Ok(()) };
        let allowed = bounds.allowed(self.samples);
        if self.replaced.bad_samples <= allowed {
            return Ok(());
        }
        Err(StreamError::TooManyBad {
            bad: self.replaced.bad_samples,
            allowed,
            samples: self.samples,
            read: position + 1,
            list: bounds.list.clone(),
            example: example.to_owned(),
        })
    }

    fn write(&mut self, position: u64, id: u64, fault: &str) -> Result<(), StreamError> {
        let Some(bounds) = &self.bounds else { return Ok(()) };
        let failed = |source| StreamError::List { path: bounds.list.clone(), source };
        let file = match &mut self.file {
            Some(file) => file,
            empty => empty.insert(open(&bounds.list, inside::append).map_err(failed)?),
        };
        let line = format!("{position}\t{id}\t{}\n", fault.replace(['\n', '\t'], " "));
        file.write_all(line.as_bytes()).map_err(failed)
    }
}

fn open(path: &Path, how: impl Fn(&Path, PathBuf) -> io::Result<File>) -> io::Result<File> {
    let name = path.file_name().unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    how(folder, name.into())
}

/// Cuts the list before the first line of position `start` or later, or of none; returns the samples and the number of
/// the lines that stay.
fn cut(list: &Path, start: u64) -> io::Result<(HashSet<u64>, u64)> {
    let file = match open(list, inside::open) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
        opened => opened?,
    };
    let whole = file.metadata()?.len();
    let (mut bad, mut lines, mut length) = (HashSet::new(), 0, 0);
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        match parse(&line) {
            Some((position, id)) if position < start => {
                bad.insert(id);
                lines += 1;
                length += line.len() as u64;
            }
            _ => break,
        }
        line.clear();
    }
    if length < whole {
        open(list, inside::append)?.set_len(length)?;
    }
    Ok((bad, lines))
}

/// Position and sample of a whole line.
fn parse(line: &[u8]) -> Option<(u64, u64)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let mut parts = line.split('\t');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn bounds(rate: f64, count: u64, list: PathBuf) -> Bounds {
        Bounds { count, rate, list }
    }

    #[test]
    fn a_share_of_the_set_may_be_bad_and_a_few_of_a_small_one() {
        let allowed = |rate, samples| bounds(rate, 1000, PathBuf::new()).allowed(samples);
        assert_eq!(allowed(0.01, 1_000), 10);
        assert_eq!(allowed(0.01, 200), 3);
        assert_eq!(allowed(0.01, 8), 2);
        assert_eq!(allowed(0.01, 3), 0);
        assert_eq!(allowed(0.29, 100), 29);
        assert_eq!(allowed(0.5, 200), 100);
        assert_eq!(allowed(1.0, 5), 5);
        assert_eq!(allowed(0.0, 1_000_000), 0);
        assert_eq!(allowed(0.01, 1_281_167), 1000);
    }

    #[test]
    fn a_sample_that_is_met_again_is_not_another_one() {
        let folder = TempDir::new().unwrap();
        let policy = Policy::Substitute(bounds(0.01, 1000, folder.path().join("list.tsv")));
        let mut quarantine = Quarantine::new(&policy, 200, 0, Replaced::default()).unwrap();
        for epoch in 0..50 {
            for id in [3, 5, 7] {
                quarantine.note(epoch * 200 + id, &[(id, "cut\tshort".into())]).unwrap();
            }
        }
        assert_eq!(quarantine.replaced(), Replaced { bad_samples: 3, substituted: 150 });
        let error = quarantine.note(10_000, &[(9, "cut short".into())]).unwrap_err();
        assert!(matches!(error, StreamError::TooManyBad { bad: 4, allowed: 3, samples: 200, read: 10_001, .. }));
        let said = error.to_string();
        assert!(said.contains("list.tsv") && said.contains("4 of 200") && said.contains("data.bad.max_rate"), "{said}");
    }

    #[test]
    fn the_list_is_cut_back_and_counted_when_a_run_goes_on() {
        let folder = TempDir::new().unwrap();
        let list = folder.path().join("list.tsv");
        let policy = Policy::Substitute(bounds(0.5, 1000, list.clone()));
        let note = |quarantine: &mut Quarantine, positions: std::ops::Range<u64>| {
            for position in positions {
                quarantine.note(position, &[(position % 4, "bad".into())]).unwrap();
            }
            quarantine.replaced()
        };
        let mut whole = Quarantine::new(&policy, 100, 0, Replaced::default()).unwrap();
        let all = note(&mut whole, 0..12);
        let text = fs::read_to_string(&list).unwrap();
        // Twelve positions were read, six of them trained on; then half a line.
        fs::write(&list, format!("{text}12\t0\tba")).unwrap();
        let before = Replaced { bad_samples: 4, substituted: 6 };
        let mut again = Quarantine::new(&policy, 100, 6, before).unwrap();
        assert_eq!(again.replaced(), before);
        assert_eq!(fs::read_to_string(&list).unwrap().lines().count(), 6);
        assert_eq!(note(&mut again, 6..12), all);
        assert_eq!(fs::read_to_string(&list).unwrap(), text);
        // A list that is gone takes no count with it.
        fs::remove_file(&list).unwrap();
        assert_eq!(Quarantine::new(&policy, 100, 6, before).unwrap().replaced(), before);
    }

    #[test]
    fn a_list_that_is_a_link_is_not_written_through() {
        let folder = TempDir::new().unwrap();
        let (list, victim) = (folder.path().join("list.tsv"), folder.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &list).unwrap();
        let policy = Policy::Substitute(bounds(1.0, 1000, list));
        let failed = Quarantine::new(&policy, 100, 0, Replaced::default());
        assert!(matches!(failed, Err(StreamError::List { .. })), "{failed:?}");
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }
}
