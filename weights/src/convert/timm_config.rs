//! What timm reads beside weights: the `config.json` of its hub, from which `create_model("local-dir:FOLDER")` builds them.

use convnext_core::plan::{Flavour, Plan};
use serde_json::{Value, json};

use super::{hf_config::decimals, timm};
use crate::checkpoint::{Usage, View};

/// timm's own sizes: the name behind `convnext_` or `convnextv2_`, widths, depths.
const SIZES: [(&str, [usize; 4], [usize; 4]); 8] = [
    ("atto", [40, 80, 160, 320], [2, 2, 6, 2]),
    ("femto", [48, 96, 192, 384], [2, 2, 6, 2]),
    ("pico", [64, 128, 256, 512], [2, 2, 6, 2]),
    ("nano", [80, 160, 320, 640], [2, 2, 8, 2]),
    ("tiny", [96, 192, 384, 768], [3, 3, 9, 3]),
    ("base", [128, 256, 512, 1024], [3, 3, 27, 3]),
    ("large", [192, 384, 768, 1536], [3, 3, 27, 3]),
    ("huge", [352, 704, 1408, 2816], [3, 3, 27, 3]),
];

/// Pixels to a side of a cell of the last grid from which on timm dilates instead of halving.
const COARSEST: usize = 32;

/// `config.json` of a classifier, and what timm cannot be told of the images. Without `usage` nothing is known about them.
pub fn timm_config(plan: &Plan, usage: Option<&Usage>) -> (Value, Option<String>) {
    let dims: Vec<usize> = plan.stages.iter().map(|stage| stage.dim).collect();
    let depths: Vec<usize> = plan.stages.iter().map(|stage| stage.depth).collect();
    let kernels: Vec<usize> = plan.stages.iter().map(|stage| stage.kernel).collect();
    let family = match plan.flavour {
        Flavour::V1 => "convnext",
        Flavour::V2 => "convnextv2",
    };
    let size = SIZES.iter().find(|(name, widths, counts)| {
        widths[..] == dims && counts[..] == depths && !(plan.flavour == Flavour::V1 && *name == "huge")
    });
    let is_stock = plan.stem == 4 && kernels.iter().all(|&kernel| kernel == 7);
    let (name, arguments) = match size {
        Some((name, ..)) if is_stock => (*name, None),
        _ => {
            let is_small = timm::has_convolutions(&dims);
            let sizes = json!({
                "dims": dims, "depths": depths, "kernel_sizes": kernels, "patch_size": plan.stem, "conv_mlp": is_small,
            });
            ("base", Some(sizes))
        }
    };
    let (images, untold) = images(plan, usage);
    let mut config = json!({
        "architecture": format!("{family}_{name}"),
        "num_classes": plan.classes,
        "num_features": dims.last(),
        "global_pool": "avg",
        "pretrained_cfg": images,
    });
    if let Some(arguments) = arguments {
        config["model_args"] = arguments;
    }
    if let Some(usage) = usage.filter(|usage| !usage.classes.is_empty()) {
        config["label_names"] = usage.classes.clone().into();
    }
    (config, untold)
}

/// `pretrained_cfg`: what the images are.
fn images(plan: &Plan, usage: Option<&Usage>) -> (Value, Option<String>) {
    let mut images = json!({
        "custom_load": false,
        "input_size": [plan.channels, plan.height, plan.width],
        "fixed_input_size": false,
        "interpolation": "bicubic",
        "num_classes": plan.classes,
        "pool_size": [plan.height / plan.stride(), plan.width / plan.stride()],
        "first_conv": "stem.0",
        "classifier": "head.fc",
    });
    let Some(Usage { height, width, mean, std, view, .. }) = usage else { return (images, None) };
    images["mean"] = json!(decimals(mean));
    images["std"] = json!(decimals(std));
    let (mode, share) = match view {
        View::Cropped(share) if *share < 1.0 => ("center", *share),
        View::Cropped(_) => ("squash", 1.0),
        View::Padded => {
            let untold = format!(
                "timm's transforms cannot look at images as this model does: give it images of {height}x{width}, centred on \
                 black, not resampled"
            );
            return (images, Some(untold));
        }
    };
    images["crop_pct"] = json!(share);
    images["crop_mode"] = mode.into();
    (images, None)
}

/// What no model of timm can have.
pub(super) fn fault(plan: &Plan) -> Option<String> {
    let Plan { stem, stages, .. } = plan;
    if stages.len() != 4 {
        return Some(format!("they have 4 stages, and it has {}", stages.len()));
    }
    if *stem == 2 {
        return Some("after a stem of 2 they halve the grid before the first stage".into());
    }
    // Where the grid before the last stage is as coarse as that, the stage dilates.
    if stem << 2 >= COARSEST {
        return Some(format!(
            "they stop halving at cells of {COARSEST} pixels, and a stem of {stem} comes to those earlier"
        ));
    }
    None
}
