//! A command that is told what a run does, line by line: what other trackers hang on.
//!
//! The command reads JSON lines on its standard input: one with `"kind":"start"`, every line of `metrics.jsonl` as it is
//! written, and one with `"kind":"end"` or `"kind":"failed"`; then its input ends. It can neither hold the run up nor end it:
//! lines that it does not take in time are left out, and that is told.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam::channel::{self, Receiver, Sender, TrySendError};
use serde::Serialize;

use crate::tell;

/// Lines that may wait to be taken.
const WAITING: usize = 4096;
/// How long the command may take once its input has ended.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A command that is under way.
#[derive(Debug)]
pub(crate) struct Notifier {
    lines: Lines,
    child: Child,
    writer: JoinHandle<()>,
}

/// Where lines for the command go.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    to: Sender<Vec<u8>>,
    left_out: Arc<AtomicU64>,
}

impl Notifier {
    /// Starts `command` in a shell. What it writes goes to this program's standard error.
    ///
    /// # Errors
    /// When there is no shell.
    pub(crate) fn start(command: &str) -> io::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(io::stderr())
            // A signal from the terminal is for the run, which then ends the command's input.
            .process_group(0)
            .spawn()?;
        let input = child.stdin.take().expect("it is piped");
        let (to, from) = channel::bounded(WAITING);
        let left_out = Arc::new(AtomicU64::new(0));
        let lines = Lines { to, left_out: left_out.clone() };
        let writer = thread::Builder::new().name("notify".to_owned()).spawn(move || write(input, &from, &left_out))?;
        Ok(Self { lines, child, writer })
    }

    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Ends the command's input and waits for it, not for ever.
    pub(crate) fn finish(self) {
        let Self { lines, mut child, writer } = self;
        let Lines { to, left_out } = lines;
        drop(to);
        let begun = Instant::now();
        let ended = loop {
            match child.try_wait() {
                Ok(None) if begun.elapsed() < PATIENCE => thread::sleep(LOOK_EVERY),
                ended => break ended,
            }
        };
        match ended {
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => tell::warn(format_args!("--notify: the command ended with {status}")),
            Ok(None) => {
                tell::warn(format_args!("--notify: the command did not end within {PATIENCE:?}; it is stopped"));
                // It may have ended by itself just now.
                let _ = child.kill();
                let _ = child.wait();
            }
            Err(error) => tell::warn(format_args!("--notify: {error}")),
        }
        // With the command gone, its input cannot hold the thread up.
        if writer.join().is_err() {
            tell::warn("--notify: lines were lost");
        }
        match left_out.load(Ordering::Relaxed) {
            0 => {}
            count => {
                tell::warn(format_args!("--notify: the command did not take {count} lines; metrics.jsonl has them"))
            }
        }
    }
}

impl Lines {
    /// Passes a record on, as one line of JSON.
    pub(crate) fn send(&self, record: &impl Serialize) {
        let mut line = serde_json::to_vec(record).expect("a record is JSON");
        line.push(b'\n');
        self.send_line(line);
    }

    /// Passes a line on that is JSON already.
    pub(crate) fn send_line(&self, line: Vec<u8>) {
        match self.to.try_send(line) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Writes lines until there are no more. A command that has ended takes none: they are counted.
fn write(mut input: ChildStdin, lines: &Receiver<Vec<u8>>, left_out: &AtomicU64) {
    let mut takes = true;
    for line in lines {
        takes = takes && input.write_all(&line).is_ok();
        if !takes {
            left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_every_line_and_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("lines");
        let notifier = Notifier::start(&format!("cat > '{}'", out.display())).unwrap();
        for step in 0..3 {
            notifier.lines().send(&serde_json::json!({ "step": step }));
        }
        notifier.finish();
        assert_eq!(std::fs::read_to_string(out).unwrap(), "{\"step\":0}\n{\"step\":1}\n{\"step\":2}\n");
    }

    #[test]
    fn a_command_that_takes_nothing_holds_nobody_up() {
        let notifier = Notifier::start("exit 3").unwrap();
        let left_out = notifier.lines().left_out.clone();
        for step in 0..2 * WAITING {
            notifier.lines().send(&serde_json::json!({ "step": step, "text": "x".repeat(100) }));
        }
        notifier.finish();
        assert!(left_out.load(Ordering::Relaxed) > 0);
    }
}
