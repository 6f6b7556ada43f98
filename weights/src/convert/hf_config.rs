//! What transformers reads beside weights: `config.json` and `preprocessor_config.json`.

use convnext_core::plan::{Flavour, Plan};
use serde_json::{Map, Value, json};

use crate::checkpoint::{Usage, View};

/// Of `PIL.Image.Resampling`.
const BICUBIC: u32 = 3;

/// `config.json`: of the classifier, or of the encoder alone. `classes` are names by label, or none.
pub fn transformers_config(plan: &Plan, classifier: bool, classes: &[String]) -> Value {
    let (family, model_type) = match plan.flavour {
        Flavour::V1 => ("ConvNext", "convnext"),
        Flavour::V2 => ("ConvNextV2", "convnextv2"),
    };
    let architecture = if classifier { "ForImageClassification" } else { "Model" };
    let mut config = json!({
        "architectures": [format!("{family}{architecture}")],
        "model_type": model_type,
        "num_channels": plan.channels,
        "patch_size": plan.stem,
        "num_stages": plan.stages.len(),
        "hidden_sizes": plan.stages.iter().map(|stage| stage.dim).collect::<Vec<_>>(),
        "depths": plan.stages.iter().map(|stage| stage.depth).collect::<Vec<_>>(),
        "image_size": plan.height,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "drop_path_rate": 0.0,
        "torch_dtype": "float32",
    });
    if classifier {
        let name = |label: usize| classes.get(label).cloned().unwrap_or_else(|| format!("LABEL_{label}"));
        let names = || (0..plan.classes).map(|label| (label, name(label)));
        let of_id: Map<_, _> = names().map(|(label, name)| (label.to_string(), name.into())).collect();
        let of_name: Map<_, _> = names().map(|(label, name)| (name, label.into())).collect();
        config["id2label"] = of_id.into();
        config["label2id"] = of_name.into();
    }
    config
}

/// `preprocessor_config.json`, and what has to be done to images before transformers sees them: something where none of its
/// processors looks at images as the model does. The processor then only normalises.
pub fn transformers_processor(usage: &Usage) -> (Value, Option<String>) {
    let Usage { height, width, channels, mean, std, view, .. } = usage;
    let mut processor = json!({
        "image_processor_type": "BitImageProcessor",
        "do_convert_rgb": *channels == 3,
        "do_resize": false,
        "do_center_crop": false,
        "resample": BICUBIC,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": decimals(mean),
        "image_std": decimals(std),
    });
    let how = match view {
        View::Cropped(share) if *share >= 1.0 => {
            processor["image_processor_type"] = "ViTImageProcessor".into();
            processor["do_resize"] = true.into();
            processor["size"] = json!({"height": height, "width": width});
            None
        }
        View::Cropped(share) if height == width => {
            processor["do_resize"] = true.into();
            processor["do_center_crop"] = true.into();
            processor["size"] = json!({"shortest_edge": (*height as f64 / share) as usize});
            processor["crop_size"] = json!({"height": height, "width": width});
            None
        }
        View::Cropped(_) => Some("shrunk and cropped"),
        View::Padded => Some("centred on black, not resampled"),
    };
    let size = format!("{height}x{width}");
    let untold = match how {
        Some(how) => Some(format!(
            "no image processor of transformers looks at images as this model does: give it images of {size}, {how}; it then \
             only normalises"
        )),
        None if *channels != 3 => Some(format!(
            "transformers' pipelines turn every image into RGB, and this model's images have another number of channels \
             ({channels}): give the processor arrays"
        )),
        None => None,
    };
    (processor, untold)
}

/// The numbers as people write them: `0.485` and not the 0.48500001430511475 that it is nearest to.
pub(super) fn decimals(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| value.to_string().parse().unwrap_or(f64::from(*value))).collect()
}

/// What no model of transformers can have: its kernels have a side of 7.
pub(super) fn fault(plan: &Plan) -> Option<String> {
    let stage = plan.stages.iter().position(|stage| stage.kernel != 7)?;
    Some(format!("its kernels have a side of 7, and those of stage {} have {}", stage + 1, plan.stages[stage].kernel))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(side: usize, view: View) -> Usage {
        let (mean, std) = (vec![0.5; 3], vec![0.25; 3]);
        Usage { model: "m".into(), height: side, width: side, channels: 3, mean, std, view, classes: Vec::new() }
    }

    #[test]
    fn a_view_that_a_processor_has_is_told_in_its_words() {
        for (side, edge) in [(224, 256), (384, 438)] {
            let (processor, untold) = transformers_processor(&usage(side, View::Cropped(0.875)));
            let expected = json!({
                "image_processor_type": "BitImageProcessor", "do_convert_rgb": true, "do_resize": true,
                "size": {"shortest_edge": edge}, "do_center_crop": true, "crop_size": {"height": side, "width": side},
                "resample": 3, "do_rescale": true, "rescale_factor": 0.00392156862745098,
                "do_normalize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25],
            });
            assert_eq!((processor, untold), (expected, None));
        }
        let (warped, untold) = transformers_processor(&Usage { width: 100, ..usage(224, View::Cropped(1.0)) });
        assert_eq!((&warped["size"], untold), (&json!({"height": 224, "width": 100}), None));
        assert_eq!(warped["image_processor_type"], "ViTImageProcessor");
    }

    #[test]
    fn a_view_that_none_has_is_not_silently_another() {
        let oblong = Usage { width: 100, ..usage(224, View::Cropped(0.875)) };
        for usage in [usage(28, View::Padded), usage(512, View::Padded), oblong] {
            let (processor, untold) = transformers_processor(&usage);
            assert_eq!((&processor["do_resize"], &processor["do_center_crop"]), (&json!(false), &json!(false)));
            assert!(untold.unwrap().contains(&format!("{}x{}", usage.height, usage.width)));
        }
        let grey = Usage { channels: 1, ..usage(224, View::Cropped(0.875)) };
        assert!(transformers_processor(&grey).1.unwrap().contains("(1)"));
    }
}
