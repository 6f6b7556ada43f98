//! Two types, one name on the command line.

use convnext_core::convnext;

convnext! {
    family Paper { input: 224 x 224 x 3, stem: 4, head: 1000 }
    pub model OwnV1: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
    #[allow(non_camel_case_types)]
    pub model Own_V1: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }
}

fn main() {}
