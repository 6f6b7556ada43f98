//! A family's patch that fits one model and not the other, which has one stage more.

use convnext_core::convnext;

convnext! {
    family Paper { input: 224 x 224 x 3, stem: 2, head: 1000, fcmae: { patch: 16 } }
    pub model Fits: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
    pub model Deeper: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2, 640 x 1] }
}

fn main() {}
