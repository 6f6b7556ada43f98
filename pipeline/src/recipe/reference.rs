//! Every setting of a recipe, for people and for editors: what it is called, what it may be, what it is if nothing is said,
//! and what it does. All of it comes from the types that recipes are read into.

use serde_json::{Map, Value as Json, json};

use crate::{
    settings::{Augment, Checkpoint, Data, Evaluate, Machine, Model, Optimizer, Stop, schema},
    tasks,
};

/// A section of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    /// Its name, e.g. `optimizer`; empty for what stands before all sections.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// Its settings, each table before what is in it.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its dotted name, as `--set` takes it.
    pub key: String,
    /// Type and range, in words.
    pub wanted: String,
    /// What it is if nothing is said, as TOML; `None` where the recipe has to say it, or where its absence means something.
    pub default: Option<String>,
    /// Whether it has to be there where its table is.
    pub required: bool,
    /// What it does.
    pub about: String,
    /// The words that it takes, with their meaning, if it takes words.
    pub words: Vec<(String, String)>,
}

/// All sections, in the order in which recipes are written.
pub fn sections() -> Vec<Section> {
    schemas().into_iter().map(|(name, schema)| Section::of(name, &schema)).collect()
}

/// The JSON schema of a recipe.
pub fn schema() -> Json {
    let mut properties = Map::new();
    for (name, schema) in schemas() {
        match name {
            "" => properties.extend(schema["properties"].as_object().cloned().unwrap_or_default()),
            name => drop(properties.insert(name.to_owned(), schema)),
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of convnext",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

fn schemas() -> Vec<(&'static str, Json)> {
    let seed =
        json!({ "type": "integer", "minimum": 0, "default": 0, "description": "Seed of every random decision." });
    let before = json!({ "description": "What stands before all sections.", "properties": { "seed": seed } });
    let mut all = vec![("", before), ("model", schema::of::<Model>()), ("data", schema::of::<Data>())];
    all.extend(tasks::Section::schemas());
    all.extend([
        ("evaluate", schema::of::<Evaluate>()),
        ("optimizer", schema::of::<Optimizer>()),
        ("augment", schema::of::<Augment>()),
        ("checkpoint", schema::of::<Checkpoint>()),
        ("stop", schema::of::<Stop>()),
        ("machine", schema::of::<Machine>()),
    ]);
    all
}

impl Section {
    fn of(name: &str, schema: &Json) -> Self {
        let mut settings = Vec::new();
        list(name, schema, &mut settings);
        Self { name: name.to_owned(), about: about(schema), settings }
    }

    /// The section and the tables in it, by their dotted names, each with its keys.
    pub(super) fn tables(&self) -> Vec<(String, Vec<&str>)> {
        let mut tables: Vec<(String, Vec<&str>)> = Vec::new();
        for setting in &self.settings {
            let (table, key) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
            match tables.iter_mut().find(|(name, _)| name == table) {
                Some((_, keys)) => keys.push(key),
                None => tables.push((table.to_owned(), vec![key])),
            }
        }
        tables
    }
}

/// Adds the settings of a table and of those in it.
fn list(table: &str, schema: &Json, settings: &mut Vec<Setting>) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    for (name, schema) in schema::properties(schema).into_iter().flatten() {
        let key = if table.is_empty() { name.clone() } else { format!("{table}.{name}") };
        let inner = schema::properties(schema).is_some();
        settings.push(Setting {
            wanted: schema::wanted(schema),
            default: schema.get("default").filter(|default| !default.is_null() && !inner).map(Json::to_string),
            required: required.contains(&name.as_str()),
            about: about(schema),
            words: words(schema),
            key: key.clone(),
        });
        if inner {
            list(&key, schema, settings);
        }
    }
}

/// A doc comment on one line.
fn about(schema: &Json) -> String {
    let text = schema.get("description").and_then(Json::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn words(schema: &Json) -> Vec<(String, String)> {
    let word = |schema: &Json| Some((schema.get("const")?.as_str()?.to_owned(), about(schema)));
    schema.get("oneOf").and_then(Json::as_array).into_iter().flatten().filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn every_setting_says_what_it_is_and_does() {
        let sections = sections();
        let names: Vec<&str> = sections.iter().map(|section| section.name.as_str()).collect();
        assert!(names.contains(&"pretrain") && names.contains(&"finetune") && names.contains(&"machine"));
        for setting in sections.iter().flat_map(|section| &section.settings) {
            assert!(!setting.about.is_empty() && setting.wanted != "a value", "{setting:?}");
            assert!(!setting.about.contains("[`") && !setting.about.contains("::"), "{setting:?}");
        }
        let of = |key: &str| sections.iter().flat_map(|s| &s.settings).find(|setting| setting.key == key).unwrap();
        let clip = of("optimizer.clip");
        assert_eq!((clip.wanted.as_str(), &clip.default), ("a number from 1e-9 to 1000000000", &None));
        assert_eq!(of("finetune.ema.warmup").default.as_deref(), Some("false"));
        assert_eq!(of("model.precision").words.len(), 3);
        assert!(of("finetune.epochs").required && !of("finetune.mixup").required);
    }

    /// A default that is written down changes nothing.
    #[test]
    fn defaults_are_those_of_the_parser() {
        let text = "[model]\nname = 'a'\n[finetune]\nepochs = 9\nbatch = 1\nbase_lr = 1e-3\nstart = 'scratch'\n";
        let plain = Recipe::parse("r", text, &[""; 0]).unwrap().resolve().unwrap();
        let mut tried = 0;
        for setting in sections().iter().flat_map(|section| &section.settings) {
            let Some(default) = setting
                .default
                .as_ref()
                .filter(|_| !setting.key.starts_with("pretrain.") && !setting.key.starts_with("stop."))
            else {
                continue;
            };
            if setting.key.split('.').count() == 2 || setting.key.starts_with("data.bad.") {
                let set = format!("{}={default}", setting.key);
                assert_eq!(Recipe::parse("r", text, &[&set]).unwrap().resolve().unwrap(), plain, "{set}");
                tried += 1;
            }
        }
        assert!(tried > 20);
    }

    #[test]
    fn the_schema_names_every_section() {
        let schema = schema();
        for section in sections().iter().filter(|section| !section.name.is_empty()) {
            assert_eq!(schema["properties"][&section.name]["type"], "object", "{}", section.name);
        }
        assert_eq!(schema["properties"]["seed"]["default"], 0);
    }
}
