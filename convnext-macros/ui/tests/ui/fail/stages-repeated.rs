//! Rust's way to repeat an element.

use convnext_core::convnext;

convnext! {
    pub model Own {
        input: 224 x 224 x 3,
        stem: 4,
        head: 10,
        stages: [40 x 2; 4],
    }
}

fn main() {}
