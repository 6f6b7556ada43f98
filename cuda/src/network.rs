//! A network on a device: its parts with their parameters, and how activations and gradients pass through them.

use convnext_core::{
    launch::{
        operation::{BatchShape, DeviceBackward, DeviceOperation, Get, Inputs},
        schedule::{Schedule, ScheduleError, View},
    },
    network::{self, Location},
};

/// The parts, in order.
pub struct Network {
    parts: Vec<Placed>,
}

/// A part on the device, and the scales of its drop path if it has one.
struct Placed {
    operation: Box<dyn DeviceOperation>,
    drop: Option<View>,
}

/// What makes the gradients, in the order of the forward pass.
pub struct Tape(Vec<DeviceBackward>);

impl Network {
    /// `network` for batches of one size. `drop_paths` gives each block of the encoder, counted over all stages, the scales
    /// of its drop path, f32 `[N]`, if it has any; `get` gives each parameter its place.
    pub fn new(network: network::Network<'_>, batch: BatchShape, drop_paths: &[Option<View>], get: &mut Get) -> Self {
        let place = |part: network::Part| {
            let drop = match part.location {
                Location::Block { number, .. } => drop_paths.get(number).copied().flatten(),
                _ => None,
            };
            Placed { operation: part.on_device(batch, get), drop }
        };
        Self { parts: network.parts().map(place).collect() }
    }

    /// From the images to the logits or the loss, and what a backward pass needs.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large, or an input is missing.
    pub fn forward(&self, schedule: &mut Schedule, inputs: &Inputs) -> Result<(View, Tape), ScheduleError> {
        let (mut x, mut tape) = (inputs.images, Vec::with_capacity(self.parts.len()));
        for Placed { operation, drop } in &self.parts {
            let (out, backward) = operation.forward(schedule, &Inputs { drop: *drop, ..*inputs }, x)?;
            tape.push(backward);
            x = out;
        }
        Ok((x, Tape(tape)))
    }

    /// From the images to the logits, with nothing for a backward pass, and without drop path.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn infer(&self, schedule: &mut Schedule, inputs: &Inputs) -> Result<View, ScheduleError> {
        self.parts.iter().try_fold(inputs.images, |x, part| part.operation.infer(schedule, inputs, x))
    }
}

impl Tape {
    /// Adds the gradients of all parameters. `grad`, that of what the forward pass gave, is used up; the gradient of a
    /// loss is 1 whatever it is.
    ///
    /// # Errors
    /// [`ScheduleError`] if the batch is too large.
    pub fn backward(self, schedule: &mut Schedule, mut grad: View) -> Result<(), ScheduleError> {
        for backward in self.0.into_iter().rev() {
            let Some(before) = backward(schedule, grad)? else { break };
            grad = before;
        }
        Ok(())
    }
}
