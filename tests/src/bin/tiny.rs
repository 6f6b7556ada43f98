//! A program with variants of its own: it gets the whole command line.

use std::process::ExitCode;

use convnext_core::{Variant, convnext};

convnext! {
    /// Small enough that a training run takes a second.
    pub model Dot {
        input: 16 x 16 x 1,
        stem: 2,
        head: 4,
        drop_path: 0.1,
        stages: [8 x 1 kernel 3, 16 x 2 kernel 3],
        fcmae: { patch: 4, decoder: 16 x 1, kernel: 3 },
    }

    /// Another shape than Dot's: its weights do not fit.
    pub model Dash {
        input: 16 x 16 x 1,
        stem: 2,
        head: 4,
        stages: [8 x 1, 12 x 1],
    }

    /// Takes twelve bands.
    pub model Twelve {
        input: 16 x 16 x 12,
        stem: 2,
        head: 4,
        stages: [8 x 1 kernel 3, 16 x 1 kernel 3],
        fcmae: { patch: 4, decoder: 16 x 1, kernel: 3 },
    }
}

fn main() -> ExitCode {
    convnext::run!(&[Dot::entry(), Dash::entry(), Twelve::entry()])
}
