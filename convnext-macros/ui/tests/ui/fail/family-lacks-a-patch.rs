//! A family's pre-training part leaves the patch to its models, and one forgets it.

use convnext_core::convnext;

convnext! {
    family Paper { input: 224 x 224 x 3, stem: 4, head: 1000, fcmae: { mask: 0.5 } }
    pub model Own: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
    pub model Other: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2], fcmae: { patch: 32 } }
}

fn main() {}
