//! Which images a run is made of: told apart from others when it goes on.

use convnext_data::{DECODER, Error, Mixing, ShardSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Samples of a set that are looked at; of a larger one, so many at even distances.
const LOOKED_AT: u64 = 1 << 20;

/// The data of a run. Where they lie and when they were written is no part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// What turned bytes into pixels.
    pub decoder: String,
    /// The images that are trained on.
    pub train: SetPrint,
    /// Blocks of their order. Where they are not noted, they were those of a set that is mixed.
    #[serde(default)]
    pub mixing: Mixing,
    /// The images that are measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<SetPrint>,
}

/// One set of shards or folders. Of files in folders the bytes are not looked at: one that changes and keeps its name and
/// length is not seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPrint {
    /// Samples.
    pub samples: u64,
    /// Largest label + 1.
    pub classes: u32,
    /// What the classes are called, if they have names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// SHA-256, in hexadecimal, of label, length and checksum (of a file in a folder: name) of the samples, and of checksums
    /// of further targets, in their order.
    pub contents: String,
}

impl Fingerprint {
    /// Of the sets of a run, from their indices alone.
    ///
    /// # Errors
    /// A record of an index is damaged.
    pub fn of(train: &ShardSet, validation: Option<&ShardSet>) -> Result<Self, Error> {
        let validation = validation.map(SetPrint::of).transpose()?;
        Ok(Self { decoder: DECODER.to_owned(), train: SetPrint::of(train)?, mixing: train.mixing()?, validation })
    }
}

impl SetPrint {
    fn of(set: &ShardSet) -> Result<Self, Error> {
        let mut hash = Sha256::new();
        let step = set.len().div_ceil(LOOKED_AT).max(1);
        for id in (0..set.len()).step_by(step as usize) {
            let sample = set.sample(id)?;
            hash.update(sample.label().map_or(u64::MAX, u64::from).to_le_bytes());
            hash.update(sample.size().to_le_bytes());
            hash.update(sample.identity().to_le_bytes());
            sample.target_checksums()?.for_each(|checksum| hash.update(checksum.to_le_bytes()));
        }
        Ok(Self {
            samples: set.len(),
            classes: set.classes(),
            names: set.class_names().map(<[String]>::to_vec),
            contents: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// What is other than in `was`, one line each.
    pub fn differences(&self, was: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.samples != was.samples {
            lines.push(format!("{} samples, was {}", self.samples, was.samples));
        }
        if self.classes != was.classes {
            lines.push(format!("{} classes, was {}", self.classes, was.classes));
        }
        if let (Some(now), Some(then)) = (&self.names, &was.names)
            && let Some(class) = (0..now.len().max(then.len())).find(|&class| now.get(class) != then.get(class))
        {
            let name = |names: &[String]| names.get(class).map_or("no name".to_owned(), |name| format!("`{name}`"));
            lines.push(format!("class {class} is {}, was {}", name(now), name(then)));
        }
        if lines.is_empty() && self.contents != was.contents {
            lines.push("as many samples, but other ones, or in another order".to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(samples: u64, names: &[&str], contents: &str) -> SetPrint {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        SetPrint { samples, classes: 2, names: Some(names), contents: contents.to_owned() }
    }

    #[test]
    fn a_run_that_notes_no_blocks_had_the_usual_ones() {
        let print = serde_json::to_value(print(16, &["ant"], "a")).unwrap();
        let old = serde_json::json!({ "decoder": "a decoder", "train": print });
        let read: Fingerprint = serde_json::from_value(old).unwrap();
        assert_eq!(read.mixing, Mixing::default());
    }

    #[test]
    fn what_differs_is_said() {
        let was = print(16, &["ant", "bee"], "a");
        assert!(was.differences(&was).is_empty());
        assert_eq!(print(8, &["ant", "bee"], "b").differences(&was), ["8 samples, was 16"]);
        assert_eq!(print(16, &["ant", "cat"], "a").differences(&was), ["class 1 is `cat`, was `bee`"]);
        assert_eq!(print(16, &["ant"], "a").differences(&was), ["class 1 is no name, was `bee`"]);
        let unnamed = SetPrint { names: None, ..was.clone() };
        assert!(unnamed.differences(&was).is_empty() && was.differences(&unnamed).is_empty());
        let other = print(16, &["ant", "bee"], "b").differences(&was);
        assert!(other.len() == 1 && other[0].contains("another order"), "{other:?}");
    }
}
