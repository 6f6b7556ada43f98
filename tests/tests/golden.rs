//! The CPU path held to files that plain PyTorch made in f64: `tests/golden/make.py`.
//!
//! Tolerances are on the length of the difference over the length of what is expected, tensor by tensor. A value in f32 is
//! rounded to 6e-8 of itself, and a sum of k products of such values errs by about sqrt(k) times that: 1e-6 for the
//! 10 to 400 summands here. What comes out has gone through a dozen such sums, and a gradient through twice as many; their
//! errors have random signs and add up as squares do.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use convnext_core::{
    Entry,
    dfdx::tensor::{Cpu, Gradients},
    nn::{Flat, Visibility},
    optim::Layout,
};
use convnext_tests::variants::variants;
use convnext_weights::convert::{Dialect, Translation};
use safetensors::SafeTensors;

const FORWARD: f64 = 3e-6;
const GRADIENT: f64 = 1e-5;

/// A file's tensors.
struct Golden(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Golden {
    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("golden/{name}.safetensors"));
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = |data: &[u8]| data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let tensors = file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(view.data()))));
        Self(tensors.collect())
    }

    fn shape(&self, name: &str) -> &[usize] {
        &self.0[name].0
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.0[name].1.clone()
    }

    /// The tensors `part/...`, which are in the official names, as a flat buffer of `layout`.
    fn flat(&self, part: &str, layout: &Layout) -> Vec<f32> {
        let translation = Translation::new(layout, Dialect::Official).unwrap();
        let theirs = translation.theirs().segments();
        let prefix = format!("{part}/");
        assert_eq!(self.0.keys().filter(|name| name.starts_with(&prefix)).count(), theirs.len(), "{part}");
        let mut values = Vec::with_capacity(layout.len());
        for segment in theirs {
            let name = format!("{prefix}{}", segment.name);
            assert_eq!(self.shape(&name), segment.shape, "{name}");
            values.extend(self.values(&name));
        }
        translation.invert(&values)
    }
}

fn entry(name: &str) -> Entry {
    variants().into_iter().find(|entry| entry.plan.name == name).unwrap()
}

fn relative(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let pairs = found.iter().zip(expected);
    let difference = square(&mut pairs.map(|(&found, &expected)| f64::from(found) - f64::from(expected)));
    (difference / square(&mut expected.iter().map(|&expected| f64::from(expected)))).sqrt()
}

/// Fails where `found` is off; every tensor counts by itself.
fn close(layout: &Layout, found: &[f32], expected: &[f32]) {
    for segment in layout.segments() {
        let error = relative(&found[segment.range.clone()], &expected[segment.range.clone()]);
        assert!(error <= GRADIENT, "gradient of {}: {error:.2e}", segment.name);
    }
}

fn gradients(model: &(impl Flat + ?Sized), mut gradients: Gradients<f32, Cpu>) -> Vec<f32> {
    model.take_gradients(&mut gradients).unwrap().concat()
}

/// Three stages that are not square, sparse; patches of two by two cells; kernels of 3, 5 and 7.
#[test]
fn pre_training_of_lopsided() {
    let golden = Golden::read("lopsided-fcmae");
    let (entry, device) = (entry("lopsided"), Cpu::default());
    let patches = entry.plan.patches().unwrap();
    let mut model = entry.autoencoder(&device).unwrap().unwrap();
    let layout = model.layout();
    model.write(&golden.flat("weights", &layout));
    let bits: Vec<u8> = golden.values("mask").iter().map(|&removed| removed as u8).collect();
    let visible = Visibility::from_mask(&bits, patches.high, patches.wide, patches.visible).unwrap();
    let (images, visible) = (golden.values("images"), Arc::new(visible));

    let predictions = model.predictions(&device, images.clone(), &visible).unwrap();
    let error = relative(&predictions, &golden.values("predictions"));
    assert!(error <= FORWARD, "predictions: {error:.2e}");
    let (loss, tape) = model.step(&device, &images, &visible, Gradients::leaky()).unwrap();
    let error = relative(&[loss], &golden.values("loss"));
    assert!(error <= FORWARD, "loss: {error:.2e}");
    close(&layout, &gradients(&*model, tape), &golden.flat("gradients", &layout));
}

/// Blocks with response normalisation, grey, under soft targets.
#[test]
fn classifier_of_grey() {
    classifier("grey");
}

/// Blocks with LayerScale.
#[test]
fn classifier_of_former() {
    classifier("former");
}

fn classifier(name: &str) {
    let golden = Golden::read(&format!("{name}-classifier"));
    let (entry, device) = (entry(name), Cpu::default());
    let mut model = entry.classifier(&device).unwrap();
    let layout = model.layout();
    model.write(&golden.flat("weights", &layout));
    model.set_drop_path(0.0);
    let (images, samples) = (golden.values("images"), golden.shape("images")[0]);

    let logits = model.logits(&device, images.clone(), samples).unwrap();
    let error = relative(&logits, &golden.values("logits"));
    assert!(error <= FORWARD, "logits: {error:.2e}");
    let targets = golden.values("targets");
    let (loss, tape) = model.step(&device, &images, targets, samples, Gradients::leaky()).unwrap();
    let error = relative(&[loss], &golden.values("loss"));
    assert!(error <= FORWARD, "loss: {error:.2e}");
    close(&layout, &gradients(&*model, tape), &golden.flat("gradients", &layout));
}
