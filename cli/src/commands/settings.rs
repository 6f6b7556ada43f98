//! `convnext settings`: what a recipe may say.

use convnext_pipeline::recipe::{
    nearest,
    reference::{self, Section, Setting},
};

use crate::{Failure, Outcome, output};

/// Shows every setting of a recipe: what it may be, what it is if nothing is said, and what it does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext settings
  convnext settings optimizer
  convnext settings finetune.layer_decay.mode
  convnext settings --json > recipe.schema.json")]
pub struct Args {
    /// A section, or a setting as --set takes it; without it, all of them.
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Writes the JSON schema of a recipe, for editors.
    #[arg(long, conflicts_with_all = ["key", "markdown"])]
    json: bool,
    /// Writes Markdown.
    #[arg(long)]
    markdown: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    if args.json {
        return output::json(&reference::schema());
    }
    let sections = match &args.key {
        Some(key) => chosen(reference::sections(), key)?,
        None => reference::sections(),
    };
    let write = if args.markdown { markdown } else { text };
    output::text(&sections.iter().map(write).collect::<Vec<_>>().join("\n"))
}

/// What `key` names: a section, a table in one, or one setting.
fn chosen(all: Vec<Section>, key: &str) -> Outcome<Vec<Section>> {
    let key = key.trim_matches(['[', ']']);
    let below = |setting: &Setting| setting.key == key || setting.key.starts_with(&format!("{key}."));
    let names: Vec<String> = all.iter().flat_map(names).collect();
    let found = all.into_iter().filter_map(|section| {
        if section.name == key {
            return Some(section);
        }
        let settings: Vec<Setting> = section.settings.into_iter().filter(below).collect();
        (!settings.is_empty()).then_some(Section { settings, ..section })
    });
    let found: Vec<Section> = found.collect();
    if !found.is_empty() {
        return Ok(found);
    }
    // The last part alone is often what is remembered.
    let last = |name: &&String| name.rsplit('.').next() == Some(key);
    let meant = names.iter().find(last).map(String::as_str).or_else(|| nearest(key, names.iter().map(String::as_str)));
    let meant = meant.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
    Err(Failure::usage(format!("no setting `{key}`{meant}\n  `settings` without a key lists them all")))
}

/// The section's name, and those of its settings.
fn names(section: &Section) -> Vec<String> {
    let own = Some(section.name.clone()).filter(|name| !name.is_empty());
    own.into_iter().chain(section.settings.iter().map(|setting| setting.key.clone())).collect()
}

/// What it is if nothing is said: a value, `required`, or nothing where its absence is something of its own.
fn default(setting: &Setting) -> String {
    match &setting.default {
        Some(value) => value.clone(),
        None if setting.required => "required".to_owned(),
        None => String::new(),
    }
}

fn text(section: &Section) -> String {
    let mut text = match section.name.as_str() {
        "" => format!("{}\n", section.about),
        name => format!("[{name}]  {}\n", section.about),
    };
    for setting in &section.settings {
        let default = match default(setting).as_str() {
            "" => String::new(),
            "required" => "required".to_owned(),
            value => format!("default {value}"),
        };
        let line = format!("  {:<34}  {:<44}  {default}", setting.key, setting.wanted);
        text += &format!("{}\n", line.trim_end());
        text += &wrapped(&setting.about, 6);
        for (word, about) in &setting.words {
            text += &wrapped(&format!("\"{word}\": {about}"), 8);
        }
    }
    text
}

/// Lines of up to 110 characters, `indent` blanks before each.
fn wrapped(text: &str, indent: usize) -> String {
    const WIDTH: usize = 110;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH - indent => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

fn markdown(section: &Section) -> String {
    let mut text = match section.name.as_str() {
        "" => format!("## Before all sections\n\n{}\n", section.about),
        name => format!("## [{name}]\n\n{}\n", section.about),
    };
    text += "\n| key | value | default | meaning |\n|---|---|---|---|\n";
    for setting in &section.settings {
        let words = setting.words.iter().map(|(word, about)| format!(" `{word}`: {about}"));
        let meaning = setting.about.clone() + &words.collect::<String>();
        let default = match default(setting).as_str() {
            "" => String::new(),
            "required" => "required".to_owned(),
            value => format!("`{value}`"),
        };
        let cells = [format!("`{}`", setting.key), setting.wanted.clone(), default, meaning];
        text += &format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_tables_and_settings_are_found_by_name() {
        let keys = |key: &str| -> Vec<String> {
            let found = chosen(reference::sections(), key).unwrap();
            found.into_iter().flat_map(|section| section.settings).map(|setting| setting.key).collect()
        };
        assert!(keys("[optimizer]").contains(&"optimizer.clip".to_owned()));
        assert_eq!(keys("optimizer.clip"), ["optimizer.clip"]);
        assert_eq!(keys("finetune.ema"), ["finetune.ema", "finetune.ema.decay", "finetune.ema.warmup"]);
        for (wrong, meant) in
            [("optimiser", "optimizer"), ("clip", "optimizer.clip"), ("finetune.epocs", "finetune.epochs")]
        {
            let Err(Failure::Usage(said)) = chosen(reference::sections(), wrong) else { panic!("{wrong}") };
            assert!(said.contains(&format!("did you mean `{meant}`?")), "{said}");
        }
    }
}
