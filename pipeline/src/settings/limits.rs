//! Ends of ranges that several settings share.

/// Most epochs, and most of anything that comes every so many epochs or steps.
pub(crate) const MOST_EPOCHS: u64 = 1_000_000_000;
/// Most images of a batch, and most batches of a step.
pub(crate) const MOST_IMAGES: u64 = 1 << 20;
/// Most images of a pass that measures.
pub(crate) const MOST_MEASURED: u64 = 1 << 16;
/// Most threads of a kind: as many as `--threads` takes.
pub(crate) const MOST_THREADS: u64 = 1024;
/// Highest learning rate that a schedule begins or ends with.
pub(crate) const HIGHEST_RATE: f64 = 1e30;
/// Highest peak of a learning rate: times the images of the largest step it is still a number.
pub(crate) const HIGHEST_BASE_RATE: f64 = 1e300;
/// Highest of what must be below 1, in f32 too, which is what it becomes.
pub(crate) const BELOW_ONE: f64 = 0.999_999_9;
