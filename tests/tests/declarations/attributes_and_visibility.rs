//! Attributes and visibility reach the types; a strict crate has nothing to complain of.

#![deny(missing_docs, unreachable_pub, missing_debug_implementations, warnings)]

use convnext_core::{Variant, convnext};

mod models {
    use convnext_core::convnext;

    convnext! {
        /// A family is not a type, and may be documented.
        family Shared { input: 8 x 8 x 3, stem: 2, head: 2, stages: [4 x 1], fcmae: { patch: 4 } }

        /// Seen in this crate.
        #[must_use]
        pub(crate) model Inside: Shared {}

        #[cfg(any())]
        pub(crate) model Never: Shared {}

        #[allow(dead_code)]
        model Private: Shared { fcmae: none }
    }

    // The name is free: the model that has it is configured away, with all that belongs to it.
    #[derive(Debug)]
    pub(crate) struct NeverEncoder;
}

convnext! {
    pub model Everywhere { input: 8 x 8 x 3, stem: 2, head: 2, stages: [4 x 1], fcmae: { patch: 4 } }
}

#[test]
fn attributes_and_visibility_reach_the_types() {
    let never = models::NeverEncoder;
    assert_eq!(format!("{never:?}"), "NeverEncoder");
    assert_eq!(models::Inside::entry().plan.about, "Seen in this crate.");
    assert_eq!(Everywhere::PLAN.name, "everywhere");
}
