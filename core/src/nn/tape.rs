//! The one place that touches dfdx's tape: how a fused operation of ours becomes a node of it.

use dfdx::prelude::*;
use rayon::prelude::*;

use crate::{awake::stay_awake, profile::timed, scratch::Buffer};

/// What dfdx's CPU device reports when it runs out of memory.
pub type Error = dfdx::tensor::CpuError;

/// A parameter tensor whose shape has been forgotten, so that operations can hold a list of them.
pub(crate) trait Parameter: 'static + Send + Sync {
    fn dimensions(&self) -> Vec<usize>;
    fn length(&self) -> usize;
    fn read(&self, buffer: &mut [f32]);
    fn write(&mut self, buffer: &[f32]);
    fn replace(&mut self, values: Vec<f32>) -> Result<(), Error>;
    fn shared(&self) -> Box<dyn Parameter>;
    fn take_gradient(&self, gradients: &mut Gradients<f32, Cpu>) -> Result<Vec<f32>, Error>;
    fn put_gradient(&self, gradients: &mut Gradients<f32, Cpu>, value: Vec<f32>) -> Result<(), Error>;
}

impl<S: Shape> Parameter for Tensor<S, f32, Cpu> {
    fn dimensions(&self) -> Vec<usize> {
        self.shape().concrete().into_iter().collect()
    }

    fn length(&self) -> usize {
        self.shape().num_elements()
    }

    fn read(&self, buffer: &mut [f32]) {
        self.copy_into(buffer);
    }

    fn write(&mut self, buffer: &[f32]) {
        self.copy_from(buffer);
    }

    // A new tensor: there is no other way to a tensor's memory without a copy.
    fn replace(&mut self, values: Vec<f32>) -> Result<(), Error> {
        *self = self.device().try_tensor_from_vec(values, *self.shape())?;
        Ok(())
    }

    fn shared(&self) -> Box<dyn Parameter> {
        Box::new(self.clone())
    }

    // dfdx lends one gradient at a time; moving the buffers out and back lends all of them without a copy.
    fn take_gradient(&self, gradients: &mut Gradients<f32, Cpu>) -> Result<Vec<f32>, Error> {
        Ok(std::mem::take(gradients.get_or_alloc_mut(self)?))
    }

    fn put_gradient(&self, gradients: &mut Gradients<f32, Cpu>, value: Vec<f32>) -> Result<(), Error> {
        **gradients.get_or_alloc_mut(self)? = value;
        Ok(())
    }
}

/// The tensor's elements in row-major order.
pub(crate) fn values<S: Shape, T>(tensor: &Tensor<S, f32, Cpu, T>) -> Vec<f32> {
    let mut buffer = vec![0.0; tensor.shape().num_elements()];
    tensor.copy_into(&mut buffer);
    buffer
}

/// The same, in a buffer that is used again.
fn kept_values<S: Shape, T>(tensor: &Tensor<S, f32, Cpu, T>) -> Buffer {
    timed!(Operation, "input copied");
    let mut buffer = Buffer::new(tensor.shape().num_elements());
    tensor.copy_into(&mut buffer);
    buffer
}

/// One of something for each parameter of an operation, by name.
pub(crate) struct Named<T>(Vec<(&'static str, T)>);

impl Named<Buffer> {
    /// The values of a parameter.
    pub(crate) fn get(&self, name: &str) -> &[f32] {
        &self.0.iter().find(|(own, _)| *own == name).expect("an operation's parameters are its module's").1
    }
}

impl<'a> Named<&'a mut [f32]> {
    /// The gradient of a parameter; each can be had once.
    pub(crate) fn take(&mut self, name: &str) -> &'a mut [f32] {
        let at = self.0.iter().position(|(own, _)| *own == name).expect("an operation's parameters are its module's");
        self.0.swap_remove(at).1
    }
}

/// The parameters of one operation.
pub(crate) struct Parameters(Vec<(&'static str, Box<dyn Parameter>)>);

impl Parameters {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn with<S: Shape>(mut self, name: &'static str, tensor: &Tensor<S, f32, Cpu>) -> Self {
        self.0.push((name, Box::new(tensor.clone())));
        self
    }

    fn values(&self) -> Named<Buffer> {
        timed!(Operation, "parameters copied");
        let mut values: Vec<_> = self.0.iter().map(|(name, tensor)| (*name, Buffer::new(tensor.length()))).collect();
        values.par_iter_mut().zip(&self.0).for_each(|((_, values), (_, tensor))| tensor.read(values));
        Named(values)
    }
}

/// What an operation's backward pass reads and adds to.
pub(crate) struct Backward<'a, Saved> {
    /// The operation's input.
    pub(crate) input: &'a [f32],
    /// Values of the parameters.
    pub(crate) parameters: &'a Named<Buffer>,
    /// What the forward pass kept.
    pub(crate) saved: Saved,
    /// Gradient of the output.
    pub(crate) output_gradient: &'a [f32],
    /// Gradient of the input, to be added to; empty if nobody wants it.
    pub(crate) input_gradient: &'a mut [f32],
    /// Gradients of the parameters, to be added to.
    pub(crate) parameter_gradients: Named<&'a mut [f32]>,
}

/// Runs `forward(input, parameters, output, keep)` and records `backward` if the input carries a tape.
///
/// `keep` says whether a backward pass can follow, `wanted` whether the input's gradient is. The output has shape `shape`
/// and starts as zeros.
pub(crate) fn record<In, Out, T, Saved, Forward, Back>(
    input: Tensor<In, f32, Cpu, T>,
    wanted: bool,
    shape: Out,
    parameters: Parameters,
    forward: Forward,
    backward: Back,
) -> Result<Tensor<Out, f32, Cpu, T>, Error>
where
    In: Shape,
    Out: Shape,
    T: Tape<f32, Cpu>,
    Saved: 'static,
    Forward: FnOnce(&[f32], &Named<Buffer>, &mut [f32], bool) -> Saved,
    Back: 'static + FnOnce(Backward<'_, Saved>),
{
    stay_awake();
    // A permuted or broadcast view is copied into row-major order first; anything else passes through.
    let (input, mut tape) = input.try_contiguous()?.split_tape();
    let input_values = kept_values(&input);
    let mut output_values = vec![0.0; shape.num_elements()];
    let saved = forward(&input_values, &parameters.values(), &mut output_values, T::OWNS_TAPE);
    let output = input.device().try_tensor_from_vec(output_values, shape)?;
    if T::OWNS_TAPE {
        let (input_ghost, output_ghost) = (input.ghost(), output.ghost());
        tape.add_backward_op(move |gradients| {
            stay_awake();
            // The output's gradient is complete and has no later reader: it is taken, and freed at the end.
            let output_gradient = std::mem::take(&mut **gradients.get_or_alloc_mut(&output_ghost)?);
            let mut input_gradient = Vec::new();
            if wanted {
                input_gradient = std::mem::take(&mut **gradients.get_or_alloc_mut(&input_ghost)?);
            }
            let mut parameter_gradients = Vec::with_capacity(parameters.0.len());
            for (name, parameter) in &parameters.0 {
                parameter_gradients.push((*name, parameter.take_gradient(gradients)?));
            }
            backward(Backward {
                input: &input_values,
                parameters: &parameters.values(),
                saved,
                output_gradient: &output_gradient,
                input_gradient: &mut input_gradient,
                parameter_gradients: Named(
                    parameter_gradients.iter_mut().map(|(name, gradient)| (*name, &mut gradient[..])).collect(),
                ),
            });
            if wanted {
                **gradients.get_or_alloc_mut(&input_ghost)? = input_gradient;
            }
            for ((_, parameter), (_, gradient)) in parameters.0.iter().zip(parameter_gradients) {
                parameter.put_gradient(gradients, gradient)?;
            }
            Ok(())
        });
    }
    Ok(output.put_tape(tape))
}
