//! Variants that nobody would train: small, and of shapes that the built-in ones do not have. They are what the golden
//! files are for, and what is compared with PyTorch where the paper's sizes leave something unsaid.

use convnext_core::{Entry, Variant, convnext};

convnext! {
    /// Three stages, not square, every kernel another, widths that fill no vector, patches of two by two cells.
    pub model Lopsided {
        input: 48 x 80 x 3,
        stem: 2,
        head: 7,
        drop_path: 0.2,
        stages: [12 x 1 kernel 5, 20 x 2, 36 x 1 kernel 3],
        fcmae: { patch: 16, mask: 0.6, decoder: 24 x 2, kernel: 5 },
    }

    /// Two grey stages, and pixels predicted as they are.
    pub model Grey {
        input: 32 x 24 x 1,
        stem: 4,
        head: 5,
        drop_path: 0.1,
        stages: [16 x 2, 32 x 2 kernel 3],
        fcmae: { patch: 8, mask: 0.5, decoder: 16 x 1, normalised: false },
    }

    /// The first ConvNeXt's blocks: LayerScale in place of response normalisation.
    pub model Former {
        input: 24 x 32 x 3,
        stem: 4,
        head: 6,
        block: V1,
        stages: [16 x 1, 24 x 2 kernel 5],
        fcmae: { patch: 8, mask: 0.5, decoder: 16 x 1 },
    }

    /// Four stages with groups of blocks of every size, to follow the rules of layer-wise decay.
    pub model Grouped {
        input: 32 x 32 x 3,
        stem: 2,
        head: 5,
        stages: [8 x 3 kernel 3, 12 x 3 kernel 3, 16 x 9 kernel 3, 24 x 3 kernel 3],
    }

    /// The paper's sizes for pictures that are not square.
    family Wide {
        input: 192 x 256 x 3,
        stem: 4,
        head: 1000,
        fcmae: { patch: 32, mask: 0.6, decoder: 512 x 1 },
    }

    /// Atto, wide.
    pub model AttoWide: Wide { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }

    /// Femto, wide.
    pub model FemtoWide: Wide { stages: [48 x 2, 96 x 2, 192 x 6, 384 x 2] }

    /// Pico, wide.
    pub model PicoWide: Wide { stages: [64 x 2, 128 x 2, 256 x 6, 512 x 2] }

    /// Nano, wide.
    pub model NanoWide: Wide { stages: [80 x 2, 160 x 2, 320 x 8, 640 x 2] }

    /// Tiny, wide.
    pub model TinyWide: Wide { stages: [96 x 3, 192 x 3, 384 x 9, 768 x 3] }

    /// Base, wide.
    pub model BaseWide: Wide { stages: [128 x 3, 256 x 3, 512 x 27, 1024 x 3] }

    /// Large, wide.
    pub model LargeWide: Wide { stages: [192 x 3, 384 x 3, 768 x 27, 1536 x 3] }

    /// Huge, wide.
    pub model HugeWide: Wide { stages: [352 x 3, 704 x 3, 1408 x 27, 2816 x 3] }

    /// Tiny at the size that the paper fine-tunes at last.
    pub model Tiny384 {
        input: 384 x 384 x 3,
        stem: 4,
        head: 1000,
        stages: [96 x 3, 192 x 3, 384 x 9, 768 x 3],
    }
}

/// All of them.
pub fn variants() -> Vec<Entry> {
    vec![
        Lopsided::entry(),
        Grey::entry(),
        Former::entry(),
        Grouped::entry(),
        AttoWide::entry(),
        FemtoWide::entry(),
        PicoWide::entry(),
        NanoWide::entry(),
        TinyWide::entry(),
        BaseWide::entry(),
        LargeWide::entry(),
        HugeWide::entry(),
        Tiny384::entry(),
    ]
}
