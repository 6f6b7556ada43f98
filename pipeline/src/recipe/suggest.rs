//! "Did you mean": what an unknown key was likely meant to be.

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor, value},
    forward_to_deserialize_any,
};

use super::written::{
    Augment, BadSamples, Checkpoint, Data, Ema, Evaluate, Finetune, LayerDecay, Machine, Model, Optimizer, Pretrain,
    RandAugment,
};

/// A hint for the parser's message about an unknown key or word; empty if there is none to give.
pub(super) fn hint(message: &str) -> String {
    let Some((unknown, expected)) = unknown_of(message) else {
        return String::new();
    };
    if let Some(home) = home_of(&unknown, &expected) {
        return format!("\n`{unknown}` belongs in [{home}]");
    }
    match nearest(&unknown, expected.iter().map(String::as_str)) {
        Some(nearest) => format!("\ndid you mean `{nearest}`?"),
        None => String::new(),
    }
}

/// Whether the parser's message says that something is not there yet.
pub(super) fn is_missing_field(message: &str) -> bool {
    message.contains("missing field")
}

/// The unknown word and the known ones of serde's "unknown field `a`, expected one of `b`, `c`".
fn unknown_of(message: &str) -> Option<(String, Vec<String>)> {
    let at = message.find("unknown field ").or_else(|| message.find("unknown variant "))?;
    let mut quoted = message[at..].split('`').skip(1).step_by(2).map(str::to_owned);
    Some((quoted.next()?, quoted.collect()))
}

/// Of `known`, the word that is most like `word`, if one is like it: less than half of its letters are wrong. The compiler
/// of specs has the same measure.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| (strsim::normalized_damerau_levenshtein(word, known), known));
    scored.filter(|(score, _)| *score >= 0.5).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// The section that has this very key, when it was written in another.
fn home_of(key: &str, expected: &[String]) -> Option<&'static str> {
    let homes = sections().into_iter().filter(|(_, fields)| fields.contains(&key));
    let mut homes = homes.filter(|(_, fields)| !fields.iter().any(|field| expected.iter().any(|known| known == field)));
    homes.next().map(|(section, _)| section)
}

fn sections() -> [(&'static str, &'static [&'static str]); 13] {
    [
        ("model", fields::<Model>()),
        ("data", fields::<Data>()),
        ("data.bad", fields::<BadSamples>()),
        ("pretrain", fields::<Pretrain>()),
        ("finetune", fields::<Finetune>()),
        ("finetune.layer_decay", fields::<LayerDecay>()),
        ("finetune.ema", fields::<Ema>()),
        ("evaluate", fields::<Evaluate>()),
        ("optimizer", fields::<Optimizer>()),
        ("augment", fields::<Augment>()),
        ("augment.rand_augment", fields::<RandAugment>()),
        ("checkpoint", fields::<Checkpoint>()),
        ("machine", fields::<Machine>()),
    ]
}

/// The field names that `T`'s derived `Deserialize` knows.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut found: &'static [&'static str] = &[];
    // Always an error: the names are all that is wanted.
    let _ = T::deserialize(FieldNames(&mut found));
    found
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Self::Error::custom("only the names were wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_types() {
        assert!(fields::<Checkpoint>().contains(&"keep_last"));
        assert!(sections().iter().all(|(_, fields)| !fields.is_empty()));
    }

    #[test]
    fn the_nearest_word_is_offered() {
        assert_eq!(hint("unknown field `epocs`, expected one of `epochs`, `batch`"), "\ndid you mean `epochs`?");
        assert_eq!(hint("unknown variant `stpo`, expected `stop` or `skip`"), "\ndid you mean `stop`?");
        assert_eq!(hint("unknown field `zzz`, expected `epochs`"), "");
        assert_eq!(hint("invalid type: string"), "");
    }

    #[test]
    fn the_right_section_is_offered() {
        let message = "unknown field `weight_decay`, expected one of `epochs`, `base_lr`";
        assert_eq!(hint(message), "\n`weight_decay` belongs in [optimizer]");
    }
}
