//! `convnext predict`: what a classifier says about images.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use convnext_pipeline::{
    interrupt,
    sheet::{self, Card},
    tasks::classify::{Prediction, Predictor, Question},
    tell,
    trainer::ModelError,
};
use serde::Serialize;

use crate::{Context, Failure, Outcome, device, images, npy, output, preprocessing};

/// Classifies images.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  convnext predict --weights runs/finetune shoe.png coat.jpg
  convnext predict --weights runs/finetune@last photos 'more/*.jpg' --csv > predictions.csv
  convnext predict --weights runs/finetune photos --sheet predictions.html --embeddings features.npy
  find photos -name '*.png' | convnext predict --weights runs/finetune - --top 1 --json

Images that cannot be classified are told at the end, the others go on, and the exit code is 1. Mean, deviation, view and
class names are those that the weights say, else those of the run that they lie in; which are used is told.")]
pub struct Args {
    #[command(flatten)]
    images: images::Args,
    /// A run, a checkpoint or a `.safetensors` file; RUN@best, RUN@last and RUN@step-800 are checkpoints of a run.
    #[arg(long, value_name = "PATH")]
    weights: PathBuf,
    #[command(flatten)]
    preprocessing: preprocessing::Args,
    /// Classes shown for each image.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// A file of the model's class names, one a line, class 0 first; without it, those that the weights have.
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Also writes a page of small pictures, each with what is said about it.
    #[arg(long, value_name = "HTML")]
    sheet: Option<PathBuf>,
    /// Also writes features, `[N, D]`: what the head's linear layer looks at, a row for each image that was classified.
    #[arg(long, value_name = "NPY")]
    embeddings: Option<PathBuf>,
    #[command(flatten)]
    device: device::Args,
    /// Writes a table: image, rank, class, name, probability.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Writes one line of JSON for each image.
    #[arg(long)]
    json: bool,
}

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    prediction: &'a Prediction,
    /// Names of the classes shown, where they have some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<&'a str>,
}

/// A line of JSON about an image that has no prediction.
#[derive(Serialize)]
struct Bad {
    image: String,
    error: String,
}

/// Runs the command.
pub fn run(args: &Args, context: &Context<'_>) -> Outcome {
    interrupt::listen().map_err(|error| Failure::because("cannot listen for signals", error))?;
    args.check()?;
    let files = args.images.files()?;
    let applied = args.preprocessing.resolve(&args.weights, args.classes.as_deref(), context)?;
    let preprocessing::Applied { given, entry, preprocessing } = &applied;
    let weights = (given.path.as_path(), given.which);
    let device = args.device.resolve()?;
    let batch = given.evaluate().batch as usize;
    let mut predictor = Predictor::new(entry, weights, &preprocessing.data, preprocessing.view, batch, &device)?;
    args.preprocessing.tell(&applied, predictor.taken())?;
    let question =
        Question { top: args.top as usize, features: args.embeddings.is_some(), pictures: args.sheet.is_some() };
    let mut said = Said::new(args, &preprocessing.classes)?;
    let begun = Instant::now();
    for files in files.chunks(batch) {
        for (file, answer) in files.iter().zip(predictor.predict(files, question)?) {
            match answer {
                Ok(prediction) => said.add(prediction)?,
                Err(error) if error.is_of_one_image() => said.add_bad(file, error)?,
                Err(error) => return Err(error.into()),
            }
        }
    }
    said.finish(begun.elapsed().as_secs_f64())
}

impl Args {
    /// Looks at what can be wrong before anything is read.
    fn check(&self) -> Outcome {
        if self.images.is_empty() {
            return Err(Failure::usage("no images; give files, folders, quoted patterns, --list FILE, or - for names"));
        }
        let wanted = [("--sheet", &self.sheet, "html"), ("--embeddings", &self.embeddings, "npy")];
        for (flag, path, ending) in wanted.into_iter().filter_map(|(flag, path, end)| Some((flag, path.as_ref()?, end)))
        {
            if path.extension().is_none_or(|extension| extension != ending) {
                return Err(Failure::usage(format!("{flag} {}: give a name that ends in .{ending}", path.display())));
            }
        }
        Ok(())
    }
}

/// What has been said so far, and what is to be written at the end.
struct Said<'a> {
    args: &'a Args,
    names: &'a [String],
    images: usize,
    bad: Vec<ModelError>,
    features: Vec<f32>,
    cards: Vec<Card>,
}

impl<'a> Said<'a> {
    fn new(args: &'a Args, names: &'a [String]) -> Outcome<Self> {
        if args.csv {
            row(["image", "rank", "class", "name", "probability"])?;
        }
        Ok(Self { args, names, images: 0, bad: Vec::new(), features: Vec::new(), cards: Vec::new() })
    }

    fn name(&self, class: usize) -> String {
        self.names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }

    fn add(&mut self, prediction: Prediction) -> Outcome {
        self.images += 1;
        self.features.extend(&prediction.features);
        if let Some(picture) = &prediction.picture {
            let classes = prediction.classes.iter().map(|&(class, share)| (self.name(class), share)).collect();
            self.cards.push(Card::new(picture, prediction.image.clone(), classes).map_err(ModelError::from)?);
        }
        match (self.args.json, self.args.csv) {
            (true, _) => self.line(&prediction),
            (_, true) => self.rows(&prediction),
            _ => self.text(&prediction),
        }
    }

    fn line(&self, prediction: &Prediction) -> Outcome {
        let names: Vec<&str> =
            prediction.classes.iter().filter_map(|&(class, _)| Some(self.names.get(class)?.as_str())).collect();
        let names = if names.len() == prediction.classes.len() { names } else { Vec::new() };
        output::json_line(&Line { prediction, names })
    }

    fn rows(&self, prediction: &Prediction) -> Outcome {
        prediction.classes.iter().zip(1..).try_for_each(|(&(class, probability), rank)| {
            let (name, numbers) = (self.name(class), [rank.to_string(), class.to_string(), probability.to_string()]);
            row([&prediction.image, &numbers[0], &numbers[1], &name, &numbers[2]])
        })
    }

    fn text(&self, prediction: &Prediction) -> Outcome {
        let mut text = format!("{}\n", prediction.image);
        for &(class, probability) in &prediction.classes {
            text += &format!("  {:5.1} %  {}\n", 100.0 * probability, self.name(class));
        }
        output::text(&text)
    }

    fn add_bad(&mut self, file: &Path, error: ModelError) -> Outcome {
        if self.args.json {
            output::json_line(&Bad { image: file.display().to_string(), error: error.to_string() })?;
        }
        self.bad.push(error);
        Ok(())
    }

    /// Writes what was asked for beside the answers, and says how it went.
    fn finish(self, seconds: f64) -> Outcome {
        if let Some(path) = &self.args.embeddings {
            npy::write(path, &[self.images, self.features.len() / self.images.max(1)], &self.features)?;
        }
        if let Some(path) = &self.args.sheet {
            let (title, about) = (self.args.weights.display().to_string(), format!("{} images", self.images));
            let page = sheet::page(&title, &about, &self.cards);
            fs::write(path, page)
                .map_err(|error| Failure::because(format!("cannot write {}", path.display()), error))?;
        }
        let rate = self.images as f64 / seconds.max(1e-9);
        tell::say(format_args!("{} images in {seconds:.1} s, {rate:.0} img/s", self.images));
        if self.bad.is_empty() {
            return Ok(());
        }
        tell::error(format_args!(
            "{} of {} images could not be classified",
            self.bad.len(),
            self.images + self.bad.len()
        ));
        self.bad.iter().for_each(|error| tell::error(format_args!("  {error}")));
        Err(Failure::Told)
    }
}

/// Writes a row of the table.
fn row<const N: usize>(cells: [&str; N]) -> Outcome {
    let mut row = Vec::new();
    csv::Writer::from_writer(&mut row).write_record(cells)?;
    output::text(&String::from_utf8_lossy(&row))
}
