//! `convnext pack --split`: its share, and what is said of the two sets.

use std::path::Path;

use convnext_data::pack::{Packed, SPLIT_NAMES};
use convnext_pipeline::tell;

use crate::table::Table;

/// Classes that the table lists one by one.
const LISTED: usize = 40;

/// Reads a share that leaves something on either side.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("a share between 0 and 1 is wanted, for example 0.2 for a fifth".to_owned()),
    }
}

/// How many images of each class are in which set, the shards, and what to do next.
pub(super) fn text(sets: [&Packed; 2], names: Option<&[String]>, folder: &Path) -> String {
    tell_of_single_images(sets, names);
    let [train, validation] = sets.map(|set| super::text(&set.written));
    let [train_pattern, validation_pattern] =
        SPLIT_NAMES.map(|name| format!("'{}'", folder.join(format!("{name}-*.tar")).display()));
    format!(
        "{}{train}{validation}\nnext, for recipes that suit these images:\n  convnext init {train_pattern} --validation \
         {validation_pattern} --out RECIPES\n",
        table(sets, names)
    )
}

fn table(sets: [&Packed; 2], names: Option<&[String]>) -> String {
    let [first, second] = SPLIT_NAMES;
    let mut table = Table::new(&["class", first, second], &[1, 2]);
    let labels = labels(sets);
    for &label in labels.iter().take(LISTED) {
        let [train, validation] = sets.map(|set| set.classes.get(&label).copied().unwrap_or(0).to_string());
        table.row([name(label, names), train, validation]);
    }
    if labels.len() > LISTED {
        table.row([format!("and {} more", labels.len() - LISTED)]);
    }
    let [train, validation] = sets.map(|set| set.written.samples.to_string());
    table.row(["all".to_owned(), train, validation]);
    table.text()
}

/// The classes that have an image in one of the sets.
fn labels([train, validation]: [&Packed; 2]) -> Vec<Option<u32>> {
    let mut labels: Vec<_> = train.classes.keys().chain(validation.classes.keys()).copied().collect();
    labels.sort_unstable();
    labels.dedup();
    labels
}

fn name(label: Option<u32>, names: Option<&[String]>) -> String {
    let Some(label) = label else { return "without a label".to_owned() };
    let known = names.and_then(|names| names.get(label as usize));
    known.cloned().unwrap_or_else(|| label.to_string())
}

/// Says which classes have one image, and nothing to validate with.
fn tell_of_single_images([train, validation]: [&Packed; 2], names: Option<&[String]>) {
    let single = |&(label, &count): &(&Option<u32>, &u64)| count == 1 && !validation.classes.contains_key(label);
    let single: Vec<String> = train.classes.iter().filter(single).map(|(&label, _)| name(label, names)).collect();
    if !single.is_empty() {
        let more = if single.len() > LISTED { format!(" and {} more", single.len() - LISTED) } else { String::new() };
        let listed = single.iter().take(LISTED).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        tell::warn(format_args!("classes of one image, which is in training and not in validation: {listed}{more}"));
    }
}
