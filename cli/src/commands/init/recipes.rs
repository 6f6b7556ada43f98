//! The recipes that `init` writes: as text, with a comment for every choice.

use convnext_core::plan::Plan;
use convnext_data::set::Colours;

use super::course::Course;
use crate::commands::train::toml_string;

/// What recipes are written about.
pub(super) struct Subject<'a> {
    pub(super) plan: &'a Plan,
    /// Classes of the training images; none without labels.
    pub(super) classes: Option<usize>,
    pub(super) colours: &'a Colours,
    pub(super) images: u64,
    /// Patterns of the images.
    pub(super) train: &'a [String],
    pub(super) validation: &'a [String],
}

/// Channels of the first stage below which 0.02, the paper's deviation of first weights, is too small.
const NARROW: usize = 96;

impl Subject<'_> {
    /// `pretrain.toml`.
    pub(super) fn pretrain(&self, out: &str) -> String {
        let Course { pretrain: epochs, batch, .. } = self.course();
        let warmup = (epochs / 10).min(20);
        format!(
            "# FCMAE pre-training of `{}` on {} images, without labels.\n#\n#   convnext pretrain --recipe {out}/pretrain.toml --out \
             {out}/pretrain\n\n{}\n{}\n[pretrain]\nepochs = {epochs} # the longer, the better, up to a point\nbatch = {batch} \
             # images of a step; at most those of the set\nbase_lr = {LR_PRETRAIN:?} # for 256 images a step; it follows the \
             batch\nwarmup_epochs = {warmup}\n\n{}\n[checkpoint]\nevery_epochs = {}\nkeep_last = 2\n",
            self.plan.name,
            self.images,
            self.model(None),
            self.data(&[]),
            self.augment("0.3"),
            (epochs / 10).max(1),
        )
    }

    /// `finetune.toml`.
    pub(super) fn finetune(&self, out: &str) -> String {
        let Course { finetune: epochs, batch, .. } = self.course();
        let warmup = (epochs / 10).min(10);
        let every = (epochs / 20).max(1);
        format!(
            "# Training of `{}` on {} images in {} classes.\n#\n#   convnext finetune --recipe {out}/finetune.toml --out {out}/finetune\n\n{}\n{}\n[finetune]\nepochs = {epochs}\nbatch = {batch} # images of a step; at most those \
             of the set\nbase_lr = {LR_FINETUNE:?} # for 256 images a step; it follows the batch\nwarmup_epochs = {warmup}\n\
             min_lr = 1e-6\n{}drop_path = 0.1\nsmoothing = 0.1 # of labels: no answer \
             is meant to be certain\nema = {{ decay = 0.99, warmup = true }} # the average of the weights is what is measured\n\n{}\n\
             [evaluate]\nevery_epochs = {every}\n\n[checkpoint]\nevery_epochs = {every}\nkeep_last = 2\nkeep_best = true # by \
             accuracy on the validation set\n",
            self.plan.name,
            self.images,
            self.classes.unwrap_or(0),
            self.model(self.classes),
            self.data(self.validation),
            self.start(out),
            self.augment("0.3"),
        )
    }

    /// What fine-tuning starts from.
    fn start(&self, out: &str) -> String {
        match self.plan.fcmae {
            Some(_) => format!(
                "start = \"pretrained\" # or \"scratch\", without the next two lines\nweights = {} # a run, a checkpoint, or a file of \
                 weights\nlayer_decay = {{ rate = 0.9, mode = \"single\" }} # earlier layers learn less\n",
                toml_string(&format!("{out}/pretrain"))
            ),
            None => "start = \"scratch\" # the variant declares no pre-training\n".to_owned(),
        }
    }

    fn course(&self) -> Course {
        Course::of(self.images)
    }

    fn model(&self, classes: Option<usize>) -> String {
        let mut text = format!("[model]\nname = \"{}\"\n", self.plan.name);
        if let Some(classes) = classes {
            text += &format!("classes = {classes} # as many as the data have\n");
        }
        if self.plan.stages.first().is_some_and(|stage| stage.dim < NARROW) {
            text += "init = \"fan_in\" # 0.02, the paper's, starts layers this narrow too small\n";
        }
        text
    }

    fn data(&self, validation: &[String]) -> String {
        let mut text = format!("[data]\ntrain = {}\n", patterns(self.train));
        if !validation.is_empty() {
            text += &format!("validation = {}\n", patterns(validation));
        }
        let numbers = |values: &[f64]| values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", ");
        let Colours { pictures, mean, deviation } = self.colours;
        text + &format!(
            "mean = [{}] # of {pictures} of the training images, one value a channel, pixels running from 0 to 1\nstd = [{}]\n",
            numbers(mean),
            numbers(deviation)
        )
    }

    fn augment(&self, smallest: &str) -> String {
        format!(
            "[augment]\ncrop_scale = [{smallest}, 1.0] # the share of an image that a random crop takes\nflip = true # half of \
             the images are mirrored: not for text, or where left and right matter\n"
        )
    }
}

/// Peak of the learning rate for 256 images.
const LR_PRETRAIN: f64 = 4e-3;
const LR_FINETUNE: f64 = 8e-3;

/// Patterns as TOML.
fn patterns(patterns: &[String]) -> String {
    match patterns {
        [one] => toml_string(one),
        several => format!("[{}]", several.iter().map(|one| toml_string(one)).collect::<Vec<_>>().join(", ")),
    }
}
