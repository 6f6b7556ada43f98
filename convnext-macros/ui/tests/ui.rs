//! What the compiler says: one file for each mistake, named by it, beside the message that it must earn.
//!
//! A changed message is reviewed as a diff after `TRYBUILD=overwrite cargo test --release -p convnext-macros-ui --test ui`.
//! The toolchain is pinned, as rustc's own part of a message changes with it.
//!
//! What compiles is in `tests/tests/declarations`. A case that has to pass would make trybuild build core and all below
//! it anew; for these a check is enough.

/// Mistakes in declarations: what, where and what to do.
#[test]
fn mistaken_declarations_are_refused() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}

/// Sizes that do not meet: type errors of rustc.
#[test]
fn sizes_that_differ_are_refused() {
    trybuild::TestCases::new().compile_fail("tests/ui/types/*.rs");
}
