//! Three models inherit one mistake of their family: it is reported once.

use convnext_core::convnext;

convnext! {
    family Paper { input: 240 x 224 x 3, stem: 4, head: 1000 }
    pub model One: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
    pub model Two: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
    pub model Three: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
}

fn main() {}
