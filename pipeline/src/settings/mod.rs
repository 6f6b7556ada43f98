//! What can be set, section by section, and what settings come to once the data are known.
//!
//! A task declares its own section on top of these; [`recipe`](crate::recipe) puts the sections together.

mod augment;
mod course;
mod error;
mod limits;
mod problems;
mod run;
pub(crate) mod schema;
mod values;

pub use augment::{Augment, RandAugment};
pub use course::Course;
pub(crate) use course::training_section;
pub use error::{Problem, RecipeError};
pub(crate) use limits::{BELOW_ONE, HIGHEST_BASE_RATE, HIGHEST_RATE, MOST_EPOCHS, MOST_IMAGES};
pub(crate) use problems::Problems;
pub use run::Run;
pub(crate) use run::Terms;
pub use values::{
    BadPolicy, BadSamples, Checkpoint, Data, Ema, Evaluate, EvaluatedWeights, Init, Io, LayerDecay, LayerDecayMode,
    Machine, Model, NonFinitePolicy, Optimizer, Patterns, Precision, ResolvedOptimizer, Stop, UnknownPrecision,
};
