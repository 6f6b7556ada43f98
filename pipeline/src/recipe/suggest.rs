//! "Did you mean": what an unknown key was likely meant to be.

use super::reference;

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

/// The section or table that has this very key, when it was written in another.
fn home_of(key: &str, expected: &[String]) -> Option<String> {
    let sections = reference::sections();
    let tables: Vec<_> = sections.iter().flat_map(reference::Section::tables).collect();
    let known = |keys: &[&str]| keys.iter().any(|key| expected.iter().any(|known| known == key));
    tables.into_iter().find(|(_, keys)| keys.contains(&key) && !known(keys)).map(|(table, _)| table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered() {
        assert_eq!(hint("unknown field `epocs`, expected one of `epochs`, `batch`"), "\ndid you mean `epochs`?");
        assert_eq!(hint("unknown variant `stpo`, expected `stop` or `skip`"), "\ndid you mean `stop`?");
        assert_eq!(hint("unknown field `zzz`, expected `epochs`"), "");
        assert_eq!(hint("invalid type: string"), "");
    }

    #[test]
    fn the_right_section_is_offered() {
        let hint = |key: &str| hint(&format!("unknown field `{key}`, expected one of `epochs`, `base_lr`"));
        assert_eq!(hint("weight_decay"), "\n`weight_decay` belongs in [optimizer]");
        assert_eq!(hint("magnitude"), "\n`magnitude` belongs in [augment.rand_augment]");
    }
}
