//! Labels as tars hold them: a `.cls` member, or one of a few keys of a `.json` member.

use serde::Deserialize;
use serde_json::Value;

use super::{TarFault, names::composed};

/// The keys of a `.json` member that hold a label: a class number, or the name of a class.
pub(super) const JSON_KEYS: [&str; 4] = ["label", "cls", "class", "target"];

/// What a member says of a label.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Nothing,
    Label(u32),
    /// The name of a class, and nobody says which names there are.
    Name(String),
}

/// Reads labels, names of classes among them where they are known.
pub(super) struct Labels {
    names: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Json {
    label: Option<Value>,
    cls: Option<Value>,
    class: Option<Value>,
    target: Option<Value>,
}

impl Labels {
    pub(super) fn new(names: Option<Vec<String>>) -> Self {
        Self { names }
    }

    /// Of a `.cls` member: a class number, or the name of a class.
    pub(super) fn of_text(&self, key: &str, text: &[u8]) -> Result<u32, TarFault> {
        let text = String::from_utf8_lossy(text);
        let trimmed = text.trim_start_matches('\u{feff}').trim();
        let number = trimmed.parse().ok().filter(|&label| label != u32::MAX);
        let known = number.or_else(|| self.number(trimmed));
        known.ok_or_else(|| TarFault::Label { key: key.to_owned(), text: text.into_owned() })
    }

    /// Of a `.json` member; `None` if it is no JSON object.
    pub(super) fn of_json(&self, key: &str, text: &[u8]) -> Result<Option<Said>, TarFault> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let Ok(Json { label, cls, class, target }) = serde_json::from_slice(text) else {
            return Ok(None);
        };
        let mut found: Option<(&str, u32)> = None;
        let mut unknown = None;
        for (place, value) in JSON_KEYS.into_iter().zip([label, cls, class, target]) {
            match (self.of_value(key, place, value)?, found) {
                (Said::Nothing, _) => {}
                (Said::Name(name), _) => unknown = unknown.or(Some((place, name))),
                (Said::Label(label), None) => found = Some((place, label)),
                (Said::Label(label), Some((_, first))) if label == first => {}
                (Said::Label(label), Some((other, first))) => {
                    let said = [format!("\"{other}\" {first}"), format!("\"{place}\" {label}")];
                    return Err(TarFault::LabelsDiffer { key: key.to_owned(), said });
                }
            }
        }
        match (found, unknown, &self.names) {
            (Some((_, label)), ..) => Ok(Some(Said::Label(label))),
            (None, Some((place, name)), Some(_)) => Err(TarFault::UnknownClass { key: key.to_owned(), place, name }),
            (None, Some((_, name)), None) => Ok(Some(Said::Name(name))),
            (None, None, _) => Ok(Some(Said::Nothing)),
        }
    }

    fn of_value(&self, key: &str, place: &'static str, value: Option<Value>) -> Result<Said, TarFault> {
        match value {
            Some(Value::Number(number)) => {
                let whole = |number: &f64| number.fract() == 0.0 && (0.0..4294967296.0).contains(number);
                let label = number.as_u64().or_else(|| number.as_f64().filter(whole).map(|number| number as u64));
                match label.and_then(|label| u32::try_from(label).ok()).filter(|&label| label != u32::MAX) {
                    Some(label) => Ok(Said::Label(label)),
                    None => Err(TarFault::JsonLabel { key: key.to_owned(), place, text: number.to_string() }),
                }
            }
            Some(Value::String(name)) => match self.number(&name).or_else(|| name.trim().parse().ok()) {
                Some(label) => Ok(Said::Label(label)),
                None => Ok(Said::Name(name)),
            },
            // Several labels, or something else of that name.
            _ => Ok(Said::Nothing),
        }
    }

    fn number(&self, name: &str) -> Option<u32> {
        let name = composed(name);
        self.names.as_ref()?.iter().position(|known| *known == name).map(|number| number as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(names: Option<&[&str]>, text: &str) -> Result<Option<Said>, TarFault> {
        let names = names.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        Labels::new(names).of_json("k", text.as_bytes())
    }

    #[test]
    fn json_holds_numbers_or_names() {
        for (text, said) in [
            (r#"{"label": 3, "caption": "x"}"#, Said::Label(3)),
            (r#"{"target": 3.0}"#, Said::Label(3)),
            (r#"{"cls": "3", "label": null, "class": 3}"#, Said::Label(3)),
            ("\u{feff}{\"class\": 0}", Said::Label(0)),
            (r#"{"caption": "a dog", "target": [1, 2]}"#, Said::Nothing),
            (r#"{"class": "dog"}"#, Said::Name("dog".into())),
            (r#"{"class": "dog", "label": 1}"#, Said::Label(1)),
        ] {
            assert_eq!(json(None, text).unwrap(), Some(said), "{text}");
        }
        let names = Some(&["cat", "café", "7"][..]);
        assert_eq!(json(names, "{\"class\": \"cafe\u{301}\"}").unwrap(), Some(Said::Label(1)));
        assert_eq!(json(names, r#"{"class": "7"}"#).unwrap(), Some(Said::Label(2)));
        assert_eq!(json(names, r#"{"class": 7}"#).unwrap(), Some(Said::Label(7)));
        assert!(matches!(json(names, r#"{"class": "dog"}"#), Err(TarFault::UnknownClass { .. })));
        assert_eq!(json(None, "not json").unwrap(), None);
        assert_eq!(json(None, "[1]").unwrap(), None);
        for text in [r#"{"label": 1, "cls": 2}"#, r#"{"label": -1}"#, r#"{"label": 1.5}"#, r#"{"label": 4294967295}"#] {
            assert!(json(None, text).is_err(), "{text}");
        }
    }
}
