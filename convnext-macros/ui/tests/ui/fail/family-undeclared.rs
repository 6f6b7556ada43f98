//! A block has to declare its families itself.

use convnext_core::convnext;

convnext! {
    pub model Own: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
}

fn main() {}
