//! The one place that touches dfdx's tape: how a fused operation of ours becomes a node of it.

use std::sync::Arc;

use dfdx::prelude::*;
use rayon::prelude::*;

use super::{
    chain,
    operation::{Operation, Pass},
    part::Part,
    tensor::{Error, Parameter},
};
use crate::{profile::timed, scratch::Buffer, visibility::Visibility};

/// The tensor's elements in row-major order, in a buffer that is used again.
fn values<S: Shape, T>(tensor: &Tensor<S, f32, Cpu, T>) -> Buffer {
    timed!(Operation, "input copied");
    let mut buffer = Buffer::new(tensor.shape().num_elements());
    tensor.copy_into(&mut buffer);
    buffer
}

/// Tensors of parameters that a node of the tape reads, and whose gradients it adds to.
struct Parameters(Vec<Box<dyn Parameter>>);

impl Parameters {
    /// Their values, one tensor after the other.
    fn values(&self) -> Buffer {
        timed!(Operation, "parameters copied");
        let mut values = Buffer::new(self.0.iter().map(|tensor| tensor.length()).sum());
        let mut rest = &mut values[..];
        let cut = |tensor| (tensor, rest.split_off_mut(..Parameter::length(tensor)).expect("a place for each tensor"));
        let places: Vec<_> = self.0.iter().map(|tensor| &**tensor).map(cut).collect();
        places.into_par_iter().for_each(|(tensor, place)| tensor.read(place));
        values
    }

    /// Lets `add` add to their gradients, one tensor after the other.
    fn add_gradients(&self, gradients: &mut Gradients<f32, Cpu>, add: impl FnOnce(&mut [f32])) -> Result<(), Error> {
        let mut taken = Vec::with_capacity(self.0.len());
        for tensor in &self.0 {
            taken.push(tensor.take_gradient(gradients)?);
        }
        let mut flat = taken.concat();
        add(&mut flat);
        let mut rest = &flat[..];
        for (tensor, mut gradient) in self.0.iter().zip(taken) {
            let (part, tail) = rest.split_at(gradient.len());
            gradient.copy_from_slice(part);
            rest = tail;
            tensor.put_gradient(gradients, gradient)?;
        }
        Ok(())
    }
}

/// Runs the operations of `parts` as one node of the tape, if the input carries one; the output has shape `shape`.
///
/// Only the patches `visible` are computed, or all cells. `drops` says whether drop paths drop.
pub(crate) fn record<In: Shape, Out: Shape, T: Tape<f32, Cpu>>(
    parts: &[&dyn Part],
    x: Tensor<In, f32, Cpu, T>,
    shape: Out,
    visible: Option<&Arc<Visibility>>,
    drops: bool,
) -> Result<Tensor<Out, f32, Cpu, T>, Error> {
    let operations: Vec<_> = parts.iter().map(|part| part.operation()).collect();
    let operations: Vec<_> = operations.iter().map(|operation| &**operation as &dyn Operation).collect();
    let tensors = parts.iter().flat_map(|part| part.tensors()).collect();
    record_operations(&operations, tensors, x, shape, visible, drops)
}

/// The same for operations and the tensors of all their parameters.
pub(crate) fn record_operations<In: Shape, Out: Shape, T: Tape<f32, Cpu>>(
    operations: &[&dyn Operation],
    tensors: Vec<&dyn Parameter>,
    x: Tensor<In, f32, Cpu, T>,
    shape: Out,
    visible: Option<&Arc<Visibility>>,
    drops: bool,
) -> Result<Tensor<Out, f32, Cpu, T>, Error> {
    // A permuted or broadcast view is copied into row-major order first; anything else passes through.
    let (x, mut tape) = x.try_contiguous()?.split_tape();
    let samples = x.shape().concrete().into_iter().next().unwrap_or(1);
    let pass = Pass { samples, visible: visible.cloned(), keeps: T::OWNS_TAPE, drops };
    let parameters = Parameters(tensors.into_iter().map(Parameter::shared).collect());
    let (input, weights) = (values(&x), parameters.values());
    let (out, trace) = chain::forward(operations, &pass, &weights, &input);
    let out = x.device().try_tensor_from_vec(out.to_vec(), shape)?;
    if T::OWNS_TAPE {
        let (x, out) = (x.ghost(), out.ghost());
        tape.add_backward_op(move |gradients| {
            // The output's gradient is complete and has no later reader: it is taken, and freed at the end.
            let grad_out = std::mem::take(&mut **gradients.get_or_alloc_mut(&out)?);
            let mut grad_x = std::mem::take(&mut **gradients.get_or_alloc_mut(&x)?);
            let add = |flat: &mut [f32]| trace.backward(&weights, &input, &grad_out, &mut grad_x, flat);
            parameters.add_gradients(gradients, add)?;
            **gradients.get_or_alloc_mut(&x)? = grad_x;
            Ok(())
        });
    }
    Ok(out.put_tape(tape))
}
