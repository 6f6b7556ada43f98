//! A required setting, misspelt: it is not reported missing as well.

use convnext_core::convnext;

convnext! {
    pub model Own { input: 224 x 224 x 3, stem: 4, heda: 10, stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2], fcmae: { pach: 32 } }
}

fn main() {}
