//! A stage without channels, and one with too many.

use convnext_core::convnext;

convnext! {
    pub model Own {
        input: 224 x 224 x 3,
        stem: 4,
        head: 10,
        stages: [0 x 2, 80 x 2, 160 x 6, 100000 x 2],
    }
}

fn main() {}
