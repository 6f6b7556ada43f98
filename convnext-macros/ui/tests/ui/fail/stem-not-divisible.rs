//! The stem's patches leave a rest.

use convnext_core::convnext;

convnext! {
    pub model Own {
        input: 225 x 224 x 3,
        stem: 4,
        head: 10,
        stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2],
    }
}

fn main() {}
