//! What every operation of a network is to a schedule.

use super::{
    element::Element,
    geometry::{Geometry, Tables},
    schedule::{Parameter, Schedule, ScheduleError, View},
};

/// What a network is laid out for on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Samples.
    pub samples: usize,
    /// Type of the activations: f32 or bf16.
    pub real: Element,
}

/// Gives a parameter its place: by its name, and its length.
pub type Get<'a> = dyn FnMut(&str, usize) -> Parameter + 'a;

/// What an operation may read beside its input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Inputs {
    /// The images, f32 `[N, H, W, C]`.
    pub images: View,
    /// Of an autoencoder: the masks.
    pub tables: Option<Tables>,
    /// Of an autoencoder: where its loss goes, f32 `[1]`.
    pub loss: Option<View>,
    /// The scales of a block's drop path, f32 `[N]`, if it has one.
    pub drop: Option<View>,
}

impl Inputs {
    /// The masks.
    ///
    /// # Errors
    /// [`ScheduleError::Missing`] if there are none.
    pub fn tables(&self) -> Result<Tables, ScheduleError> {
        self.tables.ok_or(ScheduleError::Missing("mask"))
    }

    /// The masks where cells are those of visible patches; a dense geometry has none.
    ///
    /// # Errors
    /// As [`Self::tables`].
    pub fn tables_of(&self, geometry: Geometry) -> Result<Option<Tables>, ScheduleError> {
        match geometry {
            Geometry::Dense { .. } => Ok(None),
            Geometry::Sparse { .. } => self.tables().map(Some),
        }
    }
}

/// Adds the gradients of an operation's parameters, from that of its output, which may be used up; gives that of its input,
/// or `None` where nothing before wants it. The gradient of a loss is 1 and is not read.
pub type DeviceBackward = Box<dyn FnOnce(&mut Schedule, View) -> Result<Option<View>, ScheduleError>>;

/// An operation with its parameters on a device.
pub trait DeviceOperation {
    /// Appends what makes the output from `x`, and gives it with what makes the gradients.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large, or an input that the operation needs is not there.
    fn forward(
        &self,
        schedule: &mut Schedule,
        inputs: &Inputs,
        x: View,
    ) -> Result<(View, DeviceBackward), ScheduleError>;

    /// The same with nothing for a backward pass.
    ///
    /// # Errors
    /// As [`Self::forward`].
    fn infer(&self, schedule: &mut Schedule, inputs: &Inputs, x: View) -> Result<View, ScheduleError> {
        Ok(self.forward(schedule, inputs, x)?.0)
    }
}

/// A layer that can be put on a device.
pub trait OnDevice {
    /// The layer for batches of one size, on `geometry`; `get` gives a parameter its place, by its name in the layer.
    fn on_device(&self, geometry: Geometry, batch: BatchShape, get: &mut Get) -> Box<dyn DeviceOperation>;
}

/// A layer on a device: its sizes there, and its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed<Shape, Parameters> {
    /// Its sizes.
    pub shape: Shape,
    /// Where its parameters are.
    pub parameters: Parameters,
}
