use std::path::Path;

use convnext_core::{
    network::Network,
    optim::Layout,
    plan::{Decimal, FcmaePlan, Flavour, Plan, StagePlan},
};
use tempfile::TempDir;

use super::*;
use crate::checkpoint::{self, CheckpointError, Which};

fn block(prefix: &str, dim: usize, flavour: char) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![
        ("dwconv.weight", vec![7, 7, dim]),
        ("dwconv.bias", vec![dim]),
        ("norm.weight", vec![dim]),
        ("norm.bias", vec![dim]),
        ("pwconv1.weight", vec![dim, 4 * dim]),
        ("pwconv1.bias", vec![4 * dim]),
        ("pwconv2.weight", vec![4 * dim, dim]),
        ("pwconv2.bias", vec![dim]),
    ];
    match flavour {
        '1' => tensors.push(("layer_scale.gamma", vec![dim])),
        _ => tensors.extend([("grn.gamma", vec![4 * dim]), ("grn.beta", vec![4 * dim])]),
    }
    tensors.into_iter().map(|(name, shape)| (format!("{prefix}.{name}"), shape)).collect()
}

fn encoder(flavour: char) -> Vec<(String, Vec<usize>)> {
    let mut tensors: Vec<(String, Vec<usize>)> = [
        ("encoder.stem.conv.weight", vec![4, 4, 3, 2]),
        ("encoder.stem.conv.bias", vec![2]),
        ("encoder.stem.norm.weight", vec![2]),
        ("encoder.stem.norm.bias", vec![2]),
        ("encoder.stages.1.downsample.norm.weight", vec![2]),
        ("encoder.stages.1.downsample.norm.bias", vec![2]),
        ("encoder.stages.1.downsample.conv.weight", vec![2, 2, 2, 3]),
        ("encoder.stages.1.downsample.conv.bias", vec![3]),
    ]
    .map(|(name, shape)| (name.to_owned(), shape))
    .into();
    tensors.extend(block("encoder.stages.0.blocks.0", 2, flavour));
    tensors.extend(block("encoder.stages.1.blocks.11", 3, flavour));
    tensors
}

fn classifier(flavour: char) -> Layout {
    let head =
        [("norm.weight", vec![3]), ("norm.bias", vec![3]), ("linear.weight", vec![3, 5]), ("linear.bias", vec![5])];
    let head = head.map(|(name, shape)| (format!("head.{name}"), shape));
    Layout::new(encoder(flavour).into_iter().chain(head)).unwrap()
}

fn autoencoder() -> Layout {
    let rest = [
        ("densify.projection.weight", vec![3, 2]),
        ("densify.projection.bias", vec![2]),
        ("densify.mask_token", vec![2]),
        ("prediction.weight", vec![2, 192]),
        ("prediction.bias", vec![192]),
    ];
    let rest = rest.map(|(name, shape)| (name.to_owned(), shape));
    Layout::new(encoder('2').into_iter().chain(rest).chain(block("decoder.0", 2, '2'))).unwrap()
}

fn numbered(layout: &Layout) -> Vec<f32> {
    (0..layout.len()).map(|i| i as f32).collect()
}

fn official(layout: &Layout) -> Translation {
    Translation::new(layout, Dialect::Official).unwrap()
}

/// All layouts that have names for a model, so that a test cannot pass by having none.
fn dialects(layout: &Layout) -> Vec<Dialect> {
    let found: Vec<Dialect> =
        Dialect::ALL.into_iter().filter(|&dialect| Translation::new(layout, dialect).is_ok()).collect();
    let pretraining = layout.get("densify.mask_token").is_some();
    assert_eq!(found.len(), if pretraining { 3 } else { 5 });
    found
}

#[test]
fn every_conversion_can_be_undone() {
    for layout in [classifier('1'), classifier('2'), autoencoder()] {
        for dialect in dialects(&layout) {
            let translation = Translation::new(&layout, dialect).unwrap();
            let values = numbered(&layout);
            assert_eq!(translation.invert(&translation.apply(&values)), values);
        }
    }
}

#[test]
fn names_and_shapes_are_the_official_ones() {
    let shape = |layout: &Layout, name: &str| official(layout).theirs().get(name).map(|s| s.shape.clone());
    let classifier = classifier('2');
    for (name, expected) in [
        ("downsample_layers.0.0.weight", vec![2, 3, 4, 4]),
        ("downsample_layers.0.1.bias", vec![2]),
        ("downsample_layers.1.0.weight", vec![2]),
        ("downsample_layers.1.1.weight", vec![3, 2, 2, 2]),
        ("stages.0.0.dwconv.weight", vec![2, 1, 7, 7]),
        ("stages.1.11.pwconv1.weight", vec![12, 3]),
        ("stages.1.11.grn.gamma", vec![1, 1, 1, 12]),
        ("stages.1.11.pwconv2.weight", vec![3, 12]),
        ("norm.weight", vec![3]),
        ("head.weight", vec![5, 3]),
    ] {
        assert_eq!(shape(&classifier, name), Some(expected), "{name}");
    }
    let autoencoder = autoencoder();
    for (name, expected) in [
        ("encoder.downsample_layers.0.0.weight", vec![2, 3, 4, 4]),
        ("encoder.stages.1.11.norm.bias", vec![3]),
        ("proj.weight", vec![2, 3, 1, 1]),
        ("mask_token", vec![1, 2, 1, 1]),
        ("decoder.0.grn.beta", vec![1, 1, 1, 8]),
        ("pred.weight", vec![192, 2, 1, 1]),
        ("pred.bias", vec![192]),
    ] {
        assert_eq!(shape(&autoencoder, name), Some(expected), "{name}");
    }
    assert_eq!(shape(&super::tests::classifier('1'), "stages.0.0.gamma"), Some(vec![2]));
}

/// Where an element lies, by its index along each axis.
fn at<const N: usize>(shape: [usize; N], index: [usize; N]) -> usize {
    shape.iter().zip(index).fold(0, |place, (side, index)| place * side + index)
}

#[test]
fn values_move_to_where_the_axes_say() {
    let layout = classifier('2');
    let ours = numbered(&layout);
    let translation = official(&layout);
    let theirs = translation.apply(&ours);
    let pair =
        |name, their_name| (layout.view(&ours, name).unwrap(), translation.theirs().view(&theirs, their_name).unwrap());
    // Ours [height, width, in, out], theirs [out, in, height, width].
    let (stem, converted) = pair("encoder.stem.conv.weight", "downsample_layers.0.0.weight");
    assert_eq!(converted[at([2, 3, 4, 4], [1, 0, 1, 2])], stem[at([4, 4, 3, 2], [1, 2, 0, 1])]);
    // Ours [height, width, channel], theirs [channel, 1, height, width].
    let (depthwise, converted) = pair("encoder.stages.0.blocks.0.dwconv.weight", "stages.0.0.dwconv.weight");
    assert_eq!(converted[at([2, 7, 7], [1, 3, 5])], depthwise[at([7, 7, 2], [3, 5, 1])]);
    // Ours [in, out], theirs [out, in].
    let (head, converted) = pair("head.linear.weight", "head.weight");
    assert_eq!(converted[at([5, 3], [4, 2])], head[at([3, 5], [2, 4])]);
}

#[test]
fn names_and_shapes_are_those_of_the_sparse_pre_training_files() {
    let layout = autoencoder();
    let translation = Translation::new(&layout, Dialect::Sparse).unwrap();
    for (name, expected) in [
        ("encoder.downsample_layers.0.0.weight", vec![2, 3, 4, 4]),
        ("encoder.downsample_layers.0.1.weight", vec![2]),
        ("encoder.downsample_layers.1.0.ln.weight", vec![2]),
        ("encoder.downsample_layers.1.1.kernel", vec![4, 2, 3]),
        ("encoder.downsample_layers.1.1.bias", vec![1, 3]),
        ("encoder.stages.1.11.dwconv.kernel", vec![49, 3]),
        ("encoder.stages.1.11.dwconv.bias", vec![1, 3]),
        ("encoder.stages.1.11.norm.ln.bias", vec![3]),
        ("encoder.stages.1.11.pwconv1.linear.weight", vec![12, 3]),
        ("encoder.stages.1.11.grn.gamma", vec![1, 12]),
        ("decoder.0.dwconv.weight", vec![2, 1, 7, 7]),
        ("decoder.0.pwconv2.bias", vec![2]),
    ] {
        assert_eq!(translation.theirs().get(name).map(|s| s.shape.clone()), Some(expected), "{name}");
    }
    // The official conversion reads position p of a kernel as column p / k and row p % k.
    let ours = numbered(&layout);
    let theirs = translation.apply(&ours);
    let kernel = translation.theirs().view(&theirs, "encoder.stages.1.11.dwconv.kernel").unwrap();
    let dense = layout.view(&ours, "encoder.stages.1.blocks.11.dwconv.weight").unwrap();
    let (row, column, channel) = (2, 5, 1);
    assert_eq!(kernel[at([49, 3], [column * 7 + row, channel])], dense[at([7, 7, 3], [row, column, channel])]);
    let kernel = translation.theirs().view(&theirs, "encoder.downsample_layers.1.1.kernel").unwrap();
    let dense = layout.view(&ours, "encoder.stages.1.downsample.conv.weight").unwrap();
    let (row, column, from, to) = (1, 0, 1, 2);
    assert_eq!(kernel[at([4, 2, 3], [column * 2 + row, from, to])], dense[at([2, 2, 2, 3], [row, column, from, to])]);
}

#[test]
fn names_and_shapes_are_timms_and_transformers() {
    let shape = |flavour, dialect, name: &str| {
        let translation = Translation::new(&classifier(flavour), dialect).unwrap();
        translation.theirs().get(name).map(|s| s.shape.clone())
    };
    for (flavour, dialect, name, expected) in [
        ('2', Dialect::Timm, "stem.0.weight", vec![2, 3, 4, 4]),
        ('2', Dialect::Timm, "stages.1.downsample.1.weight", vec![3, 2, 2, 2]),
        ('2', Dialect::Timm, "stages.1.blocks.11.conv_dw.weight", vec![3, 1, 7, 7]),
        ('2', Dialect::Timm, "stages.1.blocks.11.mlp.fc1.weight", vec![12, 3]),
        ('2', Dialect::Timm, "stages.1.blocks.11.mlp.grn.weight", vec![12]),
        ('1', Dialect::Timm, "stages.0.blocks.0.gamma", vec![2]),
        ('2', Dialect::Timm, "head.norm.bias", vec![3]),
        ('2', Dialect::Timm, "head.fc.weight", vec![5, 3]),
        ('2', Dialect::HuggingFace, "convnextv2.embeddings.patch_embeddings.weight", vec![2, 3, 4, 4]),
        ('2', Dialect::HuggingFace, "convnextv2.encoder.stages.1.downsampling_layer.0.weight", vec![2]),
        ('2', Dialect::HuggingFace, "convnextv2.encoder.stages.1.layers.11.grn.weight", vec![1, 1, 1, 12]),
        ('1', Dialect::HuggingFace, "convnext.encoder.stages.0.layers.0.layer_scale_parameter", vec![2]),
        ('2', Dialect::HuggingFace, "convnextv2.layernorm.weight", vec![3]),
        ('2', Dialect::HuggingFace, "classifier.bias", vec![5]),
    ] {
        assert_eq!(shape(flavour, dialect, name), Some(expected), "{name}");
    }
}

#[test]
fn timms_sizes_below_tiny_have_convolutions_for_linear_layers() {
    for (width, expected) in
        [(40, vec![160, 40, 1, 1]), (80, vec![320, 80, 1, 1]), (96, vec![384, 96]), (32, vec![128, 32])]
    {
        let downsampled =
            (1..4).map(|stage| (format!("encoder.stages.{stage}.downsample.conv.bias"), vec![width << stage]));
        let first = [("stem.norm.weight", vec![width]), ("stages.0.blocks.0.pwconv1.weight", vec![width, 4 * width])];
        let first = first.map(|(name, shape)| (format!("encoder.{name}"), shape));
        let layout = Layout::new(first.into_iter().chain(downsampled)).unwrap();
        let translation = Translation::new(&layout, Dialect::Timm).unwrap();
        assert_eq!(translation.theirs().get("stages.0.blocks.0.mlp.fc1.weight").unwrap().shape, expected);
    }
}

#[test]
fn a_file_is_read_in_any_layout() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    for layout in [classifier('1'), classifier('2'), autoencoder()] {
        for dialect in dialects(&layout) {
            let values = numbered(&layout);
            save(&path, &layout, &values, dialect, None).unwrap();
            let loaded = load(&path, &layout, Which::default()).unwrap();
            assert_eq!((loaded.dialect, &loaded.path), (dialect, &path));
            assert!(loaded.values == values);
        }
    }
}

#[test]
fn axes_of_length_one_may_be_missing_or_more() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let layout = classifier('2');
    let translation = official(&layout);
    let values = translation.apply(&numbered(&layout));
    for shape in [vec![8], vec![1, 8]] {
        let tensors = translation.theirs().segments().iter().map(|segment| match &segment.name[..] {
            name if name.contains("stages.0.0.grn") => (name, shape.clone()),
            name => (name, segment.shape.clone()),
        });
        checkpoint::save_weights(&path, &Layout::new(tensors).unwrap(), &values, None).unwrap();
        assert!(load(&path, &layout, Which::default()).unwrap().values == numbered(&layout));
    }
}

fn encoder_alone(flavour: char) -> Layout {
    Layout::new(encoder(flavour)).unwrap()
}

#[test]
fn the_encoder_alone_can_be_read() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let to = classifier('2');
    for from in [autoencoder(), encoder_alone('2')] {
        for dialect in Dialect::ALL {
            if Translation::new(&from, dialect).is_err() {
                continue;
            }
            save(&path, &from, &numbered(&from), dialect, None).unwrap();
            let mut values = vec![-1.0; to.len()];
            let loaded = load_into(&path, &to, &mut values, Which::default(), Take::Encoder).unwrap();
            assert_eq!(loaded.dialect, dialect);
            let name = "encoder.stages.1.blocks.11.pwconv1.weight";
            assert_eq!(to.view(&values, name), from.view(&numbered(&from), name));
            for name in ["head.norm.weight", "head.linear.weight"] {
                assert!(to.view(&values, name).unwrap().iter().all(|&value| value == -1.0), "{name}");
            }
        }
    }
}

/// The classifier with another number of classes.
fn of_classes(classes: usize) -> Layout {
    let tensors = classifier('2').segments().to_vec().into_iter().map(|mut segment| {
        if segment.name.starts_with("head.linear.") {
            *segment.shape.last_mut().unwrap() = classes;
        }
        (segment.name, segment.shape)
    });
    Layout::new(tensors).unwrap()
}

#[test]
fn a_classifier_of_other_classes_gives_all_but_its_last_layer() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let (from, to) = (of_classes(9), classifier('2'));
    for dialect in dialects(&from) {
        save(&path, &from, &numbered(&from), dialect, None).unwrap();
        let error = load(&path, &to, Which::default()).unwrap_err();
        assert!(matches!(error, ConvertError::Classes { expected: 5, found: 9, .. }), "{error}");
        assert_eq!(classes_of(&path, &plan(Flavour::V2), Which::default()), Some(9), "{dialect}");
        for take in [Take::Encoder, Take::AllButClasses] {
            let mut values = vec![-1.0; to.len()];
            load_into(&path, &to, &mut values, Which::default(), take).unwrap();
            for name in ["encoder.stem.conv.weight", "head.norm.weight"] {
                assert_eq!(to.view(&values, name), from.view(&numbered(&from), name), "{dialect} {name}");
            }
            for name in ["head.linear.weight", "head.linear.bias"] {
                assert!(to.view(&values, name).unwrap().iter().all(|&value| value == -1.0), "{dialect} {name}");
            }
        }
    }
}

#[test]
fn the_kind_of_model_is_seen_from_the_names() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let kinds = [classifier('2'), autoencoder(), encoder_alone('2')];
    let candidates: Vec<&Layout> = kinds.iter().collect();
    for (index, kind) in kinds.iter().enumerate() {
        for dialect in Dialect::ALL {
            if save(&path, kind, &numbered(kind), dialect, None).is_ok() {
                let (found, loaded) = load_fitting(&path, &candidates, Which::default()).unwrap();
                assert_eq!((found, loaded.dialect), (index, dialect));
                assert!(loaded.values == numbered(kind));
            }
        }
    }
}

#[test]
fn an_encoder_with_more_than_the_model_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let more = encoder('2').into_iter().chain(block("encoder.stages.1.blocks.12", 3, '2'));
    let more = Layout::new(more).unwrap();
    let to = classifier('2');
    for dialect in Dialect::ALL {
        save(&path, &more, &numbered(&more), dialect, None).unwrap();
        let mut values = vec![-1.0; to.len()];
        let error = load_into(&path, &to, &mut values, Which::default(), Take::Encoder).unwrap_err();
        let ConvertError::Checkpoint(CheckpointError::Tensors { problems, .. }) = error else { panic!("{error}") };
        assert_eq!((problems.extra.len(), problems.missing.len()), (10, 0));
        assert!(values.iter().all(|&value| value == -1.0));
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let translation = official(&classifier('2'));
    let tensors = translation.theirs().segments().iter().filter_map(|segment| match &segment.name[..] {
        "norm.weight" => None,
        "norm.bias" => Some(("norm.extra", vec![3])),
        "head.weight" => Some(("head.weight", vec![3, 5])),
        name => Some((name, segment.shape.clone())),
    });
    let wrong = Layout::new(tensors).unwrap();
    checkpoint::save_weights(&path, &wrong, &numbered(&wrong), None).unwrap();
    let error = load(&path, &classifier('2'), Which::default()).unwrap_err();
    let ConvertError::Checkpoint(CheckpointError::Tensors { problems, .. }) = error else { panic!("{error}") };
    assert_eq!(problems.missing, ["norm.weight", "norm.bias"]);
    assert_eq!(problems.extra, ["norm.extra"]);
    assert_eq!(problems.misshapen[0].name, "head.weight");
}

#[test]
fn names_of_no_layout() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("weights.safetensors");
    let other = Layout::new([("layer1.weight", vec![2])]).unwrap();
    checkpoint::save_weights(&path, &other, &[1.0, 2.0], None).unwrap();
    let error = load(&path, &classifier('2'), Which::default()).unwrap_err().to_string();
    assert!(
        error.contains("known layout (ours, official, sparse, timm, hf, mmpretrain); the file has `layer1.weight`"),
        "{error}"
    );
}

#[test]
fn a_tensor_without_a_place() {
    let layout = Layout::new([("encoder.stages.0.extra", vec![2])]).unwrap();
    let error = Translation::new(&layout, Dialect::Official).unwrap_err();
    assert!(matches!(error, ConvertError::Inexpressible { .. }), "{error}");
    assert_eq!(
        "keras".parse::<Dialect>().unwrap_err().to_string(),
        "no layout `keras`; known: ours, official, sparse, timm, hf, mmpretrain"
    );
}

// Wrappers, shards, other channels.

/// Saves `values` of `layout` in `dialect`, each name put through `rename`.
fn save_renamed(path: &Path, layout: &Layout, dialect: Dialect, rename: impl Fn(&str) -> String) {
    let translation = Translation::new(layout, dialect).unwrap();
    let tensors = translation.theirs().segments().iter().map(|s| (rename(&s.name), s.shape.clone()));
    let renamed = Layout::new(tensors).unwrap();
    checkpoint::save_weights(path, &renamed, &translation.apply(&numbered(layout)), None).unwrap();
}

#[test]
fn what_wrappers_put_before_names_is_taken_off() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let prefixes =
        ["module.", "_orig_mod.", "model.", "backbone.", "encoder.", "module._orig_mod.", "model.encoder.", "a.b.c."];
    for flavour in ['1', '2'] {
        for layout in [classifier(flavour), encoder_alone(flavour), autoencoder()] {
            let named = Dialect::ALL.into_iter().filter(|&dialect| Translation::new(&layout, dialect).is_ok());
            for dialect in named {
                for prefix in prefixes {
                    save_renamed(&path, &layout, dialect, |name| format!("{prefix}{name}"));
                    let loaded = load(&path, &layout, Which::default()).unwrap();
                    assert!(loaded.values == numbered(&layout), "{dialect} {prefix}");
                    assert!(loaded.outside.is_empty());
                    // Some of these words are a layout's own.
                    assert!(prefix.starts_with(&loaded.prefix), "{dialect} {prefix} {}", loaded.prefix);
                }
            }
        }
    }
}

#[test]
fn parts_that_were_compiled_by_themselves() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let layout = classifier('2');
    for dialect in dialects(&layout) {
        for prefix in ["", "module.", "_orig_mod."] {
            // torch.compile of the stages, or of each block.
            let rename = |name: &str| format!("{prefix}{}", name.replacen("stages", "stages._orig_mod", 1));
            save_renamed(&path, &layout, dialect, rename);
            let loaded = load(&path, &layout, Which::default()).unwrap();
            assert!(loaded.values == numbered(&layout), "{dialect} {prefix}");
            assert!(loaded.outside.is_empty() && loaded.prefix == prefix, "{dialect} {prefix} {}", loaded.prefix);
        }
    }
}

#[test]
fn an_encoder_in_a_users_own_model() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let layout = classifier('2');
    for dialect in [Dialect::Official, Dialect::Timm] {
        let translation = Translation::new(&encoder_of(&layout), dialect).unwrap();
        let is_encoder = |name: &str| translation.theirs().get(name).is_some();
        // The head stands beside the encoder, not in it.
        let rename = |name: &str| if is_encoder(name) { format!("net.backbone.{name}") } else { format!("net.{name}") };
        save_renamed(&path, &layout, dialect, rename);
        let loaded = load(&path, &layout, Which::default()).unwrap();
        assert_eq!((loaded.values, &loaded.prefix[..]), (numbered(&layout), "net.backbone."));
        // A head that is called otherwise is passed over, aloud, where the encoder is wanted.
        let rename =
            |name: &str| if is_encoder(name) { format!("net.backbone.{name}") } else { format!("my.{name}.x") };
        save_renamed(&path, &layout, dialect, rename);
        let mut values = vec![0.0; layout.len()];
        let loaded = load_into(&path, &layout, &mut values, Which::default(), Take::Encoder).unwrap();
        assert_eq!((loaded.outside.len(), values[0]), (4, numbered(&layout)[0]));
    }
}

#[test]
fn weights_that_are_there_twice_are_chosen_by_a_key() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let layout = classifier('2');
    let segments = layout.segments().iter();
    let twice = segments.flat_map(|s| ["model", "ema"].map(|key| (format!("{key}.{}", s.name), s.shape.clone())));
    let twice = Layout::new(twice).unwrap();
    let mut values = vec![0.0; twice.len()];
    for segment in twice.segments() {
        values[segment.range.clone()].fill(if segment.name.starts_with("ema.") { 2.0 } else { 1.0 });
    }
    checkpoint::save_weights(&path, &twice, &values, None).unwrap();
    let error = load(&path, &layout, Which::default()).unwrap_err();
    assert!(matches!(error, ConvertError::Ambiguous { .. }), "{error}");
    for (key, value) in [("model", 1.0), ("ema", 2.0)] {
        let loaded = load(&path, &layout, LoadOptions { key: Some(key), ..LoadOptions::default() }).unwrap();
        assert!(loaded.values.iter().all(|&found| found == value), "{key}");
        assert_eq!(loaded.outside.len(), layout.segments().len());
    }
    let error = load(&path, &layout, LoadOptions { key: Some("optimizer"), ..LoadOptions::default() }).unwrap_err();
    assert!(matches!(error, ConvertError::NoKey { .. }), "{error}");
}

#[test]
fn timms_features_are_an_encoder() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let layout = encoder_alone('2');
    let rename = |name: &str| name.replacen("stem.", "stem_", 1).replacen("stages.", "stages_", 1);
    save_renamed(&path, &layout, Dialect::Timm, rename);
    let loaded = load(&path, &layout, Which::default()).unwrap();
    assert_eq!((loaded.values, loaded.dialect), (numbered(&layout), Dialect::Timm));
    let names = checkpoint::read_header(&path, Which::default()).unwrap().tensors;
    assert!(names.iter().any(|(name, _)| name == "stages_1.blocks.11.mlp.grn.weight"), "{names:?}");
}

#[test]
fn names_are_mmpretrains() {
    let layout = classifier('2');
    let translation = Translation::new(&layout, Dialect::MmPretrain).unwrap();
    for (name, shape) in [
        ("backbone.downsample_layers.0.0.weight", &[2, 3, 4, 4][..]),
        ("backbone.downsample_layers.1.1.weight", &[3, 2, 2, 2]),
        ("backbone.stages.0.0.depthwise_conv.weight", &[2, 1, 7, 7]),
        ("backbone.stages.0.0.pointwise_conv1.weight", &[8, 2]),
        ("backbone.stages.0.0.grn.gamma", &[8]),
        ("backbone.norm3.weight", &[3]),
        ("head.fc.weight", &[5, 3]),
    ] {
        assert_eq!(translation.theirs().get(name).map(|segment| &segment.shape[..]), Some(shape), "{name}");
    }
}

#[test]
fn tensors_in_several_files_are_one_model() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let layout = classifier('2');
    let translation = Translation::new(&layout, Dialect::HuggingFace).unwrap();
    let (theirs, values) = (translation.theirs(), translation.apply(&numbered(&layout)));
    let shard = |number: usize| format!("model-{number:05}-of-00002.safetensors");
    let mut map = std::collections::BTreeMap::new();
    for number in [1, 2] {
        let own = theirs.segments().iter().enumerate().filter(|(index, _)| index % 2 + 1 == number);
        let part = Layout::new(own.map(|(_, s)| (s.name.clone(), s.shape.clone()))).unwrap();
        let of = |s: &convnext_core::optim::Segment| values[theirs.get(&s.name).unwrap().range.clone()].to_vec();
        let values: Vec<f32> = part.segments().iter().flat_map(of).collect();
        checkpoint::save_weights(at(&shard(number)), &part, &values, None).unwrap();
        map.extend(part.segments().iter().map(|s| (s.name.clone(), shard(number))));
    }
    let index = at("model.safetensors.index.json");
    let write = |map: &std::collections::BTreeMap<String, String>| {
        let json = serde_json::json!({"metadata": {"total_size": 1}, "weight_map": map});
        std::fs::write(&index, json.to_string()).unwrap();
    };
    write(&map);
    for path in [folder.path(), &index] {
        let loaded = load(path, &layout, Which::default()).unwrap();
        assert_eq!((loaded.values, loaded.dialect), (numbered(&layout), Dialect::HuggingFace));
    }
    // The lies: a file elsewhere, an index of itself, a tensor that is not there, one that is not listed, no file.
    let (first, of) = map.first_key_value().map(|(name, of)| (name.clone(), of.clone())).unwrap();
    let name = || first.clone();
    type Lie<'a> = (&'a str, Box<dyn Fn(&mut std::collections::BTreeMap<String, String>) + 'a>);
    let lies: [Lie<'_>; 6] = [
        ("no file beside it", Box::new(|map| drop(map.insert(name(), "../w.safetensors".into())))),
        ("no file beside it", Box::new(|map| drop(map.insert(name(), "/etc/passwd".into())))),
        ("no file beside it", Box::new(|map| drop(map.insert(name(), "model.safetensors.index.json".into())))),
        ("is not in", Box::new(|map| drop(map.insert("more".into(), of.clone())))),
        ("does not say", Box::new(|map| drop(map.remove(&first)))),
        ("0 files", Box::new(|map| map.clear())),
    ];
    for (expected, lie) in &lies {
        let mut map = map.clone();
        lie(&mut map);
        write(&map);
        let error = load(folder.path(), &layout, Which::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn images_of_other_channels_are_refused_or_adapted() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("w.safetensors");
    let rgb = classifier('2');
    for dialect in dialects(&rgb) {
        save(&path, &rgb, &numbered(&rgb), dialect, None).unwrap();
        for (channels, adapt) in [(1, AdaptChannels::Sum), (5, AdaptChannels::Repeat)] {
            let to = channels::with_channels(&rgb, channels);
            let error = load(&path, &to, Which::default()).unwrap_err();
            assert!(matches!(error, ConvertError::Channels { found: 3, .. }), "{error}");
            assert!(error.to_string().contains(&format!("--adapt-channels {adapt}")), "{error}");
            let loaded = load(&path, &to, LoadOptions { adapt: Some(adapt), ..LoadOptions::default() }).unwrap();
            assert_eq!(loaded.values, channels::adapt(&rgb, &numbered(&rgb), &to));
            assert_eq!(loaded.adapted, Some(3));
            let other = if channels == 1 { AdaptChannels::Repeat } else { AdaptChannels::Sum };
            let error = load(&path, &to, LoadOptions { adapt: Some(other), ..LoadOptions::default() }).unwrap_err();
            assert!(matches!(error, ConvertError::Adapt { .. }), "{error}");
            let mut values = vec![0.0; to.len()];
            load_into(
                &path,
                &to,
                &mut values,
                LoadOptions { adapt: Some(adapt), ..LoadOptions::default() },
                Take::Encoder,
            )
            .unwrap();
            assert_eq!(values[..to.segments()[0].range.end], loaded.values[..to.segments()[0].range.end]);
        }
        // Where nothing is to adapt, nothing is.
        let loaded =
            load(&path, &rgb, LoadOptions { adapt: Some(AdaptChannels::Repeat), ..LoadOptions::default() }).unwrap();
        assert_eq!((loaded.values, loaded.adapted), (numbered(&rgb), None));
    }
}

/// A variant of two stages with a pre-training.
fn plan(flavour: Flavour) -> Plan {
    let fcmae = FcmaePlan {
        patch: 8,
        mask: Decimal { digits: 5, one: 10 },
        decoder_dim: 2,
        decoder_depth: 1,
        decoder_kernel: 3,
        normalised: true,
    };
    Plan {
        height: 16,
        width: 16,
        channels: 3,
        stem: 4,
        flavour,
        stages: &[StagePlan { dim: 2, depth: 1, kernel: 7 }, StagePlan { dim: 3, depth: 2, kernel: 7 }],
        classes: 5,
        fcmae: Some(fcmae),
        ..Plan::blank("own")
    }
}

/// The tables and the network are of one mind: each layout has a place for all that it may hold, and no row for what is
/// in no network.
#[test]
fn tables_name_what_the_network_has() {
    let plans = [Flavour::V1, Flavour::V2].map(plan);
    let networks = || plans.iter().flat_map(|plan| [plan.classifier(), plan.autoencoder().unwrap()]);
    for network in networks() {
        let layout = Layout::new(network.declared().map(|parameter| (parameter.name, parameter.shape))).unwrap();
        // The official pre-training files hold V2 only.
        if layout.get("densify.mask_token").is_none() || network.plan().flavour == Flavour::V2 {
            dialects(&layout);
        }
    }
    let names: Vec<String> = networks().flat_map(Network::declared).map(|parameter| parameter.name).collect();
    let layout = classifier('2');
    for naming in Dialect::ALL.iter().flat_map(|dialect| dialect.namings(&layout)).flatten() {
        let unknown = naming.patterns().find(|pattern| !names.iter().any(|name| table::matches(pattern, name)));
        assert_eq!(unknown, None);
    }
}
