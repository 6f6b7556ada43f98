//! What transformers reads beside weights: `config.json` and `preprocessor_config.json`.

use convnext_core::plan::{Flavour, Plan};
use serde_json::{Map, Value, json};

use crate::checkpoint::{Usage, View};

/// Below this side `ConvNextImageProcessor` shrinks and crops; from here on it warps.
const WARPS_FROM: usize = 384;

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

/// `preprocessor_config.json`, and where `ConvNextImageProcessor` cannot look at images as the model does: what has to be
/// done before it, since it then only normalises.
pub fn transformers_processor(usage: &Usage) -> (Value, Option<String>) {
    let Usage { height, width, mean, std, view, .. } = usage;
    let crop = match *view {
        _ if height != width => None,
        // From there on it warps whatever it is told.
        View::Cropped(share) if *height >= WARPS_FROM => (share >= 1.0).then_some(1.0),
        View::Cropped(share) => (share < 1.0).then_some(share),
        View::Padded => None,
    };
    let processor = json!({
        "image_processor_type": "ConvNextImageProcessor",
        "do_resize": crop.is_some(),
        "size": {"shortest_edge": height.min(width)},
        "crop_pct": crop.unwrap_or(1.0),
        "resample": 3,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": mean,
        "image_std": std,
    });
    let how = match view {
        View::Padded => "centred on black, not resampled",
        View::Cropped(share) if *share < 1.0 => "shrunk and cropped",
        View::Cropped(_) => "warped",
    };
    let untold = format!(
        "transformers' ConvNextImageProcessor cannot look at images as this model does: give it images of {height}x{width}, \
         {how}; it then only normalises"
    );
    (processor, crop.is_none().then_some(untold))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(side: usize, view: View) -> Usage {
        let (mean, std) = (vec![0.5], vec![0.25]);
        Usage { model: "m".into(), height: side, width: side, channels: 1, mean, std, view, classes: Vec::new() }
    }

    #[test]
    fn a_view_that_the_processor_has_is_told_in_its_words() {
        let (processor, untold) = transformers_processor(&usage(224, View::Cropped(0.875)));
        let expected = json!({
            "image_processor_type": "ConvNextImageProcessor", "do_resize": true, "size": {"shortest_edge": 224},
            "crop_pct": 0.875, "resample": 3, "do_rescale": true, "rescale_factor": 0.00392156862745098,
            "do_normalize": true, "image_mean": [0.5], "image_std": [0.25],
        });
        assert_eq!((processor, untold), (expected, None));
        let (processor, untold) = transformers_processor(&usage(384, View::Cropped(1.0)));
        assert_eq!((&processor["do_resize"], untold), (&json!(true), None));
    }

    #[test]
    fn a_view_that_it_has_not_is_not_silently_another() {
        for (side, view) in
            [(28, View::Padded), (224, View::Cropped(1.0)), (384, View::Cropped(0.95)), (512, View::Padded)]
        {
            let (processor, untold) = transformers_processor(&usage(side, view));
            assert_eq!(processor["do_resize"], json!(false), "{view:?}");
            assert!(untold.unwrap().contains(&format!("{side}x{side}")));
        }
        let oblong = Usage { width: 100, ..usage(224, View::Cropped(0.875)) };
        assert!(transformers_processor(&oblong).1.is_some());
    }
}
