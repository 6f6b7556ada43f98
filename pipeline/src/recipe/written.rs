//! A recipe as it is written in TOML. Nothing is checked yet but names and types.

use std::{fmt, sync::LazyLock};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, Visitor},
};

use crate::{
    settings::{Augment, Checkpoint, Data, Evaluate, Machine, Model, Optimizer, Stop},
    tasks::{self, Section},
};

/// The file. One section says what is done: that of a task, or `evaluate`, which may also stand beside a task's that is
/// measured on the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recipe {
    /// Seed of every random decision; 0 if absent.
    pub seed: Option<u64>,
    /// `[model]`.
    pub model: Option<Model>,
    /// `[data]`.
    pub data: Data,
    /// The sections of tasks, such as `[pretrain]` and `[finetune]`.
    pub tasks: Vec<Section>,
    /// `[evaluate]`.
    pub evaluate: Option<Evaluate>,
    /// `[optimizer]`.
    pub optimizer: Option<Optimizer>,
    /// `[augment]`.
    pub augment: Option<Augment>,
    /// `[checkpoint]`.
    pub checkpoint: Option<Checkpoint>,
    /// `[stop]`.
    pub stop: Option<Stop>,
    /// `[machine]`.
    pub machine: Machine,
}

/// The keys of the file.
static KEYS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let tasks = tasks::ALL.iter().map(|task| task.name());
    let after = ["evaluate", "optimizer", "augment", "checkpoint", "stop", "machine"];
    ["seed", "model", "data"].into_iter().chain(tasks).chain(after).collect()
});

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("Recipe", &KEYS, Sections)
    }
}

/// Reads the sections one by one.
struct Sections;

impl<'de> Visitor<'de> for Sections {
    type Value = Recipe;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a recipe")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Recipe, A::Error> {
        let mut recipe = Recipe::default();
        while let Some(key) = map.next_key_seed(Key)? {
            match key {
                "seed" => recipe.seed = Some(map.next_value()?),
                "model" => recipe.model = Some(map.next_value()?),
                "data" => recipe.data = map.next_value()?,
                "evaluate" => recipe.evaluate = Some(map.next_value()?),
                "optimizer" => recipe.optimizer = Some(map.next_value()?),
                "augment" => recipe.augment = Some(map.next_value()?),
                "checkpoint" => recipe.checkpoint = Some(map.next_value()?),
                "stop" => recipe.stop = Some(map.next_value()?),
                "machine" => recipe.machine = map.next_value()?,
                task => recipe.tasks.push(Section::read(task, &mut map)?),
            }
        }
        recipe.tasks.sort_by_key(|section| tasks::ALL.iter().position(|task| task.name() == section.task().name()));
        Ok(recipe)
    }
}

/// Reads a key of the file; the mistake is blamed on the key, with its line.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key of a recipe")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<&'static str, E> {
        let known = KEYS.iter().find(|key| **key == name);
        known.copied().ok_or_else(|| E::unknown_field(name, &KEYS))
    }
}
