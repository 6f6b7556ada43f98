//! Every mistake is reported in one build, also those of other models.

use convnext_core::convnext;

convnext! {
    family Paper { input: 224 x 224 x 3, stem: 4, head: 1000, kernel: 6 }
    pub model One: Paper { stages: [40 x 2, 80, 160 x 6, 320 x 2 kernel 2] drop_path: 2.5 }
    pub model Two { input: 30 x 31 x 0, stem: 4, hed: 10, stages: [40 x 2, 80 x 300] }
    pub model Three: Papers { fcmae: { patch: 32, mask: 1.5, decoder: 0 x 1 } }
}

fn main() {}
