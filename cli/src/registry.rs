//! The variants that are compiled in, by name.

use convnext_core::Entry;

use crate::failure::{Failure, Outcome};

/// The variants that the commands know.
#[derive(Debug, Clone, Copy)]
pub struct Registry<'a> {
    entries: &'a [Entry],
}

/// Names at least so alike are suggested.
const ALIKE: f64 = 0.7;

impl<'a> Registry<'a> {
    /// The variants `entries`, in the order in which lists show them.
    pub fn new(entries: &'a [Entry]) -> Self {
        Self { entries }
    }

    /// All of them.
    pub fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// The variant called `name`, in upper or lower case.
    ///
    /// # Errors
    /// [`Failure::Usage`] with the names there are, and the one that was probably meant.
    pub fn find(&self, name: &str) -> Outcome<&'a Entry> {
        let wanted = name.to_lowercase();
        let found = self.entries.iter().find(|entry| entry.plan.name == wanted);
        found.ok_or_else(|| Failure::usage(self.unknown(name, &wanted)))
    }

    fn unknown(&self, name: &str, wanted: &str) -> String {
        let names = || self.entries.iter().map(|entry| entry.plan.name);
        let alike = names().map(|known| (strsim::jaro_winkler(known, wanted), known));
        let best = alike.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|&(alike, _)| alike >= ALIKE);
        let suggestion = best.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"));
        let known = names().collect::<Vec<_>>().join(", ");
        format!("no model `{name}`{suggestion}\n  models: {known}")
    }
}
