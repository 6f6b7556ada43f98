//! A declaration without settings.

use convnext_core::convnext;

convnext! {
    pub model Own;

    pub model Other
}

fn main() {}
