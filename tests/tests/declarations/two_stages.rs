//! Two stages, with the names that their parameters are saved under.

use convnext_core::convnext;
use convnext_core::dfdx::prelude::*;
use convnext_core::nn::Flat;

convnext! {
    pub model Two { input: 8 x 8 x 3, stem: 2, head: 2, stages: [4 x 1, 8 x 2], fcmae: { patch: 4, decoder: 6 x 1 } }
}

#[test]
fn parameters_have_names() {
    let device = Cpu::default();
    let layout = format!("{:?}", device.build_module::<Two, f32>().layout());
    for name in [
        "encoder.stem.conv.weight",
        "encoder.stages.0.blocks.0.dwconv.weight",
        "encoder.stages.1.downsample.norm.bias",
        "encoder.stages.1.blocks.1.grn.gamma",
        "head.linear.bias",
    ] {
        assert!(layout.contains(&format!("\"{name}\"")), "{name} in {layout}");
    }
    let layout = format!("{:?}", device.build_module::<TwoFcmae, f32>().layout());
    for name in ["encoder.stem.norm.weight", "densify.mask_token", "decoder.0.pwconv1.weight", "prediction.bias"] {
        assert!(layout.contains(&format!("\"{name}\"")), "{name} in {layout}");
    }
}
