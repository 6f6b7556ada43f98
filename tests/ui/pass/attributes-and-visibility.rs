//! Attributes and visibility reach the types; a strict crate has nothing to complain of.

#![deny(missing_docs, unreachable_pub, missing_debug_implementations, warnings)]

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

fn main() {
    use convnext_core::Variant;
    println!("{:?} {}", models::NeverEncoder, models::Inside::PLAN.name);
    println!("{:?}", models::Inside::entry().plan);
}
