//! Weights that somebody gives, and what is known of their use: from the weights themselves, else from the recipe of the
//! run they lie in, else nothing.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use convnext_core::{nn::Entry, plan::Plan};
use convnext_data::{ClassDifference, ShardSet};
use convnext_weights::{
    checkpoint::{self, Header, Usage, Which, WhichValues},
    convert,
};

use crate::{
    input::{View, view_of},
    recipe::{Data, Evaluate, EvaluatedWeights, Resolved},
    records, run_dir,
    runs::RunError,
    trainer::ModelError,
};

/// The smallest share of a shrunk image that evaluation may look at: below it, an image is enlarged out of all measure.
pub const SMALLEST_CROP: f64 = 0.1;

/// Weights, and what they and the run around them say.
#[derive(Debug, Clone)]
pub struct Given {
    /// A run, a checkpoint, a folder of checkpoints or a file; without the `@best` behind it.
    pub path: PathBuf,
    /// Which of them, as `@best` and the values that are asked for have it.
    pub which: Which,
    /// What their file holds.
    header: Arc<Header>,
    /// What was run, where they lie in a run.
    pub recipe: Option<Resolved>,
}

impl Given {
    /// Looks at the weights at `path`, and reads none of them. `which` is given the values that the run's recipe evaluates.
    ///
    /// # Errors
    /// There are no such weights, they are damaged, or the recipe beside them cannot be read.
    pub fn find(path: &Path, which: impl FnOnce(WhichValues) -> Which) -> Result<Self, RunError> {
        let (place, asked) = checkpoint::named(path);
        let run = run_of(&place);
        let recipe = run.map(|run| run_dir::read_recipe(&run)).transpose()?;
        let which =
            which(recipe.as_ref().map_or_else(WhichValues::default, |recipe| evaluate_of(recipe).weights.into()));
        let header = checkpoint::read_header(path, which)?;
        let checkpoint = asked.and_then(|named| named.checkpoint).unwrap_or(which.checkpoint);
        if let Some(what) = header.usage.as_ref().and_then(fault_of) {
            return Err(RunError::Usage { path: header.path, what });
        }
        Ok(Self { path: place, which: Which { checkpoint, ..which }, header: Arc::new(header), recipe })
    }

    /// What the weights say of their use.
    pub fn usage(&self) -> Option<&Usage> {
        self.header.usage.as_ref()
    }

    /// The variant that they are of, if anything says so.
    pub fn model(&self) -> Option<&str> {
        let usage = self.usage().map(|usage| usage.model.as_str());
        usage.or_else(|| self.recipe.as_ref().map(|recipe| recipe.model.name.as_str()))
    }

    /// The variant with as many classes as a classifier of these weights tells apart; as it is, if they are none.
    pub fn fit(&self, entry: &Entry) -> Entry {
        convert::classes_in(&self.header, &entry.plan, None).map_or(*entry, |classes| entry.with_classes(classes))
    }

    /// How the run was evaluated; the defaults where they lie in none.
    pub fn evaluate(&self) -> Evaluate {
        self.recipe.as_ref().map(evaluate_of).unwrap_or_default()
    }

    /// How a model of `plan` is to be used with these weights.
    ///
    /// # Errors
    /// [`RunError::OtherInput`] where the weights are for images of other channels, or of another size and the variant is not
    /// one that was `asked` for by name; mean or deviation do not fit the channels.
    pub fn preprocessing(&self, plan: &Plan, asked: bool) -> Result<Preprocessing, RunError> {
        if let Some(usage) = self.usage() {
            let (trained, taken) =
                ((usage.height, usage.width, usage.channels), (plan.height, plan.width, plan.channels));
            if trained.2 != taken.2 || (trained != taken && !asked) {
                return Err(RunError::OtherInput { of: usage.model.clone(), trained, model: plan.name, taken });
            }
            let (mean, std) = (Some(usage.mean.clone()), Some(usage.std.clone()));
            let data = Data { mean, std, ..Data::default() };
            return Ok(Preprocessing { data, view: usage.view, classes: usage.classes.clone(), known: Known::Weights });
        }
        let Some(recipe) = &self.recipe else {
            let view = View::Cropped(Evaluate::default().crop);
            return Ok(Preprocessing { data: Data::default(), view, classes: Vec::new(), known: Known::Nothing });
        };
        let view = view_of(recipe.training.as_ref().map(|training| &training.augment), evaluate_of(recipe).crop);
        let Data { mean, std, .. } = recipe.data.clone();
        let data = Data { mean, std, ..Data::default() };
        Ok(Preprocessing { data, view, classes: Vec::new(), known: Known::Recipe })
    }
}

/// How images become a model's input, and what its classes are called.
#[derive(Debug, Clone)]
pub struct Preprocessing {
    /// How pixels are normalised.
    pub data: Data,
    /// How an image of any size becomes one of the input's.
    pub view: View,
    /// Names of the classes, class 0 first; empty where nobody tells.
    pub classes: Vec<String>,
    /// Who says so.
    pub known: Known,
}

/// Who says how weights are to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The weights.
    Weights,
    /// The recipe of the run they lie in.
    Recipe,
    /// Nobody: defaults are taken.
    Nothing,
}

impl Preprocessing {
    /// Checks that names are at most as many as the classes of `plan`.
    ///
    /// # Errors
    /// [`RunError::ClassNames`].
    pub fn check(&self, plan: &Plan) -> Result<(), RunError> {
        match self.classes.len() > plan.classes {
            true => Err(RunError::ClassNames { names: self.classes.len(), model: plan.name, classes: plan.classes }),
            false => Ok(()),
        }
    }

    /// Mean, deviation and view, in words.
    ///
    /// # Errors
    /// Mean or deviation do not fit the channels.
    pub fn described(&self, plan: &Plan) -> Result<String, RunError> {
        let (mean, std) = self.data.normalisation(plan.channels).map_err(crate::input::InputError::Normalisation)?;
        let (mean, std, view) = (numbers(&mean), numbers(&std), shown(self.view));
        Ok(format!("{}x{}x{}, mean {mean}, deviation {std}, {view}", plan.height, plan.width, plan.channels))
    }
}

fn numbers(values: &[f32]) -> String {
    let same = values.windows(2).all(|pair| pair[0] == pair[1]);
    let shown = if same { &values[..values.len().min(1)] } else { values };
    shown.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn shown(view: View) -> String {
    match view {
        View::Padded => "padded".to_owned(),
        View::Cropped(crop) if crop >= 1.0 => "warped".to_owned(),
        View::Cropped(crop) => format!("cropped to {crop}"),
    }
}

/// What became of the names of a set's classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Its labels are the model's, by name.
    Compared,
    /// The model's classes have no names.
    NoneOfTheModel,
    /// The set's classes have no names.
    NoneOfTheSet,
    /// Neither has names: numbers are all there is.
    None,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self {
            Self::Compared => return write!(f, "labels are compared by the names of their classes"),
            Self::NoneOfTheModel => "the weights do not name their classes",
            Self::NoneOfTheSet => "the shards do not name their classes",
            Self::None => return write!(f, "classes have no names, so that labels are compared by number"),
        };
        write!(
            f,
            "{who}, so that labels are compared by number alone: give --classes FILE with the model's names, and let \
             NAME.classes.txt beside the shards NAME-*.tar name theirs"
        )
    }
}

/// Gives the samples of `shards` the labels that `classes`, the model's, have for the names of their classes.
///
/// # Errors
/// [`RunError::OtherClasses`] with the difference; [`ModelError::Classes`] where there are no names and more labels than
/// classes.
pub fn by_name(shards: ShardSet, classes: &[String], plan: &Plan) -> Result<(ShardSet, Names), RunError> {
    shards.check_class_names()?;
    let names = match (classes.is_empty(), shards.class_names()) {
        (false, Some(_)) => return Ok((shards.relabelled(classes)?, Names::Compared)),
        (true, Some(_)) => Names::NoneOfTheModel,
        (true, None) => Names::None,
        (false, None) => Names::NoneOfTheSet,
    };
    let known = if classes.is_empty() { plan.classes } else { classes.len() };
    match shards.classes() {
        found if found as usize > known => {
            Err(ModelError::Classes { model: plan.name, classes: known, largest: found - 1 }.into())
        }
        _ => Ok((shards, names)),
    }
}

impl From<ClassDifference> for RunError {
    fn from(difference: ClassDifference) -> Self {
        Self::OtherClasses(difference)
    }
}

impl From<EvaluatedWeights> for WhichValues {
    fn from(weights: EvaluatedWeights) -> Self {
        match weights {
            EvaluatedWeights::Raw => Self::Raw,
            EvaluatedWeights::Ema => Self::Ema,
            EvaluatedWeights::Best => Self::AverageIfThere,
        }
    }
}

fn evaluate_of(recipe: &Resolved) -> Evaluate {
    recipe.evaluate.clone().unwrap_or_default()
}

/// The run that `path` is, or whose `checkpoints` it lies in.
fn run_of(path: &Path) -> Option<PathBuf> {
    let is_run = |folder: &Path| folder.join(records::RECIPE).is_file();
    if is_run(path) {
        return Some(path.to_owned());
    }
    let whole = path.canonicalize().ok()?;
    // run/checkpoints/step-000000000010/weights.safetensors
    let checkpoints =
        whole.ancestors().take(3).find(|folder| folder.file_name().is_some_and(|n| n == "checkpoints"))?;
    checkpoints.parent().filter(|folder| is_run(folder)).map(Path::to_owned)
}

/// What is wrong with what weights say; a file can say anything.
fn fault_of(usage: &Usage) -> Option<String> {
    let Usage { channels, mean, std, view, .. } = usage;
    if mean.len() != *channels || std.len() != *channels {
        return Some(format!("{} means and {} deviations for {channels} channels", mean.len(), std.len()));
    }
    if let Some(mean) = mean.iter().find(|mean| !mean.is_finite()) {
        return Some(format!("a mean of {mean}"));
    }
    if let Some(std) = std.iter().find(|std| !(std.is_finite() && **std > 0.0)) {
        return Some(format!("a deviation of {std}"));
    }
    match view {
        View::Cropped(crop) if !(SMALLEST_CROP..=1.0).contains(crop) => Some(format!("a crop of {crop}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage() -> Usage {
        let (mean, std) = (vec![0.5, 0.5], vec![0.25, 0.25]);
        Usage {
            model: "a".into(),
            height: 4,
            width: 4,
            channels: 2,
            mean,
            std,
            view: View::Cropped(0.875),
            classes: vec![],
        }
    }

    #[test]
    fn what_weights_say_is_not_believed_blindly() {
        assert_eq!(fault_of(&usage()), None);
        for (wrong, what) in [
            (Usage { mean: vec![0.5], ..usage() }, "1 means"),
            (Usage { std: vec![0.25, 0.0], ..usage() }, "deviation of 0"),
            (Usage { std: vec![-1.0, 1.0], ..usage() }, "deviation of -1"),
            (Usage { mean: vec![f32::INFINITY, 0.0], ..usage() }, "mean of inf"),
            (Usage { view: View::Cropped(1e-9), ..usage() }, "crop of 0.000000001"),
            (Usage { view: View::Cropped(1.5), ..usage() }, "crop of 1.5"),
        ] {
            let fault = fault_of(&wrong).unwrap();
            assert!(fault.contains(what), "{fault}");
        }
    }

    #[test]
    fn a_run_is_found_from_within() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        let checkpoint = run.join("checkpoints/step-000000000007");
        std::fs::create_dir_all(&checkpoint).unwrap();
        let weights = checkpoint.join("weights.safetensors");
        std::fs::write(&weights, "").unwrap();
        assert_eq!(run_of(&weights), None);
        std::fs::write(run.join("recipe.toml"), "").unwrap();
        for path in [run.clone(), run.join("checkpoints"), checkpoint, weights] {
            let found = run_of(&path).unwrap_or_else(|| panic!("{}", path.display()));
            assert_eq!(found.canonicalize().unwrap(), run.canonicalize().unwrap());
        }
        let copied = run.join("exported.safetensors");
        std::fs::write(&copied, "").unwrap();
        assert_eq!(run_of(&copied), None, "a file beside a run may be anything");
    }
}
