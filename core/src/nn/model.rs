//! Models behind a common face: what the runs and the command line need of any variant.

use std::sync::Arc;

use dfdx::prelude::*;

use super::{
    drop_path::DropPath,
    parameters::{self, Collection},
    part::Parts,
    plain::{PlainAutoencoder, PlainClassifier},
    prediction::Pixels,
    tensor::Error,
};
use crate::{optim::Layout, plan, simd::Precision, visibility::Visibility};

/// Parameters by the tensors of a layout, or as one flat buffer.
pub trait Flat {
    /// Names, shapes and places.
    fn layout(&self) -> Layout;

    /// Copies the parameters out; `buffer` is as long as the layout.
    fn read(&self, buffer: &mut [f32]);

    /// A copy of the parameters.
    fn values(&self) -> Vec<f32>;

    /// Copies the parameters in; `buffer` is as long as the layout.
    fn write(&mut self, buffer: &[f32]);

    /// Moves the gradients out, one buffer for every tensor of the layout; `gradients` is empty afterwards.
    ///
    /// # Errors
    /// When there is no memory.
    fn take_gradients(&self, gradients: &mut Gradients<f32, Cpu>) -> Result<Vec<Vec<f32>>, Error>;

    /// Moves gradients in, the tensors of the layout one after the other.
    ///
    /// # Errors
    /// When there is no memory.
    fn put_gradients(&self, gradients: &mut Gradients<f32, Cpu>, flat: &[f32]) -> Result<(), Error>;
}

impl<M: Collection> Flat for M {
    fn layout(&self) -> Layout {
        parameters::layout(self)
    }

    fn read(&self, buffer: &mut [f32]) {
        parameters::read(self, buffer);
    }

    fn values(&self) -> Vec<f32> {
        parameters::values(self)
    }

    fn write(&mut self, buffer: &[f32]) {
        parameters::write(self, buffer);
    }

    fn take_gradients(&self, gradients: &mut Gradients<f32, Cpu>) -> Result<Vec<Vec<f32>>, Error> {
        let taken = parameters::take_gradients(self, gradients)?;
        // What is left belongs to activations of the passes that are over.
        *gradients = Gradients::leaky();
        Ok(taken)
    }

    fn put_gradients(&self, gradients: &mut Gradients<f32, Cpu>, flat: &[f32]) -> Result<(), Error> {
        parameters::put_gradients(self, gradients, flat)
    }
}

/// A classifier of images.
pub trait ClassifierModule: Flat + Parts {
    /// Its operations on plain buffers, with their settings as they are now.
    fn plain(&self) -> PlainClassifier {
        PlainClassifier::new(self)
    }

    /// Logits `[N, CLASSES]` of `samples` images `[N, H, W, C]`.
    ///
    /// # Errors
    /// When there is no memory.
    fn logits(&self, _: &Cpu, images: Vec<f32>, samples: usize) -> Result<Vec<f32>, Error> {
        Ok(self.plain().logits(&self.values(), &images, samples))
    }

    /// Adds the gradients of the mean cross entropy against `targets [N, CLASSES]`, and returns the loss with them.
    ///
    /// # Errors
    /// When there is no memory.
    fn step(
        &mut self,
        _: &Cpu,
        images: &[f32],
        targets: Vec<f32>,
        samples: usize,
        mut gradients: Gradients<f32, Cpu>,
    ) -> Result<(f32, Gradients<f32, Cpu>), Error> {
        let mut added = self.take_gradients(&mut gradients)?.concat();
        let loss = self.plain().step(&self.values(), images, targets, samples, &mut added);
        self.put_gradients(&mut gradients, &added)?;
        Ok((loss, gradients))
    }

    /// The drop paths of all blocks, first to last.
    fn drop_paths(&mut self) -> Vec<&mut DropPath> {
        self.parts_mut().into_iter().filter_map(|part| part.drop_path()).collect()
    }

    /// Sets the last block's drop-path rate, in `[0, 1)`; the rates before it rise linearly from 0.
    fn set_drop_path(&mut self, rate: f32) {
        let drop_paths = self.drop_paths();
        let blocks = drop_paths.len();
        for (block, drop_path) in drop_paths.into_iter().enumerate() {
            drop_path.configure(plan::drop_path(rate, block, blocks), block);
        }
    }

    /// Sets one random key a sample for the drop paths of the next steps.
    fn set_drop_path_keys(&mut self, keys: &Arc<[u64]>) {
        for drop_path in self.drop_paths() {
            drop_path.set_keys(Some(keys.clone()));
        }
    }

    /// Sets the precision of products.
    fn set_precision(&mut self, precision: Precision) {
        self.parts_mut().into_iter().for_each(|part| part.set_precision(precision));
    }
}

/// A fully convolutional masked autoencoder; its parts are those up to the decoder's features.
pub trait AutoencoderModule: Flat + Parts {
    /// The prediction, without its tensors.
    fn pixels(&self) -> Pixels;

    /// Its operations on plain buffers, with their settings as they are now.
    fn plain(&self) -> PlainAutoencoder {
        PlainAutoencoder::new(self, self.pixels())
    }

    /// Predictions `[N, L, P * P * C]` of every patch of images `[N, H, W, C]`.
    ///
    /// # Errors
    /// When there is no memory.
    fn predictions(&self, _: &Cpu, images: Vec<f32>, visible: &Arc<Visibility>) -> Result<Vec<f32>, Error> {
        Ok(self.plain().predictions(&self.values(), &images, visible))
    }

    /// Adds the gradients of the loss on removed patches, and returns the loss with them.
    ///
    /// # Errors
    /// When there is no memory.
    fn step(
        &self,
        _: &Cpu,
        images: &[f32],
        visible: &Arc<Visibility>,
        mut gradients: Gradients<f32, Cpu>,
    ) -> Result<(f32, Gradients<f32, Cpu>), Error> {
        let mut added = self.take_gradients(&mut gradients)?.concat();
        let loss = self.plain().step(&self.values(), images, visible, &mut added);
        self.put_gradients(&mut gradients, &added)?;
        Ok((loss, gradients))
    }

    /// Sets the precision of products.
    fn set_precision(&mut self, precision: Precision);
}
