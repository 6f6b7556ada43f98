//! What the compiler says: one file for each mistake, named by it, beside the message that it must earn.
//!
//! A changed message is reviewed as a diff after `TRYBUILD=overwrite cargo test -p convnext-tests --test ui`. The
//! toolchain is pinned, as rustc's own part of a message changes with it.

/// Mistakes in declarations: what, where and what to do.
#[test]
fn mistaken_declarations_are_refused() {
    trybuild::TestCases::new().compile_fail("ui/fail/*.rs");
}

/// Sizes that do not meet: type errors of rustc.
#[test]
fn sizes_that_differ_are_refused() {
    trybuild::TestCases::new().compile_fail("ui/types/*.rs");
}

/// Declarations that compile, and run.
#[test]
fn sound_declarations_compile() {
    trybuild::TestCases::new().pass("ui/pass/*.rs");
}
