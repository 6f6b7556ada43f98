//! Parameter tensors of any shape, behind one trait.

use dfdx::prelude::*;

/// What dfdx's CPU device reports when it runs out of memory.
pub type Error = dfdx::tensor::CpuError;

/// A parameter tensor whose shape has been forgotten, so that operations can hold a list of them.
pub trait Parameter: 'static + Send + Sync {
    fn dimensions(&self) -> Vec<usize>;
    fn length(&self) -> usize;
    fn read(&self, buffer: &mut [f32]);
    fn write(&mut self, buffer: &[f32]);
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
