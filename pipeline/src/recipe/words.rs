//! What the parser says, in the words of TOML instead of those of Rust.

use toml::de::Error;

use super::reference;

/// What a text that is neither word nor table gets where a word belongs, and what a value gets there.
const NO_WORD: [&str; 2] = ["wanted string or table", "invalid type: unit variant, expected string only"];

/// The error with its line and place, if it has them, said for people who write recipes. `again` is the same error of a
/// recipe that was read as a table: it says which setting it is about.
pub(super) fn told(error: &Error, again: Option<&Error>) -> String {
    let (whole, message) = (error.to_string(), error.message());
    let same =
        |again: &&Error| again.message() == message || NO_WORD.contains(&message) && NO_WORD.contains(&again.message());
    let key = key_of(error).or_else(|| key_of(again.filter(same)?));
    let wanted = key.as_deref().and_then(wanted);
    whole.trim_end().replacen(message.trim_end(), &in_words(message, wanted), 1)
}

/// The key that an error is about, if it says so.
fn key_of(error: &Error) -> Option<String> {
    error.to_string().lines().find_map(|line| Some(line.strip_prefix("in `")?.strip_suffix('`')?.to_owned()))
}

/// What the setting `key` may be.
fn wanted(key: &str) -> Option<String> {
    let settings = reference::sections().into_iter().flat_map(|section| section.settings);
    settings.into_iter().find(|setting| setting.key == key).map(|setting| setting.wanted)
}

/// Whether something is not there yet.
pub(super) fn is_missing(error: &Error) -> bool {
    error.message().contains("missing field")
}

fn in_words(message: &str, wanted: Option<String>) -> String {
    let message = message.trim_end();
    let split = |begin: &str| message.strip_prefix(begin).and_then(|rest| rest.split_once(", expected "));
    let wanted = |expected: &str| wanted.clone().unwrap_or_else(|| wanted_in_words(expected));
    if NO_WORD.contains(&message) {
        return format!("give {}", wanted("one of the words that it takes"));
    }
    if let Some((found, expected)) = split("invalid type: ").or(split("invalid value: ")) {
        return match found_in_words(found) {
            Some(found) => format!("this is {found}; give {}", wanted(expected)),
            None => format!("give {}", wanted(expected)),
        };
    }
    if let Some((found, expected)) = split("invalid length ") {
        return format!("values: {found}; give {}", wanted(expected));
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("{key} is missing");
    }
    if let Some((key, expected)) = split("unknown field ") {
        return format!("there is no key {key} here, but {}", expected.trim_start_matches("one of "));
    }
    match split("unknown variant ") {
        Some((word, expected)) => format!("{word} is not known here; give {expected}"),
        None => message.to_owned(),
    }
}

/// `string "x"` and `floating point `1.5``, as people call them; `None` for what has no name of theirs.
fn found_in_words(found: &str) -> Option<String> {
    let kinds = [
        ("string ", "text"),
        ("floating point ", "a number with a fraction"),
        ("integer ", "a whole number"),
        ("boolean ", "a truth value"),
    ];
    let named = kinds.iter().find_map(|(kind, name)| Some((found.strip_prefix(kind)?, *name)));
    match (named, found) {
        (Some((value, name)), _) => Some(format!("{name} ({})", value.trim_matches('`'))),
        (None, "map") => Some("a table".to_owned()),
        (None, "sequence") => Some("a list".to_owned()),
        (None, _) => None,
    }
}

/// What a type of Rust is in TOML.
fn wanted_in_words(expected: &str) -> String {
    let expected = expected.trim_end();
    if let Some(length) = expected.strip_prefix("an array of length ") {
        return format!("a list of {length} values");
    }
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a string" | "str" | "a borrowed string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a recipe" | "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use crate::recipe::Recipe;

    /// No word of Rust is left in what the parser says, from a file or from `--set`.
    #[test]
    fn errors_speak_of_toml() {
        let base = "[model]\nname = 'atto'\n[finetune]\nepochs = 1\nbatch = 1\nbase_lr = 1e-3\nstart = 'scratch'\n";
        for (key, value, words) in [
            ("finetune.epochs", "'many'", "this is text (\"many\"); give a whole number from 1 to 1000000000"),
            ("finetune.epochs", "1.5", "a number with a fraction (1.5); give a whole number from 1"),
            ("finetune.epochs", "-1", "a whole number (-1); give a whole number from 1"),
            ("finetune.base_lr", "true", "a truth value (true); give a number from 1e-30"),
            ("finetune.ema", "3", "a whole number (3); give a table"),
            ("finetune.start", "3", "give \"pretrained\" or \"scratch\""),
            ("finetune.start", "'scratsh'", "`scratsh` is not known here; give `pretrained` or `scratch`"),
            ("finetune.epocs", "3", "there is no key `epocs` here"),
            ("augment.flip", "1", "a whole number (1); give true or false"),
            ("augment.crop_scale", "[0.1]", "values: 1; give a list of 2 numbers from 0.0001 to 1"),
            ("augment.crop_scale", "'all'", "text (\"all\"); give a list of 2 numbers"),
            ("data.train", "3", "give a pattern of files, or a list of such patterns"),
            ("data.mean", "0.5", "a number with a fraction (0.5); give a list of numbers"),
            ("model.name", "3", "a whole number (3); give text"),
            ("model", "3", "a whole number (3); give a table"),
            ("augment.rand_augment", "{ std = 1 }", "`magnitude` is missing"),
        ] {
            let set = Recipe::parse("r", base, &[format!("{key}={value}")]).unwrap_err().to_string();
            let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
            let text = match section {
                "finetune" => {
                    base.lines().filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\n")
                        + &format!("\n{name} = {value}")
                }
                "" => format!("{name} = {value}"),
                section => format!("[{section}]\n{name} = {value}"),
            };
            let file = Recipe::parse("r", &text, &[""; 0]).unwrap_err().to_string();
            for said in [&set, &file] {
                assert!(said.contains(words), "{key} = {value}: no {words:?} in: {said}");
                for rust in ["invalid type", "expected", "struct", "f64", "u64", "variant", "field"] {
                    assert!(!said.contains(rust), "{key} = {value}: {rust:?} in: {said}");
                }
            }
        }
    }
}
