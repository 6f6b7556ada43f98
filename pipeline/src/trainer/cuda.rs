//! Training on a GPU: batches go there as bytes, and what became of a step is known some steps later.

use convnext_core::{
    launch::operation::BatchShape,
    optim::{self, Layout},
    plan::Plan,
};
use convnext_cuda::{
    detect,
    predictor::Predictor,
    trainer::{self as device, Images, Settings},
    training::{Options, accumulating_autoencoder, accumulating_classifier},
};
use convnext_data::{ImageView, Normalise};

use super::{Aim, Classifier, Outcome, State, Trainer};
use crate::{
    Mixing,
    recipe::{NonFinitePolicy, Precision, Run},
    records::Weights,
    runs::RunError,
    stream::Batch,
};

/// Steps that are in flight while the next is submitted: one that is computed, and one behind it.
const LAG: usize = 2;

/// Trains on a GPU.
pub struct CudaTrainer {
    trainer: device::Trainer,
    predictor: Option<Predictor>,
    averages: bool,
    lag: usize,
}

/// What is trained, and how.
pub struct Design<'a> {
    /// Where.
    pub device: &'a detect::Device,
    /// The variant.
    pub plan: &'a Plan,
    /// The optimiser and the batches.
    pub run: &'a Run,
    /// How exactly is computed.
    pub precision: Precision,
    /// How bytes are normalised.
    pub table: &'a Normalise,
    /// What is trained.
    pub kind: Kind,
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A masked autoencoder.
    Autoencoder,
    /// A classifier.
    Classifier {
        /// Drop-path rate of the last block.
        drop_path: f32,
        /// Images of one pass when it is measured, if it is measured on the way.
        measured: Option<usize>,
    },
}

impl CudaTrainer {
    /// Compiles and loads everything that the run needs; `parameters`, in the model's `layout`, are what it starts from.
    ///
    /// # Errors
    /// [`RunError`]: a batch that is too large, or what the device refuses.
    pub fn new(design: &Design<'_>, layout: Layout, parameters: Vec<f32>) -> Result<Self, RunError> {
        let Design { device, plan, run, precision, table, kind } = *design;
        let options = Options {
            samples: run.batch,
            real: precision.element(),
            max_norm: run.clip.unwrap_or(0.0) as f32,
            ema: run.ema.is_some(),
            drop_path: matches!(kind, Kind::Classifier { drop_path, .. } if drop_path > 0.0),
            bytes: true,
        };
        let (step, drop_path, measured) = match kind {
            Kind::Autoencoder => (accumulating_autoencoder(plan, &options, run.accumulation)?, 0.0, None),
            Kind::Classifier { drop_path, measured } => {
                (accumulating_classifier(plan, &options, run.accumulation)?, drop_path, measured)
            }
        };
        let settings = Settings {
            adamw: run.adamw,
            rules: optim::rules(&layout, plan, run.layer_decay)?,
            ema: run.ema,
            accumulation: run.accumulation,
            drop_path,
            table: bytes_to_values(table)?,
        };
        let zeros = vec![0.0; parameters.len()];
        let average = run.ema.map(|_| parameters.clone());
        let state = device::State { parameters, m: zeros.clone(), v: zeros, average, updates: 0 };
        let tf32 = precision == Precision::Tf32;
        let predictor = measured.map(|samples| {
            Predictor::new(device, plan, layout.clone(), BatchShape { samples, real: precision.element() }, tf32)
        });
        Ok(Self {
            trainer: device::Trainer::on_device(device, step, layout, settings, &state, tf32)?,
            predictor: predictor.transpose()?,
            averages: run.ema.is_some(),
            lag: lag(run.non_finite),
        })
    }
}

/// Steps that may be in flight. A step that is skipped is no update for those after it, so that none may have been
/// submitted before it is known.
fn lag(policy: NonFinitePolicy) -> usize {
    match policy {
        NonFinitePolicy::Skip => 0,
        NonFinitePolicy::Stop | NonFinitePolicy::Rollback => LAG,
    }
}

/// What each byte of a channel becomes, `[C, 256]`.
fn bytes_to_values(table: &Normalise) -> Result<Vec<f32>, RunError> {
    let channels = table.channels();
    let pixels: Vec<u8> = (0..=255u8).flat_map(|byte| std::iter::repeat_n(byte, channels)).collect();
    let mut values = vec![0.0; pixels.len()];
    table
        .run(ImageView { height: 1, width: 256, channels, pixels: &pixels }, &mut values)
        .map_err(crate::input::InputError::from)?;
    Ok((0..channels).flat_map(|channel| values.iter().skip(channel).step_by(channels).copied()).collect())
}

impl Trainer for CudaTrainer {
    fn layout(&self) -> &Layout {
        self.trainer.layout()
    }

    fn submit(&mut self, batch: &mut Batch, aim: Aim, lr: f64) -> Result<(), RunError> {
        let mixing = match &aim {
            Aim::Masked(_) => Mixing::None,
            Aim::Labelled { mixing, .. } => *mixing,
        };
        let aim = match &aim {
            Aim::Masked(visible) => device::Aim::Masked(visible),
            Aim::Labelled { targets, drop_path_keys, .. } => device::Aim::Labelled { targets, drop_path_keys },
        };
        let images = Images::Bytes { pixels: &batch.bytes, flips: &batch.flips, mix: mixing.on_device() };
        Ok(self.trainer.submit(&device::Batch { images, aim }, lr)?)
    }

    fn collect(&mut self, in_flight: usize) -> Result<Option<Outcome>, RunError> {
        let outcome = |report: convnext_cuda::session::Report| {
            let (loss, norm) = (f64::from(report.loss), f64::from(report.norm));
            match report.finite {
                true => Outcome::Updated { loss, norm },
                false if !loss.is_finite() => Outcome::NonFinite { loss, what: format!("the loss is {loss}") },
                false if !norm.is_finite() => {
                    Outcome::NonFinite { loss, what: format!("the gradient's norm is {norm}") }
                }
                false => Outcome::NonFinite { loss, what: "the update of the weights overflows".to_owned() },
            }
        };
        Ok(self.trainer.collect(in_flight)?.map(outcome))
    }

    fn lag(&self) -> usize {
        self.lag
    }

    fn state(&mut self) -> Result<State<'_>, RunError> {
        let device::State { parameters, m, v, average, updates } = self.trainer.state()?;
        let average = average.map(Into::into);
        Ok(State { parameters: parameters.into(), m: m.into(), v: v.into(), average, updates })
    }

    fn restore(&mut self, state: State<'static>) -> Result<(), RunError> {
        let State { parameters, m, v, average, updates } = state;
        let [parameters, m, v] = [parameters, m, v].map(std::borrow::Cow::into_owned);
        let average = average.map(std::borrow::Cow::into_owned);
        Ok(self.trainer.restore(&device::State { parameters, m, v, average, updates })?)
    }

    fn averages(&self) -> bool {
        self.averages
    }

    fn measure(
        &mut self,
        weights: Weights,
        measurement: &mut dyn FnMut(&mut dyn Classifier) -> Result<(), RunError>,
    ) -> Result<(), RunError> {
        let predictor = self.predictor.as_mut().expect("the run said that it is measured");
        let values = match weights {
            Weights::Model => self.trainer.parameters()?,
            Weights::Ema => self.trainer.average()?.expect("the caller knows that there is an average"),
        };
        predictor.write(&values)?;
        measurement(predictor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_the_processor_looks_up() {
        let table = Normalise::new(&Normalise::IMAGENET_MEAN, &Normalise::IMAGENET_DEVIATION).unwrap();
        let values = bytes_to_values(&table).unwrap();
        for (channel, byte) in [(0, 0u8), (1, 7), (2, 255)] {
            let mut pixel = [0u8; 3];
            pixel[channel] = byte;
            let mut out = [0.0; 3];
            table.run(ImageView { height: 1, width: 1, channels: 3, pixels: &pixel }, &mut out).unwrap();
            assert_eq!(values[channel * 256 + usize::from(byte)].to_bits(), out[channel].to_bits());
        }
    }

    #[test]
    fn a_skipped_step_is_known_before_the_next_is_submitted() {
        use NonFinitePolicy::{Rollback, Skip, Stop};
        assert_eq!([Stop, Rollback, Skip].map(lag), [LAG, LAG, 0]);
    }
}
