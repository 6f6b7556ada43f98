//! Training on a GPU: batches go there as bytes, and what became of a step is known some steps later.

use std::borrow::Cow;

use convnext_core::{
    launch::element::Element,
    nn::Flat,
    optim::{self, Layout},
};
use convnext_cuda::{
    detect,
    predictor::Predictor,
    session::Report,
    trainer::{self, BatchImages, TrainerSettings, TrainerState},
    training::Options,
};
use convnext_data::{ImageView, Normalise};

use super::{Inference, ModelError, Objective, Outcome, Pass, State, Trainer, Workplace, cpu::Lent, products};
use crate::{
    input::{Input, InputError},
    records::Weights,
    settings::{NonFinitePolicy, Precision},
    stream::Batch,
};

/// Steps that are in flight while the next is submitted: one that is computed, and one behind it.
const LAG: usize = 2;

/// Trains on a GPU.
pub struct CudaTrainer<O: Objective> {
    objective: O,
    trainer: trainer::Trainer,
    measured: Measured<O>,
    averages: bool,
    lag: usize,
}

impl<O: Objective> CudaTrainer<O> {
    /// Compiles and loads everything that the run needs; it starts from the parameters of `model`, as it is now.
    ///
    /// # Errors
    /// [`ModelError`]: a batch that is too large, or what the device refuses.
    pub fn new(
        objective: O,
        device: &detect::Device,
        model: &O::Module,
        place: &Workplace<'_>,
    ) -> Result<Self, ModelError> {
        let Workplace { plan, run, precision, data, measured, .. } = *place;
        let options = Options {
            samples: run.batch,
            real: element(precision),
            max_norm: run.clip.unwrap_or(0.0) as f32,
            ema: run.ema.is_some(),
            drop_path: objective.drop_path() > 0.0,
            bytes: true,
        };
        let step = objective.schedule(&options, run.accumulation)?;
        let (layout, parameters) = (model.layout(), model.values());
        let settings = TrainerSettings {
            adamw: run.adamw,
            rules: optim::rules(&layout, plan, run.layer_decay)?,
            ema: run.ema,
            accumulation: run.accumulation,
            drop_path: objective.drop_path(),
            table: bytes_to_values(&Input { plan, data, workers: 0 }.table()?)?,
        };
        let zeros = vec![0.0; parameters.len()];
        let average = run.ema.map(|_| parameters.clone());
        let state = TrainerState { parameters, m: zeros.clone(), v: zeros, average, updates: 0 };
        let predictor = |samples| objective.predictor(&Pass { device, layout: &layout, samples, precision });
        let measured = match measured.map(predictor).transpose()? {
            None => Measured::Never,
            Some(Some(predictor)) => Measured::OnDevice(Box::new(predictor)),
            Some(None) => Measured::OnCpu(O::model(model, products(precision))),
        };
        let tf32 = precision == Precision::Tf32;
        Ok(Self {
            trainer: trainer::Trainer::on_device(device, step, layout, settings, &state, tf32)?,
            measured,
            averages: run.ema.is_some(),
            lag: lag(run.non_finite),
            objective,
        })
    }
}

/// Where the model is measured on the way.
enum Measured<O: Objective> {
    Never,
    OnDevice(Box<Predictor>),
    /// The task has no pass of its own for a device.
    OnCpu(O::Model),
}

/// The type of a GPU's activations.
pub fn element(precision: Precision) -> Element {
    match precision {
        Precision::F32 | Precision::Tf32 => Element::F32,
        Precision::Bf16 => Element::Bf16,
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
fn bytes_to_values(table: &Normalise) -> Result<Vec<f32>, ModelError> {
    let channels = table.channels();
    let pixels: Vec<u8> = (0..=255u8).flat_map(|byte| std::iter::repeat_n(byte, channels)).collect();
    let mut values = vec![0.0; pixels.len()];
    table.run(ImageView { height: 1, width: 256, channels, pixels: &pixels }, &mut values).map_err(InputError::from)?;
    Ok((0..channels).flat_map(|channel| values.iter().skip(channel).step_by(channels).copied()).collect())
}

impl<O: Objective> Trainer for CudaTrainer<O> {
    fn layout(&self) -> &Layout {
        self.trainer.layout()
    }

    fn submit(&mut self, batch: &mut Batch, lr: f64) -> Result<(), ModelError> {
        let targets = self.objective.targets(batch)?;
        let (targets, mix) = self.objective.on_device(&targets)?;
        let images = BatchImages::Bytes { pixels: &batch.bytes, flips: &batch.flips, mix };
        Ok(self.trainer.submit(&trainer::Batch { images, targets }, lr)?)
    }

    fn collect(&mut self, in_flight: usize) -> Result<Option<Outcome>, ModelError> {
        let outcome = |report: Report| {
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

    fn state(&mut self) -> Result<State<'_>, ModelError> {
        let TrainerState { parameters, m, v, average, updates } = self.trainer.state()?;
        let average = average.map(Into::into);
        Ok(State { parameters: parameters.into(), m: m.into(), v: v.into(), average, updates })
    }

    fn restore(&mut self, state: State<'static>) -> Result<(), ModelError> {
        let State { parameters, m, v, average, updates } = state;
        let [parameters, m, v] = [parameters, m, v].map(Cow::into_owned);
        let average = average.map(Cow::into_owned);
        Ok(self.trainer.restore(&TrainerState { parameters, m, v, average, updates })?)
    }

    fn averages(&self) -> bool {
        self.averages
    }

    fn measure(
        &mut self,
        weights: Weights,
        measurement: &mut dyn FnMut(&mut dyn Inference) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        let values = match weights {
            Weights::Model => self.trainer.parameters()?,
            Weights::Ema => self.trainer.average()?.ok_or(ModelError::NoAverage)?,
        };
        match &mut self.measured {
            Measured::Never => Err(ModelError::Unmeasured(self.objective.task())),
            Measured::OnDevice(predictor) => {
                predictor.write(&values)?;
                measurement(&mut **predictor)
            }
            Measured::OnCpu(model) => measurement(&mut Lent::new(&self.objective, model, &values)),
        }
    }
}

impl Inference for Predictor {
    fn outputs(&mut self, batch: &mut Batch) -> Result<Vec<f32>, ModelError> {
        Ok(self.logits(&batch.images)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_what_the_cpu_looks_up() {
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
