//! Parameters by name: the one visitor that optimiser, checkpoints, averages and converters use.

use std::convert::Infallible;

use dfdx::prelude::*;

use crate::optim::Layout;

/// A model whose tensors are all `f32` on the CPU.
pub trait Collection: TensorCollection<f32, Cpu, To<f32, Cpu> = Self> {}

impl<M: TensorCollection<f32, Cpu, To<f32, Cpu> = M>> Collection for M {}

/// Names, shapes and places of a model's parameters in a flat buffer, in the order of declaration.
pub fn layout<M: Collection>(model: &M) -> Layout {
    let mut describe = Describe(Vec::new());
    walk::<M, _>((model, String::new()), &mut describe);
    Layout::new(describe.0).expect("a model names each of its tensors once")
}

/// Copies all parameters into `buffer`, whose length is that of the [`layout`].
pub fn read<M: Collection>(model: &M, buffer: &mut [f32]) {
    walk::<M, _>(model, &mut Read(buffer));
}

/// Copies all parameters from `buffer`, whose length is that of the [`layout`].
pub fn write<M: Collection>(model: &mut M, buffer: &[f32]) {
    walk::<M, _>(model, &mut Write(buffer));
}

/// Copies the gradients of all parameters into `buffer`; a parameter without one gives zeros.
pub fn read_gradients<M: Collection>(
    model: &M,
    gradients: &mut Gradients<f32, Cpu>,
    buffer: &mut [f32],
) {
    walk::<M, _>(model, &mut ReadGradients { gradients, buffer });
}

fn walk<'a, M: Collection, V>(
    view: <V::Viewer as TensorViewer>::View<'a, M>,
    visitor: &'a mut V,
) where
    V: TensorVisitor<f32, Cpu, E2 = f32, D2 = Cpu, Err = Infallible>,
    V::Viewer: TensorViewer,
{
    let Ok(_) = M::iter_tensors(&mut RecursiveWalker { m: view, f: visitor });
}

struct Describe(Vec<(String, Vec<usize>)>);

impl TensorVisitor<f32, Cpu> for Describe {
    type Viewer = (ViewTensorRef, ViewTensorName);
    type Err = Infallible;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, f32, Cpu>,
        (tensor, name): (&Tensor<S, f32, Cpu>, String),
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Infallible> {
        let shape = tensor.shape().concrete().into_iter().collect();
        self.0.push((name, shape));
        Ok(None)
    }
}

struct Read<'a>(&'a mut [f32]);

impl TensorVisitor<f32, Cpu> for Read<'_> {
    type Viewer = ViewTensorRef;
    type Err = Infallible;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, f32, Cpu>,
        tensor: &Tensor<S, f32, Cpu>,
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Infallible> {
        let length = tensor.shape().num_elements();
        let (head, tail) = std::mem::take(&mut self.0).split_at_mut(length);
        tensor.copy_into(head);
        self.0 = tail;
        Ok(None)
    }
}

struct Write<'a>(&'a [f32]);

impl TensorVisitor<f32, Cpu> for Write<'_> {
    type Viewer = ViewTensorMut;
    type Err = Infallible;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, f32, Cpu>,
        tensor: &mut Tensor<S, f32, Cpu>,
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Infallible> {
        let (head, tail) = self.0.split_at(tensor.shape().num_elements());
        tensor.copy_from(head);
        self.0 = tail;
        Ok(None)
    }
}

struct ReadGradients<'a> {
    gradients: &'a mut Gradients<f32, Cpu>,
    buffer: &'a mut [f32],
}

impl TensorVisitor<f32, Cpu> for ReadGradients<'_> {
    type Viewer = ViewTensorRef;
    type Err = Infallible;
    type E2 = f32;
    type D2 = Cpu;

    fn visit<S: Shape>(
        &mut self,
        _: TensorOptions<S, f32, Cpu>,
        tensor: &Tensor<S, f32, Cpu>,
    ) -> Result<Option<Tensor<S, f32, Cpu>>, Infallible> {
        let length = tensor.shape().num_elements();
        let (head, tail) = std::mem::take(&mut self.buffer).split_at_mut(length);
        match self.gradients.get_or_alloc_mut(tensor) {
            Ok(gradient) => head.copy_from_slice(gradient),
            Err(_) => head.fill(0.0),
        }
        self.buffer = tail;
        Ok(None)
    }
}
