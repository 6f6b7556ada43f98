//! What can be set, section by section, and what settings come to once the data are known.
//!
//! A task declares its own section on top of these; [`recipe`](crate::recipe) puts the sections together.

mod course;
mod error;
mod fields;
mod problems;
mod run;
mod values;

pub use course::Course;
pub(crate) use course::training_section;
pub use error::{Problem, RecipeError};
pub(crate) use fields::fields;
pub(crate) use problems::{MOST_EPOCHS, MOST_MEASURED, MOST_THREADS, Problems};
pub use run::Run;
pub(crate) use run::Terms;
pub use values::{
    Augment, BadPolicy, BadSamples, Checkpoint, Data, Ema, Evaluate, EvaluatedWeights, Init, Io, LayerDecay,
    LayerDecayMode, Machine, Model, NonFinitePolicy, Optimizer, Patterns, Precision, RandAugment, ResolvedOptimizer,
    UnknownPrecision,
};
