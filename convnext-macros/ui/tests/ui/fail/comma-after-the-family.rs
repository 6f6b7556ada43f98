//! A comma between a model's family and its settings.

use convnext_core::convnext;

convnext! {
    family Paper { input: 224 x 224 x 3, stem: 4, head: 10 }
    pub model Own: Paper, { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
}

fn main() {}
