//! A model as one operation - on the tape, on plain buffers, frozen - and the chain of its modules give the same bits.

use std::sync::Arc;

use convnext_core::{
    convnext,
    dfdx::prelude::*,
    nn::{AutoencoderModule, ClassifierModule, Flat, Visibility, soft_cross_entropy},
    simd::Precision,
};
use rayon::ThreadPoolBuilder;

// Grids whose samples are worked on alone, in groups, and in panels.
convnext! {
    family Small { input: 32 x 48 x 3, stem: 2, head: 7, fcmae: { patch: 8, mask: 0.5, decoder: 184 x 2 } }
    model Second: Small { stages: [8 x 2, 24 x 1, 184 x 2] }
    model First: Small { block: V1, stages: [8 x 2, 24 x 1, 184 x 2] }
}

const SAMPLES: usize = 5;
type Images = Tensor<(usize, Const<32>, Const<48>, Const<3>), f32, Cpu>;

fn noise(length: usize, seed: f32) -> Vec<f32> {
    (0..length).map(|at| (at as f32 * 0.37 + seed).sin()).collect()
}

fn images(device: &Cpu) -> Images {
    device.tensor_from_vec(noise(SAMPLES * 32 * 48 * 3, 1.0), (SAMPLES, Const, Const, Const))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The same for any number of threads.
fn each_pool(work: impl Fn() + Sync) {
    for threads in [1, 2, 5] {
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&work);
    }
}

fn fill(model: &mut (impl Flat + ?Sized)) {
    let mut values = model.values();
    values.iter_mut().zip(noise(model.layout().len(), 2.0)).for_each(|(value, noise)| *value += 0.1 * noise);
    model.write(&values);
}

macro_rules! classifiers_agree {
    ($model:ident) => {
        for precision in [Precision::F32, Precision::Bf16] {
            each_pool(|| {
                let device = Cpu::seed_from_u64(3);
                let mut model = device.build_module::<$model, f32>();
                fill(&mut model);
                model.set_precision(precision);
                model.set_drop_path(0.6);
                model.set_drop_path_keys(&(7..7 + SAMPLES as u64).collect());
                let targets = vec![1.0 / 7.0; SAMPLES * 7];

                let encoder = &model.encoder;
                let x = encoder.stem.forward(images(&device));
                let x = encoder.downsample1.forward(encoder.stage0.forward(x));
                let x = encoder.downsample2.forward(encoder.stage1.forward(x));
                let by_modules = bits(&model.head.forward(encoder.stage2.forward(x)).as_vec());
                let as_one = bits(&model.forward(images(&device)).as_vec());
                let values = images(&device).as_vec();
                let plain = bits(&model.plain().logits(&model.values(), &values, SAMPLES));
                let frozen = model.plain().freeze(model.values());
                let [once, again] = [(); 2].map(|()| bits(&frozen.logits(&values, SAMPLES)));
                assert!([as_one, plain, once, again].iter().all(|logits| *logits == by_modules));

                let encoder = &mut model.encoder;
                let x = encoder.stem.forward_mut(images(&device).leaky_trace());
                let x = encoder.downsample1.forward_mut(encoder.stage0.forward_mut(x));
                let x = encoder.downsample2.forward_mut(encoder.stage1.forward_mut(x));
                let logits = model.head.forward_mut(encoder.stage2.forward_mut(x));
                let mut gradients = soft_cross_entropy(logits, targets.clone()).unwrap().backward();
                let by_modules = bits(&model.take_gradients(&mut gradients).unwrap().concat());
                let logits = model.forward_mut(images(&device).leaky_trace());
                let mut gradients = soft_cross_entropy(logits, targets.clone()).unwrap().backward();
                let as_one = bits(&model.take_gradients(&mut gradients).unwrap().concat());
                let mut plain = vec![0.0; model.layout().len()];
                model.plain().step(&model.values(), &values, targets, SAMPLES, &mut plain);
                assert!(by_modules.iter().any(|&bits| bits != 0) && as_one == by_modules && bits(&plain) == by_modules);
            });
        }
    };
}

macro_rules! autoencoders_agree {
    ($model:ident) => {
        for precision in [Precision::F32, Precision::Bf16] {
            each_pool(|| {
                let device = Cpu::seed_from_u64(3);
                let mut model = device.build_module::<$model, f32>();
                fill(&mut model);
                model.set_precision(precision);
                let mask: Vec<u8> =
                    (0..SAMPLES).flat_map(|sample| (0..24).map(move |at| ((at + sample) % 2) as u8)).collect();
                let visible = Arc::new(Visibility::from_mask(&mask, 4, 6, 12).unwrap());
                let values = images(&device).as_vec();
                let target = || convnext_core::nn::Target { visible: visible.clone(), stride: 8, normalised: true };

                let encoder = &model.encoder;
                let x = images(&device).leaky_trace();
                let x = encoder.stem.try_forward_visible::<12, 4, _, _>(x, &visible).unwrap();
                let x = encoder.stage0.forward(x);
                let x = encoder.downsample1.try_forward_visible::<12, 4, 2, _, _>(x).unwrap();
                let x = encoder.stage1.forward(x);
                let x = encoder.downsample2.try_forward_visible::<12, 2, 1, _, _>(x).unwrap();
                let x = model.decoder.forward(model.densify.forward(encoder.stage2.forward(x)));
                let loss = model.prediction.try_loss(x, &values, target()).unwrap();
                let by_modules = loss.array().to_bits();
                let gradients_by_modules = bits(&model.take_gradients(&mut loss.backward()).unwrap().concat());

                let x = model.encoder.try_forward_visible(images(&device).leaky_trace(), &visible).unwrap();
                let x = model.decoder.forward(model.densify.forward(x));
                let loss = model.prediction.try_loss(x, &values, target()).unwrap();
                assert_eq!(loss.array().to_bits(), by_modules);
                let by_parts = bits(&model.take_gradients(&mut loss.backward()).unwrap().concat());

                let x = model.try_decode(images(&device).leaky_trace(), &visible).unwrap();
                let loss = model.prediction.try_loss(x, &values, target()).unwrap();
                assert_eq!(loss.array().to_bits(), by_modules);
                let as_one = bits(&model.take_gradients(&mut loss.backward()).unwrap().concat());

                let mut plain = vec![0.0; model.layout().len()];
                let loss = model.plain().step(&model.values(), &values, &visible, &mut plain);
                assert_eq!(loss.to_bits(), by_modules);
                assert!(gradients_by_modules.iter().any(|&bits| bits != 0));
                assert!([by_parts, as_one, bits(&plain)].iter().all(|found| *found == gradients_by_modules));
            });
        }
    };
}

#[test]
fn classifiers_agree() {
    classifiers_agree!(Second);
    classifiers_agree!(First);
}

#[test]
fn autoencoders_agree() {
    autoencoders_agree!(SecondFcmae);
    autoencoders_agree!(FirstFcmae);
}
