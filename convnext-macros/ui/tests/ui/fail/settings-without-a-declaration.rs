//! Settings that belong to no model.

use convnext_core::convnext;

convnext! {
    input: 224 x 224 x 3,
    stem: 4,
}

fn main() {}
