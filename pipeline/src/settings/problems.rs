//! Everything that is wrong with a recipe, found in one pass.

use super::{Course, Problem};

/// Most epochs, and most of anything that comes every so many epochs or steps.
pub(crate) const MOST_EPOCHS: u64 = 1_000_000_000;
/// Most images of a batch, and most batches of a step.
const MOST_IMAGES: u64 = 1 << 20;
/// Most images of a pass that measures.
pub(crate) const MOST_MEASURED: u64 = 1 << 16;
/// Most threads of a kind: as many as `--threads` takes.
pub(crate) const MOST_THREADS: u64 = 1024;

/// Everything found wrong so far. Each check looks at one value, or at one section.
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

    /// A section that nothing reads.
    pub(crate) fn unused(&mut self, present: bool, section: &str) {
        if present {
            self.push(section, "has no effect when only evaluating; remove the section");
        }
    }

    /// A count from 1 to `most`.
    pub fn count(&mut self, key: &str, value: u64, most: u64) {
        self.unless((1..=most).contains(&value), key, value, &format!("a number from 1 to {most}"));
    }

    /// A number from `low` to `high`.
    pub fn within(&mut self, key: &str, value: f64, [low, high]: [f64; 2]) {
        self.unless((low..=high).contains(&value), key, value, &format!("a number from {low:?} to {high:?}"));
    }

    /// From 0 to below 1, in f32 too, which is what it becomes: the largest is 0.99999994.
    pub fn share(&mut self, key: &str, value: f64) {
        let fine = value >= 0.0 && (value as f32) < 1.0;
        self.unless(fine, key, value, "a number from 0 to below 1, by 6e-8 or more");
    }

    /// Alpha of a beta distribution, or none.
    pub fn alpha(&mut self, key: &str, value: f64) {
        let fine = value == 0.0 || (0.01..=100.0).contains(&value);
        self.unless(fine, key, value, "0 for none, or a number from 0.01 to 100");
    }

    pub(crate) fn ordered(&mut self, key: &str, [low, high]: [f64; 2], [least, most]: [f64; 2]) {
        let wanted = format!("[low, high] with {least} <= low <= high <= {most}");
        self.unless(least <= low && low <= high && high <= most, key, [low, high], &wanted);
    }

    /// Length, batch and learning rates of the task `section`.
    pub(crate) fn course(&mut self, section: &str, course: &Course) {
        let key = |name: &str| format!("{section}.{name}");
        self.count(&key("epochs"), course.epochs, MOST_EPOCHS);
        self.count(&key("batch"), course.batch, MOST_IMAGES);
        self.count(&key("accumulation"), course.accumulation, MOST_IMAGES);
        let fine = course.base_lr > 0.0 && course.base_lr.is_finite();
        self.unless(fine, &key("base_lr"), course.base_lr, "a number above 0");
        self.within(&key("warmup_lr"), course.warmup_lr, [0.0, 1e30]);
        self.within(&key("min_lr"), course.min_lr, [0.0, 1e30]);
        let fine = course.warmup_epochs >= 0.0 && course.warmup_epochs <= course.epochs as f64;
        let wanted = format!("a number from 0 to the {} epochs of the run", course.epochs);
        self.unless(fine, &key("warmup_epochs"), course.warmup_epochs, &wanted);
    }
}
