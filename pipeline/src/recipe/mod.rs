//! Recipes: what a TOML file says, and what it comes to.
//!
//! [`Recipe`] is the file as written; keys that no recipe has are refused, with what was likely meant. [`Resolved`] has
//! every default filled in and every value checked; it can be written back, and hashed for the checkpoint. [`Run`] adds
//! the size of the data: absolute learning rates and numbers of steps.
//!
//! ```
//! use convnext_pipeline::recipe::Recipe;
//!
//! let text = r#"
//!     [pretrain]
//!     epochs = 800
//!     batch = 64
//!     accumulation = 64      # 4096 images a step
//!     base_lr = 1.5e-4       # for 256 images a step
//!     warmup_epochs = 40
//! "#;
//! let recipe = Recipe::parse("example", text, &["model.name=atto", "pretrain.epochs=100"])?;
//! let run = recipe.resolve()?.run(1_281_167, 1)?;
//! assert_eq!(run.schedule.peak, 1.5e-4 * 4096.0 / 256.0);
//! assert_eq!(run.steps(), 100 * 312);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod check;
mod overrides;
pub mod reference;
mod resolved;
mod suggest;
#[cfg(test)]
mod tests;
mod words;
mod written;

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

pub use resolved::{Difference, Resolved, Training};
pub use suggest::nearest;
pub use written::Recipe;

pub use crate::settings::{
    Augment, BadPolicy, BadSamples, Checkpoint, Data, Ema, Evaluate, EvaluatedWeights, Init, Io, LayerDecay,
    LayerDecayMode, Machine, Model, NonFinitePolicy, Patterns, Precision, Problem, RandAugment, RecipeError,
    ResolvedOptimizer, Run, Stop, UnknownPrecision,
};

impl Recipe {
    /// Largest recipe that is read.
    pub const MOST_BYTES: u64 = 1 << 20;

    /// Reads the recipe at `path`, with `key=value` settings on top.
    ///
    /// # Errors
    /// As [`Self::parse`], and [`RecipeError::Read`].
    pub fn load<S: AsRef<str>>(path: impl AsRef<Path>, sets: &[S]) -> Result<Self, RecipeError> {
        let path = path.as_ref();
        let text = read(path).map_err(|source| RecipeError::Read { path: path.into(), source })?;
        Self::parse(&path.display().to_string(), &text, sets)
    }

    /// Reads a recipe; `name` is what errors call it. Each of `sets` is a dotted key, `=` and a TOML value or a bare word,
    /// e.g. `finetune.epochs=3`; with nothing after the `=` the key is taken out.
    ///
    /// # Errors
    /// [`RecipeError::Syntax`] for the text and [`RecipeError::Set`] for a setting, with the line and what was likely
    /// meant.
    pub fn parse<S: AsRef<str>>(name: &str, text: &str, sets: &[S]) -> Result<Self, RecipeError> {
        let syntax = |error: toml::de::Error| {
            // As a table, the error says which key it is about; as text, where that is.
            let again = toml::from_str::<toml::Table>(text).ok().and_then(|table| table.try_into::<Self>().err());
            let message = format!("{}{}", words::told(&error, again.as_ref()), suggest::hint(error.message()));
            RecipeError::Syntax { name: name.into(), message }
        };
        let written: Self = toml::from_str(text).map_err(syntax)?;
        if sets.is_empty() {
            return Ok(written);
        }
        overrides::apply(toml::from_str(text).map_err(syntax)?, sets)
    }

    /// Fills in the defaults and checks every value.
    ///
    /// # Errors
    /// [`RecipeError::Invalid`] with everything that is wrong.
    pub fn resolve(self) -> Result<Resolved, RecipeError> {
        check::resolve(self)
    }
}

/// The text of a recipe's file. A pipe is read where a shell made it (`/dev/fd/63`), and not where nobody may ever write to it.
fn read(path: &Path) -> io::Result<String> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; give the file in it"));
    }
    if kind.is_fifo() && !["/dev", "/proc"].iter().any(|own| path.starts_with(own)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a named pipe; give a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(Recipe::MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > Recipe::MOST_BYTES {
        let what = format!("it has more than {} bytes, which no recipe has", Recipe::MOST_BYTES);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text (UTF-8)"))
}
