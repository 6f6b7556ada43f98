//! The variants that are compiled in, by name.

use convnext_core::{Entry, plan::Plan};
use convnext_pipeline::recipe::nearest;

use crate::{
    failure::{Failure, Outcome},
    numbers::short,
};

/// The variants that the commands know.
#[derive(Debug, Clone, Copy)]
pub struct Registry<'a> {
    entries: &'a [Entry],
}

impl<'a> Registry<'a> {
    /// The variants `entries`, in the order in which lists show them.
    ///
    /// # Errors
    /// [`Failure::Usage`] where two have one name: the second could not be reached.
    pub fn new(entries: &'a [Entry]) -> Outcome<Self> {
        for (second, entry) in entries.iter().enumerate() {
            let name = entry.plan.name;
            if let Some(first) = entries[..second].iter().position(|entry| entry.plan.name == name) {
                return Err(Failure::usage(format!(
                    "two of this program's variants are called `{name}`: {}, and {}; the second could not be reached, so \
                     rename one of them",
                    described(&entries[first], first),
                    described(entry, second)
                )));
            }
        }
        Ok(Self { entries })
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
        let suggestion = nearest(wanted, names()).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
        let known = names().collect::<Vec<_>>().join(", ");
        format!("no model `{name}`{suggestion}\n  models: {known}")
    }
}

/// `number 2 (For small pictures; 16x16x1, 4 classes, 9.36 k parameters)`.
fn described(entry: &Entry, index: usize) -> String {
    let Plan { about, height, width, channels, classes, .. } = entry.plan;
    let parameters = entry.plan.classifier().parameters();
    let about = about.lines().next().map(str::trim).filter(|about| !about.is_empty());
    let about = about.map_or_else(String::new, |about| format!("{}; ", about.trim_end_matches('.')));
    let size = format!("{height}x{width}x{channels}, {classes} classes, {} parameters", short(parameters));
    format!("number {} ({about}{size})", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_variants_of_one_name_are_both_told() {
        let mut entries = crate::models::builtin();
        assert_eq!(Registry::new(&entries).unwrap().entries().len(), entries.len());
        entries.push(entries[1]);
        let Err(Failure::Usage(what)) = Registry::new(&entries) else { panic!() };
        let name = entries[1].plan.name;
        let last = format!("number {}", entries.len());
        assert!(what.contains(name) && what.contains("number 2") && what.contains(&last), "{what}");
    }
}
