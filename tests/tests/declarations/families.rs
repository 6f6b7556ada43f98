//! Several families and models in one block; a model's own settings win, key by key.

use convnext_core::{Variant, convnext, plan::Plan};

convnext! {
    pub family Large { input: 32 x 32 x 3, stem: 4, head: 10, fcmae: { patch: 8, mask: 0.75, decoder: 16 x 2 } }
    pub family Small { input: 16 x 16 x 1, stem: 2, head: 2, stages: [4 x 1] }

    pub model One: Large { stages: [4 x 1, 8 x 1] }
    pub model Two: Large { stages: [4 x 1], fcmae: { patch: 4 }, head: 7 }
    pub model Three: Large { stages: [4 x 1], fcmae: none }
    pub model Four: Small {}
    pub model Five { input: 8x8x3, stem: 2, head: 1, stages: [4x1] }
}

#[test]
fn a_model_s_own_settings_win() {
    let fcmae = |plan: Plan| {
        let (fcmae, patches) = plan.fcmae.zip(plan.patches())?;
        Some((fcmae.patch, patches.visible, fcmae.decoder_depth))
    };
    assert_eq!(fcmae(One::PLAN), Some((8, 4, 2)));
    assert_eq!(fcmae(Two::PLAN), Some((4, 16, 2)));
    assert_eq!((fcmae(Three::PLAN), fcmae(Four::PLAN)), (None, None));
    assert_eq!((One::PLAN.classes, Two::PLAN.classes, Four::PLAN.classes), (10, 7, 2));
    assert_eq!([One::entry(), Five::entry()].map(|entry| entry.plan.name), ["one", "five"]);
}
