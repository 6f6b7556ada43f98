//! A model without stages.

use convnext_core::convnext;

convnext! {
    pub model Own {
        input: 224 x 224 x 3,
        stem: 4,
        head: 10,
        stages: [],
    }
}

fn main() {}
