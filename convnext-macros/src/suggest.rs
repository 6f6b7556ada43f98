//! "Did you mean": the nearest word, the nearest number.

/// Words of other libraries for settings of ours.
const SYNONYMS: &[(&str, &str)] = &[
    ("block_type", "block"),
    ("classes", "head"),
    ("depths", "stages"),
    ("dims", "stages"),
    ("drop_path_rate", "drop_path"),
    ("flavor", "block"),
    ("flavour", "block"),
    ("image", "input"),
    ("img_size", "input"),
    ("kernel_size", "kernel"),
    ("mask_ratio", "mask"),
    ("norm_pix_loss", "normalised"),
    ("num_classes", "head"),
    ("patch_size", "patch"),
    ("size", "input"),
];

/// The option most like `word`, if any is like it at all.
pub(crate) fn nearest<'a>(word: &str, options: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let meant = SYNONYMS.iter().find(|(synonym, _)| *synonym == word).map(|(_, meant)| *meant);
    let meant = meant.unwrap_or(&word);
    options
        .iter()
        .map(|option| (strsim::normalized_damerau_levenshtein(meant, &option.to_lowercase()), *option))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, option)| option)
}

/// `; did you mean ...?` if something is near, and what there is to choose from.
pub(crate) fn did_you_mean(word: &str, options: &[&str]) -> String {
    let choices = list(options, "or");
    match nearest(word, options) {
        Some(option) if options.len() > 1 => {
            format!("; did you mean `{option}`? Possible here: {choices}")
        }
        Some(option) => format!("; did you mean `{option}`?"),
        None => format!("; possible here: {choices}"),
    }
}

/// `` `a`, `b` and `c` ``.
pub(crate) fn list(words: &[&str], joint: &str) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    join(&quoted, joint)
}

/// `1, 2 or 3`.
pub(crate) fn join(words: &[String], joint: &str) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [words @ .., last] => format!("{} {joint} {last}", words.join(", ")),
    }
}

/// The multiples of `step` next to `value`, below and above, from `step` to `limit`.
pub(crate) fn multiples(value: u64, step: u64, limit: u64) -> Vec<u64> {
    let below = value / step * step;
    let above = below + step;
    [below, above].into_iter().filter(|&multiple| multiple > 0 && multiple <= limit).collect()
}

/// The options nearest to `value`, at most three, ascending.
pub(crate) fn nearest_numbers(value: u64, mut options: Vec<u64>) -> Vec<u64> {
    options.sort_by_key(|option| (option.abs_diff(value), *option));
    options.truncate(3);
    options.sort_unstable();
    options
}

/// `224 or 256`.
pub(crate) fn numbers(values: &[u64]) -> String {
    join(&values.iter().map(u64::to_string).collect::<Vec<_>>(), "or")
}

/// `56.25`, to three decimals.
pub(crate) fn quotient(value: u64, by: u64) -> String {
    let quotient = value as f64 / by as f64;
    format!("{}", (quotient * 1000.0).round() / 1000.0)
}
