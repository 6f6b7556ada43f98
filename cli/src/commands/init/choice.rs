//! Which variant suits some images.

use convnext_core::{Entry, plan::Plan};
use convnext_data::{Channels, set::Sizes};

use super::course::Course;

/// What is known of the images and of the machine.
pub(super) struct Wanted<'a> {
    pub(super) sizes: &'a Sizes,
    /// Images to train on.
    pub(super) images: u64,
    /// Multiply-adds a second that training reaches, as a guess.
    pub(super) speed: f64,
}

/// Seconds of training, as a guess, up to which a larger variant is taken.
const PATIENCE: f64 = 15.0 * 60.0;
/// How many times as large as a picture a variant's input may be.
const ENLARGED: usize = 2;

impl Wanted<'_> {
    /// Seconds that both runs take, as a guess.
    pub(super) fn seconds(&self, plan: &Plan) -> f64 {
        let Course { pretrain, finetune, .. } = Course::of(self.images);
        // Forward and backward are three passes; a masked autoencoder's encoder sees two fifths of an image.
        let passes = 3.0 * (0.6 * pretrain as f64 + finetune as f64);
        passes * self.images as f64 * plan.classifier().multiply_adds() as f64 / self.speed
    }

    fn suits(&self, plan: &Plan) -> bool {
        let side = plan.height.min(plan.width);
        plan.channels == self.sizes.channels.count()
            && side <= ENLARGED * self.sizes.short_side[1]
            && plan.fcmae.is_some()
    }

    /// The costliest variant that suits and can be trained in the time of a coffee; else the cheapest one that suits, else the
    /// cheapest one whose channels images decode to.
    pub(super) fn choose<'e>(&self, entries: &'e [Entry]) -> Option<&'e Entry> {
        let cost = |entry: &&Entry| entry.plan.classifier().multiply_adds();
        let suitable = || entries.iter().filter(|entry| self.suits(&entry.plan));
        let quick = suitable().filter(|entry| self.seconds(&entry.plan) <= PATIENCE).max_by_key(cost);
        // Grey and colour become one another; bands do not.
        let decodable = entries.iter().filter(|entry| match self.sizes.channels {
            Channels::Bands(bands) => entry.plan.channels == usize::from(bands),
            Channels::Grey | Channels::Rgb | Channels::Rgba => matches!(entry.plan.channels, 1 | 3 | 4),
        });
        quick.or_else(|| suitable().min_by_key(cost)).or_else(|| decodable.min_by_key(cost))
    }
}
