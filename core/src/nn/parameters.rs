//! Parameters by name: the one visitor that optimiser, checkpoints, averages and converters use.
//!
//! Every kind of visitor is compiled for every tensor of every variant, so there are two, and what they do with a
//! tensor is decided at run time.

use std::convert::Infallible;

use dfdx::prelude::*;

use super::tensor::Parameter;
use crate::{optim::Layout, profile::timed};

/// A model whose tensors are all `f32` on the CPU.
pub trait Collection: TensorCollection<f32, Cpu, To<f32, Cpu> = Self> {}

impl<M: TensorCollection<f32, Cpu, To<f32, Cpu> = M>> Collection for M {}

/// Names, shapes and places of a model's parameters in a flat buffer, in the order of declaration.
pub fn layout<M: Collection>(model: &M) -> Layout {
    let mut tensors = Vec::new();
    look(model, &mut |name, tensor| tensors.push((name, tensor.dimensions())));
    Layout::new(tensors).expect("a model names each of its tensors once")
}

/// A copy of all parameters, in the order of the [`layout`].
pub fn values<M: Collection>(model: &M) -> Vec<f32> {
    timed!(Operation, "parameters copied");
    let mut values = Vec::new();
    look(model, &mut |_, tensor| {
        let start = values.len();
        values.resize(start + tensor.length(), 0.0);
        tensor.read(&mut values[start..]);
    });
    values
}

/// Copies all parameters into `buffer`, whose length is that of the [`layout`].
pub fn read<M: Collection>(model: &M, mut buffer: &mut [f32]) {
    look(model, &mut |_, tensor| {
        let (head, tail) = std::mem::take(&mut buffer).split_at_mut(tensor.length());
        tensor.read(head);
        buffer = tail;
    });
}

/// Copies all parameters from `buffer`, whose length is that of the [`layout`].
pub fn write<M: Collection>(model: &mut M, mut buffer: &[f32]) {
    timed!(Operation, "parameters written");
    change(model, &mut |tensor| {
        let (head, tail) = buffer.split_at(tensor.length());
        tensor.write(head);
        buffer = tail;
    });
}

/// Takes the gradients of all parameters out, without a copy; a parameter without one gives zeros.
///
/// # Errors
/// When there is no memory.
pub fn take_gradients<M: Collection>(
    model: &M,
    gradients: &mut Gradients<f32, Cpu>,
) -> Result<Vec<Vec<f32>>, super::Error> {
    let mut taken = Vec::new();
    look(model, &mut |_, tensor| taken.push(tensor.take_gradient(gradients)));
    taken.into_iter().collect()
}

/// Puts the gradients of all parameters in, one after the other in the order of the [`layout`].
///
/// # Errors
/// When there is no memory.
pub fn put_gradients<M: Collection>(
    model: &M,
    gradients: &mut Gradients<f32, Cpu>,
    mut flat: &[f32],
) -> Result<(), super::Error> {
    let mut result = Ok(());
    look(model, &mut |_, tensor| {
        let (head, tail) = flat.split_at(tensor.length());
        flat = tail;
        let put = tensor.put_gradient(gradients, head.to_vec());
        if put.is_err() {
            result = put;
        }
    });
    result
}

/// Calls `action` with the name and the tensor of every parameter.
fn look<M: Collection>(model: &M, action: &mut dyn FnMut(String, &dyn Parameter)) {
    let Ok(_) = M::iter_tensors(&mut RecursiveWalker { m: (model, String::new()), f: &mut Look(action) });
}

/// Calls `action` with every parameter's tensor.
fn change<M: Collection>(model: &mut M, action: &mut dyn FnMut(&mut dyn Parameter)) {
    let Ok(_) = M::iter_tensors(&mut RecursiveWalker { m: model, f: &mut Change(action) });
}

struct Look<'a>(&'a mut dyn FnMut(String, &dyn Parameter));

impl TensorVisitor<f32, Cpu> for Look<'_> {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = Infallible;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, f32, Cpu>,
        (tensor, name): (&Tensor<S, f32, Cpu>, String),
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Infallible> {
        (self.0)(name, tensor);
        Ok(None)
    }
}

struct Change<'a>(&'a mut dyn FnMut(&mut dyn Parameter));

impl TensorVisitor<f32, Cpu> for Change<'_> {
    type Viewer = ViewTensorMut;
    type Err = Infallible;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, f32, Cpu>,
        tensor: &mut Tensor<S, f32, Cpu>,
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Infallible> {
        (self.0)(tensor);
        Ok(None)
    }
}
