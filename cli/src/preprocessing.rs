//! How weights are to be used, as the command line says it: `--model`, `--mean`, `--std`, `--view`, `--crop`, and which
//! weights of a run. What it does not say is taken from the weights, else from their run, else from defaults.

use std::path::Path;

use clap::ValueEnum;
use convnext_core::Entry;
use convnext_data::shard::read_class_names;
use convnext_pipeline::{
    given::{Given, Known, Preprocessing, SMALLEST_CROP},
    input::View,
    tell,
};
use convnext_weights::checkpoint::Taken;

use crate::{Context, Failure, Outcome, which};

/// The arguments, for commands that apply weights to images.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The variant; without it, the one that the weights or their run name.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    #[command(flatten)]
    which: which::Args,
    /// Mean of the pixels, which run from 0 to 1: one number, or one a channel; without it, what the model was trained with.
    #[arg(long, value_name = "MEAN[,MEAN...]", value_delimiter = ',', value_parser = mean)]
    mean: Vec<f32>,
    /// Their standard deviation, as --mean.
    #[arg(long, value_name = "STD[,STD...]", value_delimiter = ',', value_parser = deviation)]
    std: Vec<f32>,
    /// How an image of another size becomes the model's input; without it, as the model was trained.
    #[arg(long, value_enum, value_name = "VIEW")]
    view: Option<Name>,
    /// Share of the shrunk image's side that a cropped view keeps.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    crop: Option<f64>,
}

/// A view, without its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Shrunk, then its centre.
    Cropped,
    /// In the middle of the input, black around it; shrunk if it is larger.
    Padded,
    /// Resized to the input, whatever its shape.
    Warped,
}

fn number(text: &str) -> Result<f32, String> {
    text.trim().parse().map_err(|_| "a number is wanted".to_owned())
}

fn mean(text: &str) -> Result<f32, String> {
    let fine = |mean: &f32| (0.0..=1.0).contains(mean);
    in_range(text, fine, "from 0 to 1")
}

fn deviation(text: &str) -> Result<f32, String> {
    let fine = |std: &f32| *std > 1e-6 && *std <= 1.0;
    in_range(text, fine, "above 0, up to 1")
}

fn in_range(text: &str, fine: impl Fn(&f32) -> bool, range: &str) -> Result<f32, String> {
    let value = number(text)?;
    if fine(&value) {
        return Ok(value);
    }
    let scaled = value / 255.0;
    let hint = if fine(&scaled) { format!("; of pixels that run to 255: {scaled:.3}") } else { String::new() };
    Err(format!("pixels run from 0 to 1, so this is {range}{hint}"))
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    let wanted = || format!("a number from {SMALLEST_CROP} to 1 is wanted");
    let share: f64 = text.parse().map_err(|_| wanted())?;
    if (SMALLEST_CROP..=1.0).contains(&share) { Ok(share) } else { Err(wanted()) }
}

/// Weights, the variant that they are applied with, and how.
pub(crate) struct Applied {
    pub(crate) given: Given,
    /// The variant, with as many classes as the weights have.
    pub(crate) entry: Entry,
    pub(crate) preprocessing: Preprocessing,
}

/// The variant that is asked for, else the one that weights or their run say they are of.
pub(crate) fn variant<'a>(asked: Option<&str>, given: &Given, context: &Context<'a>) -> Outcome<&'a Entry> {
    if let Some(model) = asked {
        return context.registry.find(model);
    }
    let path = given.path.display();
    let none = || Failure::usage(format!("{path}: the weights do not say which variant they are of; give --model"));
    context.registry.find(given.model().ok_or_else(none)?).map_err(|failure| match failure {
        Failure::Usage(what) => {
            Failure::usage(format!("{path}: weights of a variant that this program does not have: {what}"))
        }
        failure => failure,
    })
}

impl Args {
    /// Looks at the weights at `path`, and settles how they are used. `classes` is a file of the model's names.
    pub(crate) fn resolve(&self, path: &Path, classes: Option<&Path>, context: &Context<'_>) -> Outcome<Applied> {
        self.check()?;
        let given = Given::find(path, |values| self.which.values_or(values).into())?;
        let entry = given.fit(variant(self.model.as_deref(), &given, context)?);
        self.check_channels(entry.plan.channels)?;
        let mut preprocessing = given.preprocessing(&entry.plan, self.model.is_some())?;
        self.override_with(&mut preprocessing);
        if let Some(path) = classes {
            let names = read_class_names(path).map_err(|error| Failure::because("--classes", error))?;
            preprocessing.classes = names;
        }
        preprocessing.check(&entry.plan)?;
        Ok(Applied { given, entry, preprocessing })
    }

    fn check(&self) -> Outcome {
        match (self.view, self.crop) {
            (Some(Name::Padded | Name::Warped), Some(_)) => {
                Err(Failure::usage("--crop goes with --view cropped; a padded or warped view keeps all of an image"))
            }
            _ => Ok(()),
        }
    }

    fn check_channels(&self, channels: usize) -> Outcome {
        for (flag, values) in [("--mean", &self.mean), ("--std", &self.std)] {
            if values.len() > 1 && values.len() != channels {
                let what = format!("{flag}: {} values for {channels} channels; give one, or one each", values.len());
                return Err(Failure::usage(what));
            }
        }
        Ok(())
    }

    fn override_with(&self, preprocessing: &mut Preprocessing) {
        if !self.mean.is_empty() {
            preprocessing.data.mean = Some(self.mean.clone());
        }
        if !self.std.is_empty() {
            preprocessing.data.std = Some(self.std.clone());
        }
        let trained = match preprocessing.view {
            View::Cropped(crop) if crop < 1.0 => crop,
            _ => convnext_pipeline::recipe::Evaluate::default().crop,
        };
        match (self.view, self.crop) {
            (None, None) => {}
            (Some(Name::Padded), _) => preprocessing.view = View::Padded,
            (Some(Name::Warped), _) => preprocessing.view = View::Cropped(1.0),
            (_, crop) => preprocessing.view = View::Cropped(crop.unwrap_or(trained)),
        }
    }

    /// Whether the command line leaves nothing to be assumed.
    fn says_all(&self) -> bool {
        !self.mean.is_empty() && !self.std.is_empty() && (self.view.is_some() || self.crop.is_some())
    }

    /// Says which weights are used, and how.
    pub(crate) fn tell(&self, applied: &Applied, taken: &Taken) -> Outcome {
        let Applied { given, entry, preprocessing } = applied;
        let images = preprocessing.described(&entry.plan)?;
        tell::say(format_args!("using {taken}: {} as `{}`; images {images}", given.path.display(), entry.plan.name));
        if let Some(usage) =
            given.usage().filter(|usage| usage.height != entry.plan.height || usage.width != entry.plan.width)
        {
            tell::warn(format_args!("the weights were trained on images of {}x{}", usage.height, usage.width));
        }
        if preprocessing.known == Known::Nothing && !self.says_all() {
            tell::warn(
                "nothing says how these weights were trained, so defaults are assumed where --mean, --std and --view do \
                 not say: if they differ, what is measured is wrong",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_another_scale_are_seen() {
        assert_eq!(mean("0.485"), Ok(0.485));
        assert!(mean("123.675").unwrap_err().contains("to 255: 0.485"));
        assert!(deviation("58.4").unwrap_err().contains("to 255: 0.229"));
        for wrong in ["nan", "-0.1", "inf", "1e9", "x", ""] {
            assert!(mean(wrong).is_err() && deviation(wrong).is_err() && share(wrong).is_err(), "{wrong}");
        }
        assert!(deviation("0").is_err() && share("1e-9").is_err() && share("1").is_ok());
    }
}
