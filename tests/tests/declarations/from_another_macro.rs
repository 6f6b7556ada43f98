//! A macro of the user's that declares models, with sizes and names as its fragments.

use convnext_core::{Variant, convnext};

macro_rules! square {
    ($name:ident, $side:literal, $dim:literal) => {
        convnext! {
            pub model $name { input: $side x $side x 3, stem: 2, head: 2, stages: [$dim x 1, $dim x 2] }
        }
    };
}

square!(Small, 8, 4);
square!(Larger, 16, 8);

#[test]
fn fragments_are_names_and_sizes() {
    assert_eq!((Small::PLAN.height, Larger::PLAN.stages[1].dim), (8, 8));
}
