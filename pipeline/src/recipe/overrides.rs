//! `--set key=value` on top of a recipe.

use serde::de::Error;
use toml::{Table, Value};

use super::{Recipe, RecipeError, suggest, words};

/// Puts each `key=value` into the table, in order, then reads the table as a recipe.
pub(super) fn apply<S: AsRef<str>>(mut table: Table, sets: &[S]) -> Result<Recipe, RecipeError> {
    let mut recipe = Err((String::new(), toml::de::Error::custom("nothing is set")));
    for set in sets {
        let set = set.as_ref();
        let fail = |message: String| RecipeError::Set { set: set.into(), message };
        let (key, value) = parse(set).map_err(fail)?;
        put(&mut table, key, value).map_err(fail)?;
        recipe = table.clone().try_into::<Recipe>().map_err(|error| (set.to_owned(), error));
        // What is missing may be set by the next one; anything else is this one's mistake.
        if let Err((_, error)) = &recipe
            && !words::is_missing(error)
        {
            break;
        }
    }
    recipe.map_err(|(set, error)| {
        let message = format!("{}{}", words::told(&error, None), suggest::hint(error.message()));
        RecipeError::Set { set, message }
    })
}

/// Key and value; no value takes the key out.
fn parse(set: &str) -> Result<(&str, Option<Value>), String> {
    let (key, value) = set.split_once('=').ok_or("no `=`; write it as section.key=value")?;
    let (key, value) = (key.trim(), value.trim());
    if key.split('.').any(str::is_empty) {
        return Err("the key has an empty part; write it as section.key=value".into());
    }
    Ok((key, (!value.is_empty()).then(|| parse_value(value))))
}

/// A TOML value; a word that is none is a string, so that quotes need no quoting in a shell.
fn parse_value(text: &str) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let single = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    single.unwrap_or_else(|| Value::String(text.into()))
}

fn put(table: &mut Table, key: &str, value: Option<Value>) -> Result<(), String> {
    let Some((section, rest)) = key.split_once('.') else {
        match value {
            Some(value) => table.insert(key.into(), value),
            None => table.remove(key),
        };
        return Ok(());
    };
    let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    let inner = inner.as_table_mut().ok_or_else(|| format!("`{section}` is a value, not a section"))?;
    put(inner, rest, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_toml_and_words_are_strings() {
        assert_eq!(parse_value("3"), Value::Integer(3));
        assert_eq!(parse_value("1e-3"), Value::Float(1e-3));
        assert_eq!(parse_value("true"), Value::Boolean(true));
        assert_eq!(parse_value("[0.5, 1]").as_array().unwrap().len(), 2);
        assert_eq!(parse_value("atto"), Value::String("atto".into()));
        assert_eq!(parse_value("\"atto\""), Value::String("atto".into()));
        assert_eq!(parse_value("shards/train-*.tar"), Value::String("shards/train-*.tar".into()));
        assert_eq!(parse_value("1\nb = 2"), Value::String("1\nb = 2".into()));
    }

    #[test]
    fn dotted_keys_make_their_sections() {
        let mut table = Table::new();
        put(&mut table, "a.b.c", Some(Value::Integer(1))).unwrap();
        assert_eq!(table["a"]["b"]["c"], Value::Integer(1));
        put(&mut table, "a.b.c", None).unwrap();
        assert!(table["a"]["b"].as_table().unwrap().is_empty());
        assert!(put(&mut table, "a.b", Some(Value::Integer(1))).is_ok());
        assert!(put(&mut table, "a.b.c", Some(Value::Integer(1))).is_err());
    }
}
