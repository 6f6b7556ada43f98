//! The recipes that come with the program, by name.

use std::path::Path;

use convnext_pipeline::recipe::{Recipe, RecipeError, nearest};

use crate::{Failure, Outcome};

/// A recipe that is compiled in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuiltIn {
    /// What `--recipe` takes.
    pub(crate) name: &'static str,
    /// The file.
    pub(crate) text: &'static str,
}

/// The files of `cli/recipes`, in alphabetical order.
macro_rules! recipes {
    ($($name:literal,)*) => {
        /// All of them, in alphabetical order.
        pub(crate) const ALL: &[BuiltIn] =
            &[$(BuiltIn { name: $name, text: include_str!(concat!("../recipes/", $name, ".toml")) }),*];
    };
}

recipes! {
    "finetune-atto",
    "finetune-base",
    "finetune-huge",
    "finetune-large",
    "finetune-tiny",
    "micro-finetune",
    "micro-pretrain",
    "micro-scratch",
    "pretrain",
    "quickstart-finetune",
    "quickstart-pretrain",
}

impl BuiltIn {
    /// What it is for: the first sentence of its comment.
    pub(crate) fn about(&self) -> String {
        let comment = self.text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
        let first: Vec<&str> = comment.take_while(|line| !line.is_empty()).collect();
        let first = first.join(" ");
        first.split_inclusive(". ").next().unwrap_or_default().trim_end().trim_end_matches('.').to_owned()
    }
}

/// The recipe called `name`.
///
/// # Errors
/// [`Failure::Usage`] with the names there are, and the one that was probably meant.
pub(crate) fn find(name: &str) -> Outcome<&'static BuiltIn> {
    let names = || ALL.iter().map(|recipe| recipe.name);
    let found = ALL.iter().find(|recipe| recipe.name == name);
    found.ok_or_else(|| {
        let meant = nearest(name, names()).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
        let known = names().collect::<Vec<_>>().join(", ");
        Failure::usage(format!("no recipe `{name}`, and no file of that name{meant}\n  recipes: {known}"))
    })
}

/// Reads the recipe that `--recipe` names, with `key=value` settings on top: a file, or one that is compiled in. A file of
/// that name wins.
pub(crate) fn load(named: &Path, sets: &[String]) -> Outcome<Recipe> {
    let is_name = named.to_str().filter(|name| !name.contains('/') && !name.ends_with(".toml"));
    match is_name.filter(|_| !named.exists()) {
        Some(name) => parse(find(name)?, sets).map_err(Failure::from),
        None => Ok(Recipe::load(named, sets)?),
    }
}

/// Reads a recipe that is compiled in, with `key=value` settings on top.
pub(crate) fn parse(recipe: &BuiltIn, sets: &[String]) -> Result<Recipe, RecipeError> {
    Recipe::parse(recipe.name, recipe.text, sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_there_and_says_what_it_is_for() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(ALL.iter().map(|recipe| recipe.name).collect::<Vec<_>>(), files);
        for recipe in ALL {
            assert!((10..120).contains(&recipe.about().len()), "{}: {}", recipe.name, recipe.about());
        }
        let tiny = find("finetune-tiny").unwrap().about();
        assert_eq!(tiny, "Fine-tuning Tiny on ImageNet-1k after FCMAE pre-training (arXiv 2301.00808, appendix A)");
    }

    #[test]
    fn a_near_miss_is_told_and_a_file_wins() {
        let Err(Failure::Usage(said)) = load(Path::new("finetune-tniy"), &[]) else { panic!() };
        assert!(said.contains("did you mean `finetune-tiny`?") && said.contains("micro-pretrain"), "{said}");
        assert!(matches!(load(Path::new("finetune-tiny.toml"), &[]), Err(Failure::Failed { .. })));
        let sets = ["model.name=any".to_owned()];
        assert_eq!(load(Path::new("pretrain"), &sets).unwrap().tasks.len(), 1);
    }
}
