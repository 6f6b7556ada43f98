//! Models on plain buffers: the operations of a typed model, without its tensors and without a tape.
//!
//! Parameters are one flat buffer in the order of the model's [layout](super::Flat::layout), and so are gradients.

use std::sync::Arc;

use super::{
    chain::Chain,
    cross_entropy::CrossEntropy,
    operation::{Operation, Pass},
    part::Parts,
    prediction::Pixels,
};
use crate::{simd::Precision, visibility::Visibility};

/// A classifier without its parameters.
#[derive(Debug)]
pub struct PlainClassifier {
    chain: Chain,
    classes: usize,
}

impl PlainClassifier {
    /// The operations of encoder and head, with their settings as they are now.
    pub fn new(model: &(impl Parts + ?Sized)) -> Self {
        let chain = Chain::new(&model.parts());
        let classes = chain.outputs(&Pass::inference(1));
        Self { chain, classes }
    }

    /// Sets the precision of products.
    pub fn set_precision(&mut self, precision: Precision) {
        self.chain.set_precision(precision);
    }

    /// Sets one random key a sample for the drop paths of the next steps.
    pub fn set_drop_path_keys(&mut self, keys: &Arc<[u64]>) {
        for drop_path in self.chain.drop_paths() {
            drop_path.set_keys(Some(keys.clone()));
        }
    }

    /// Logits `[N, CLASSES]` of `samples` images `[N, H, W, C]`.
    ///
    /// # Panics
    /// If a buffer has another length than the model asks for.
    pub fn logits(&self, weights: &[f32], images: &[f32], samples: usize) -> Vec<f32> {
        self.chain.run(&Pass::inference(samples), weights, images).to_vec()
    }

    /// The mean cross entropy against `targets [N, CLASSES]`; adds its gradients to `gradients`.
    ///
    /// # Panics
    /// If a buffer has another length than the model asks for.
    pub fn step(
        &self,
        weights: &[f32],
        images: &[f32],
        targets: Vec<f32>,
        samples: usize,
        gradients: &mut [f32],
    ) -> f32 {
        self.step_towards(&CrossEntropy::new(self.classes, targets), weights, images, samples, gradients)
    }

    /// The loss that `last` computes from logits `[N, CLASSES]`, one value; adds its gradients to `gradients`. `last` has no
    /// parameters.
    ///
    /// # Panics
    /// If a buffer has another length than the model asks for.
    pub fn step_towards(
        &self,
        last: &dyn Operation,
        weights: &[f32],
        images: &[f32],
        samples: usize,
        gradients: &mut [f32],
    ) -> f32 {
        let pass = Pass { samples, visible: None, keeps: true, drops: true };
        self.chain.step(last, &pass, weights, images, gradients)
    }

    /// The classifier with parameters that stay the same.
    ///
    /// # Panics
    /// If there is another number of parameters than the model has.
    pub fn freeze(&self, weights: Vec<f32>) -> FrozenClassifier {
        assert_eq!(weights.len(), self.chain.parameters(), "parameters of another model");
        FrozenClassifier { chain: self.chain.frozen(), weights }
    }
}

/// A classifier with parameters that stay the same: operands of products that are made of them are laid out once.
#[derive(Debug)]
pub struct FrozenClassifier {
    chain: Chain,
    weights: Vec<f32>,
}

impl FrozenClassifier {
    /// Sets the parameters.
    ///
    /// # Panics
    /// If there is another number of them than the model has.
    pub fn write(&mut self, weights: &[f32]) {
        self.weights.copy_from_slice(weights);
        self.chain = self.chain.frozen();
    }

    /// Logits `[N, CLASSES]` of `samples` images `[N, H, W, C]`.
    ///
    /// # Panics
    /// If there is another number of images.
    pub fn logits(&self, images: &[f32], samples: usize) -> Vec<f32> {
        self.chain.run(&Pass::inference(samples), &self.weights, images).to_vec()
    }

    /// Logits `[N, CLASSES]` as [`logits`](Self::logits) has them, and features `[N, D]`: what the head's linear layer looks
    /// at, the pooled output of the encoder after its norm.
    ///
    /// # Panics
    /// If there is another number of images.
    pub fn logits_and_features(&self, images: &[f32], samples: usize) -> (Vec<f32>, Vec<f32>) {
        let (logits, features) = self.chain.run_with_features(&Pass::inference(samples), &self.weights, images);
        (logits.to_vec(), features.expect("a classifier ends in a head"))
    }
}

/// A masked autoencoder without its parameters.
#[derive(Debug)]
pub struct PlainAutoencoder {
    /// Up to the decoder's features.
    chain: Chain,
    pixels: Pixels,
}

impl PlainAutoencoder {
    /// The operations of encoder and decoder, and the prediction, with their settings as they are now.
    pub fn new(model: &(impl Parts + ?Sized), pixels: Pixels) -> Self {
        Self { chain: Chain::new(&model.parts()), pixels }
    }

    /// Sets the precision of products.
    pub fn set_precision(&mut self, precision: Precision) {
        self.chain.set_precision(precision);
        self.pixels.set_precision(precision);
    }

    /// Predictions `[N, L, P * P * C]` of every patch of images `[N, H, W, C]`.
    ///
    /// # Panics
    /// If a buffer has another length than the model asks for.
    pub fn predictions(&self, weights: &[f32], images: &[f32], visible: &Arc<Visibility>) -> Vec<f32> {
        let (body, last) = weights.split_at(weights.len() - self.pixels.parameters());
        let features = self.chain.run(&pass(visible, false), body, images);
        self.pixels.predict(last, &features, visible)
    }

    /// The loss on removed patches; adds its gradients to `gradients`.
    ///
    /// # Panics
    /// If a buffer has another length than the model asks for.
    pub fn step(&self, weights: &[f32], images: &[f32], visible: &Arc<Visibility>, gradients: &mut [f32]) -> f32 {
        self.chain.step(&self.pixels.loss(images, visible), &pass(visible, true), weights, images, gradients)
    }
}

fn pass(visible: &Arc<Visibility>, keeps: bool) -> Pass {
    Pass { samples: visible.samples(), visible: Some(visible.clone()), keeps, drops: false }
}
