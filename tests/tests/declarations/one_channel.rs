//! Grey pictures, pre-trained and classified through the faces that runs use.

use convnext_core::dfdx::prelude::*;
use convnext_core::nn::Visibility;
use convnext_core::{Variant, convnext};
use std::sync::Arc;

convnext! {
    pub model Grey {
        input: 8 x 8 x 1,
        stem: 2,
        head: 3,
        stages: [4 x 1, 8 x 1],
        drop_path: 0.1,
        fcmae: { patch: 4, mask: 0.5, decoder: 6 x 1, kernel: 3 },
    }
}

#[test]
fn grey_pictures_are_learned_from() {
    let device = Cpu::default();
    let images = vec![0.5; 2 * 8 * 8];
    let entry = Grey::entry();

    let autoencoder = entry.autoencoder(&device).unwrap().expect("declared");
    let visible = Arc::new(Visibility::from_mask(&[0, 1, 1, 0, 1, 1, 0, 0], 2, 2, 2).unwrap());
    assert_eq!(autoencoder.predictions(&device, images.clone(), &visible).unwrap().len(), 2 * 8 * 8);
    let gradients = Gradients::leaky();
    let (loss, _) = autoencoder.step(&device, &images, &visible, gradients).unwrap();
    assert!(loss.is_finite());

    let mut classifier = entry.classifier(&device).unwrap();
    assert_eq!(classifier.drop_paths().len(), 2);
    assert_eq!(classifier.logits(&device, images.clone(), 2).unwrap().len(), 2 * 3);
    let gradients = Gradients::leaky();
    let targets = vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0];
    let (loss, _) = classifier.step(&device, &images, targets, 2, gradients).unwrap();
    assert!(loss.is_finite());
}
