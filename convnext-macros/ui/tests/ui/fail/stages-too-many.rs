//! More stages than an image could be halved.

use convnext_core::convnext;

convnext! {
    pub model Own {
        input: 65536 x 65536 x 3,
        stem: 1,
        head: 10,
        stages: [1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1, 1x1],
    }
}

fn main() {}
