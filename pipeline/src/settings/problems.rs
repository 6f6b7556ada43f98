//! Everything that is wrong with a recipe, found in one pass.

use schemars::JsonSchema;
use serde::Serialize;
use toml::Value;

use super::{Course, Problem, schema};

/// Everything found wrong so far.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn into_inner(self) -> Vec<Problem> {
        self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `key` is wrong.
    pub fn push(&mut self, key: &str, what: impl Into<String>) {
        self.0.push(Problem::new(key, what));
    }

    /// A value must be `fine`; otherwise it is told, with what is `wanted`.
    pub fn unless(&mut self, fine: bool, key: &str, value: impl std::fmt::Debug, wanted: &str) {
        if !fine {
            self.push(key, format!("{value:?}; give {wanted}"));
        }
    }

    /// Every value of the section `name` must be in the range that its type says.
    pub(crate) fn ranges<T: Serialize + JsonSchema>(&mut self, name: &str, section: &T) {
        match Value::try_from(section) {
            Ok(value) => schema::faults(name, &value, &schema::of::<T>(), &mut |key, value, wanted| {
                self.push(&key, format!("{value}; give {wanted}"));
            }),
            Err(error) => self.push(name, error.to_string()),
        }
    }

    /// A section that nothing reads.
    pub(crate) fn unused(&mut self, present: bool, section: &str) {
        if present {
            self.push(section, "has no effect when only evaluating; remove the section");
        }
    }

    /// The least and the most of something.
    pub(crate) fn ordered(&mut self, key: &str, [low, high]: [f64; 2]) {
        self.unless(low <= high, key, [low, high], "[low, high] with low <= high");
    }

    /// How length and warm-up of the task `section` go together.
    pub(crate) fn course(&mut self, section: &str, course: &Course) {
        // What is no number is out of its range already.
        let fine = course.warmup_epochs <= course.epochs as f64 || course.warmup_epochs.is_nan();
        let wanted = format!("at most the {} epochs of the run", course.epochs);
        self.unless(fine, &format!("{section}.warmup_epochs"), course.warmup_epochs, &wanted);
    }
}
