//! What a run takes, over all its sittings.

use std::time::{Instant, SystemTime};

use cpu_time::ProcessTime;

use crate::run_dir::Spent;

/// Time since a sitting began, on top of what earlier ones took.
#[derive(Debug)]
pub(crate) struct Clock {
    before: Spent,
    wall: Instant,
    cpu: ProcessTime,
}

impl Clock {
    /// Begins a sitting.
    pub(crate) fn start(before: Spent) -> Self {
        let now = || humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let started = before.started.clone().or_else(|| Some(now()));
        Self { before: Spent { started, ..before }, wall: Instant::now(), cpu: ProcessTime::now() }
    }

    /// All that has been taken so far.
    pub(crate) fn spent(&self) -> Spent {
        Spent {
            seconds: self.before.seconds + self.wall.elapsed().as_secs_f64(),
            cpu_seconds: self.before.cpu_seconds + self.cpu.elapsed().as_secs_f64(),
            started: self.before.started.clone(),
        }
    }
}
