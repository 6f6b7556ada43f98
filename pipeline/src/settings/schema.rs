//! What a section may hold, from the type that it is read into: names, types, ranges, defaults and meanings are written there
//! and nowhere else. Checks, messages and the reference of settings read this.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value as Json;
use toml::Value;

/// The JSON schema of a section, with everything that it refers to written out in it.
pub(crate) fn of<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Calls `found` with the dotted name of every value in `value` that `schema` has no room for, the value, and what may stand
/// there. Unknown names and other types are passed over: the parser has refused them.
pub(crate) fn faults(key: &str, value: &Value, schema: &Json, found: &mut impl FnMut(String, &Value, String)) {
    if let Value::Table(table) = value {
        for (name, value) in table {
            if let Some(schema) = property(schema, name) {
                faults(&format!("{key}.{name}"), value, schema, found);
            }
        }
    } else if !allows(schema, value) {
        found(key.to_owned(), value, wanted(schema));
    }
}

/// The schema of a key of a table, which may be an optional one.
fn property<'a>(schema: &'a Json, name: &str) -> Option<&'a Json> {
    properties(schema)?.get(name)
}

/// The schemas of the keys of a table, which may be an optional one; `None` where the schema is no table's.
pub(crate) fn properties(schema: &Json) -> Option<&serde_json::Map<String, Json>> {
    let own = schema.get("properties").and_then(Json::as_object);
    own.or_else(|| alternatives(schema).find_map(properties))
}

/// The schemas of which a value has to fit one, if there are some: those that are no `null`, which TOML does not have.
fn alternatives(schema: &Json) -> impl Iterator<Item = &Json> {
    let lists = ["anyOf", "oneOf"].into_iter().filter_map(|key| schema.get(key)?.as_array());
    lists.flatten().filter(|schema| schema.get("type").is_none_or(|kind| kind != "null"))
}

fn allows(schema: &Json, value: &Value) -> bool {
    let mut alternatives = alternatives(schema).peekable();
    if alternatives.peek().is_some() {
        return alternatives.any(|schema| allows(schema, value));
    }
    let number = match value {
        Value::Integer(number) => *number as f64,
        Value::Float(number) => *number,
        Value::Array(values) => {
            return schema.get("items").is_none_or(|items| values.iter().all(|value| allows(items, value)));
        }
        _ => return true,
    };
    if let Some(only) = schema.get("const") {
        return only.as_f64() == Some(number);
    }
    let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
    // A setting of type f32 holds the number that is next to its bound.
    let equal = |bound: f64| {
        number == bound || number.is_finite() && number as f32 == bound as f32 && (number as f32) as f64 == number
    };
    bound("minimum").is_none_or(|least| number >= least || equal(least))
        && bound("maximum").is_none_or(|most| number <= most || equal(most))
}

/// What may stand there, in words: `a whole number from 1 to 15`.
pub(crate) fn wanted(schema: &Json) -> String {
    let alternatives: Vec<String> = alternatives(schema).map(wanted).collect();
    if let [before @ .., last] = &alternatives[..] {
        return if before.is_empty() { last.clone() } else { format!("{} or {last}", before.join(", ")) };
    }
    if let Some(only) = schema.get("const") {
        return only.to_string();
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        let words: Vec<String> = words.iter().filter(|word| !word.is_null()).map(Json::to_string).collect();
        return words.join(" or ");
    }
    match kind(schema) {
        Some("string") => "text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => format!("a whole number{}", range(schema)),
        Some("number") => format!("a number{}", range(schema)),
        Some("array") => list(schema),
        Some("object") => "a table".to_owned(),
        _ => "a value".to_owned(),
    }
}

/// The type, but for `null`.
fn kind(schema: &Json) -> Option<&str> {
    match schema.get("type")? {
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    }
}

fn range(schema: &Json) -> String {
    let bound = |key: &str| schema.get(key).filter(|bound| !bound.is_null()).map(short);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(", {least} or more"),
        (None, Some(most)) => format!(" up to {most}"),
        (None, None) => String::new(),
    }
}

/// A number without needless zeros: `1` for 1.0.
fn short(number: &Json) -> String {
    let text = number.to_string().replace("e+", "e");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// `a list of 2 numbers from 0 to 1`.
fn list(schema: &Json) -> String {
    let items = schema.get("items").map_or_else(|| "a value".to_owned(), wanted);
    let many = match items.strip_prefix("a whole number").or(items.strip_prefix("a number")) {
        Some(range) if items.starts_with("a whole") => format!("whole numbers{range}"),
        Some(range) => format!("numbers{range}"),
        None => format!("{items}s"),
    };
    let count = |key: &str| schema.get(key).and_then(Json::as_u64);
    match count("minItems").filter(|least| Some(*least) == count("maxItems")) {
        Some(count) => format!("a list of {count} {many}"),
        None => format!("a list of {many}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::settings::{Augment, Data, Optimizer};

    #[test]
    fn a_range_is_said_in_words() {
        for (schema, words) in [
            (json!({"type": "integer", "minimum": 1, "maximum": 15}), "a whole number from 1 to 15"),
            (json!({"type": ["number", "null"], "minimum": 1e-9, "maximum": 1e9}), "a number from 1e-9 to 1000000000"),
            (json!({"type": "integer", "minimum": 0}), "a whole number, 0 or more"),
            (
                json!({"type": "number", "anyOf": [{"const": 0}, {"type": "number", "minimum": 0.01}]}),
                "0 or a number, 0.01 or more",
            ),
            (
                json!({"oneOf": [{"const": "stop"}, {"const": "skip"}, {"const": "rollback"}]}),
                "\"stop\", \"skip\" or \"rollback\"",
            ),
            (json!({"anyOf": [{"type": "object", "properties": {}}, {"type": "null"}]}), "a table"),
        ] {
            assert_eq!(wanted(&schema), words);
        }
        let keys = of::<Optimizer>();
        assert_eq!(wanted(&keys["properties"]["betas"]), "a list of 2 numbers from 0 to 0.9999999");
        assert_eq!(wanted(&of::<Data>()["properties"]["train"]), "text or a list of texts");
    }

    /// The ends of every range are inside, and what is next to them is not.
    #[test]
    fn ranges_hold_their_ends() {
        let found = |schema: &Json, text: &str| {
            let table: toml::Table = toml::from_str(text).unwrap();
            let mut keys = Vec::new();
            faults("x", &Value::Table(table), schema, &mut |key, _, _| keys.push(key));
            keys
        };
        let augment = of::<Augment>();
        for fine in ["pad = 4096", "erasing = 1.0", "crop_scale = [1e-4, 1.0]", "rand_augment = { operations = 15 }"] {
            assert!(found(&augment, fine).is_empty(), "{fine}");
        }
        for (wrong, key) in [
            ("pad = 4097", "x.pad"),
            ("erasing = nan", "x.erasing"),
            ("crop_scale = [9e-5, 1.0]", "x.crop_scale"),
            ("rand_augment = { operations = 16 }", "x.rand_augment.operations"),
        ] {
            assert_eq!(found(&augment, wrong), [key], "{wrong}");
        }
        let nearest = Value::Float(f64::from(1e-6f32));
        assert!(allows(&of::<Data>()["properties"]["std"], &Value::Array(vec![nearest])));
    }
}
