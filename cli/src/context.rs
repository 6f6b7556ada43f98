//! What every command can rely on.

use crate::{Failure, failure::Outcome, registry::Registry};

/// What every command can rely on.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What this program is called.
    pub name: &'a str,
    /// Its version, if it is of another package.
    pub version: Option<&'a str>,
    /// The variants that are compiled in.
    pub registry: Registry<'a>,
    /// What `--threads` said; the global pool of rayon has been built accordingly.
    pub threads: Option<usize>,
}

impl Context<'_> {
    /// This program's command line.
    pub(crate) fn command(&self) -> clap::Command {
        crate::command(self.name, self.version)
    }

    /// Sets the number of computing threads to the recipe's, 0 for one a core, unless the command line gave one.
    pub(crate) fn compute(&self, threads: usize) -> Outcome {
        if self.threads.is_some() || threads == 0 {
            return Ok(());
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().map_err(|error| Failure::because("the threads cannot be started", error))
    }
}
