//! Mistakes of punctuation cost no types: what uses them adds no errors, and each is reported once.

use convnext_core::convnext;

convnext! {
    pub model Own = [
        input: 224, 224, 3;
        stem = 4
        head: 2 * 5,,
        stages: (40 * 2; (80, 2), 160 x 6 320 x 2),
        fcmae [ patch: 32; mask: 60% ]
    ];
    Other { input: 224 x 224 x 3, stem: 4, head: 10, stages: [40 x 2] }
}

fn main() {
    let _ = (<Own as convnext_core::Variant>::entry(), <Other as convnext_core::Variant>::entry());
}
