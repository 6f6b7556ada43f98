//! A pre-training part needs the size of its patches.

use convnext_core::convnext;

convnext! {
    pub model Own {
        input: 224 x 224 x 3,
        stem: 4,
        head: 10,
        stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2],
        fcmae: { mask: 0.5 },
    }
}

fn main() {}
