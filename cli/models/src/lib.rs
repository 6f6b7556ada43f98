//! The variants that the command line knows without being told: the paper's eight sizes, one of the first ConvNeXt,
//! and small ones for small pictures.

use convnext_core::{Entry, Variant, convnext};

convnext! {
    /// What the sizes of the paper share (arXiv 2301.00808, table 5 and appendix A).
    ///
    /// The drop-path rates of the sizes are those of their fine-tuning on ImageNet-1k.
    family Paper {
        input: 224 x 224 x 3,
        stem: 4,
        head: 1000,
        drop_path: 0.1,
        fcmae: { patch: 32, mask: 0.6, decoder: 512 x 1, normalised: true },
    }

    /// The smallest size of the paper: 3.7 M parameters.
    pub model Atto: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2] }

    /// The paper's second size: 5.2 M parameters.
    pub model Femto: Paper { stages: [48 x 2, 96 x 2, 192 x 6, 384 x 2] }

    /// The paper's third size: 9.1 M parameters.
    pub model Pico: Paper { stages: [64 x 2, 128 x 2, 256 x 6, 512 x 2] }

    /// The paper's fourth size: 15.6 M parameters.
    pub model Nano: Paper { stages: [80 x 2, 160 x 2, 320 x 8, 640 x 2] }

    /// The paper's fifth size: 28.6 M parameters.
    pub model Tiny: Paper { stages: [96 x 3, 192 x 3, 384 x 9, 768 x 3], drop_path: 0.2 }

    /// The paper's sixth size: 88.7 M parameters.
    pub model Base: Paper { stages: [128 x 3, 256 x 3, 512 x 27, 1024 x 3] }

    /// The paper's seventh size: 198 M parameters.
    pub model Large: Paper { stages: [192 x 3, 384 x 3, 768 x 27, 1536 x 3], drop_path: 0.2 }

    /// The largest size of the paper: 660 M parameters.
    pub model Huge: Paper { stages: [352 x 3, 704 x 3, 1408 x 27, 2816 x 3], drop_path: 0.3 }

    /// Atto with the blocks of the first ConvNeXt: LayerScale in place of response normalisation, 3.7 M parameters.
    pub model AttoV1: Paper { stages: [40 x 2, 80 x 2, 160 x 6, 320 x 2], block: V1 }
}

convnext! {
    /// What the small variants share: narrow decoders, to train on a laptop's CPU.
    family Small {
        drop_path: 0.1,
        fcmae: { decoder: 128 x 1 },
    }

    /// For grey pictures of 28 to 32 pixels, such as Fashion-MNIST's: 0.5 M parameters, 18 M multiply-adds.
    pub model Micro: Small {
        input: 32 x 32 x 1,
        stem: 2,
        head: 10,
        kernel: 3,
        stages: [32 x 2, 64 x 4, 128 x 2],
        fcmae: { patch: 8 },
    }

    /// For colour pictures of 64 pixels in nine classes, such as emoji's: 1.1 M parameters, 43 M multiply-adds.
    pub model Nano64: Small {
        input: 64 x 64 x 3,
        stem: 4,
        head: 9,
        stages: [48 x 2, 96 x 4, 192 x 2],
        fcmae: { patch: 16 },
    }

    /// For photographs by the hundred, of 96 pixels: 1.1 M parameters, 57 M multiply-adds; timm and transformers load it.
    pub model Mini96: Small {
        input: 96 x 96 x 3,
        stem: 3,
        head: 10,
        stages: [24 x 2, 48 x 2, 96 x 4, 192 x 2],
        fcmae: { patch: 24 },
    }
}

/// The built-in variants, in the order in which lists show them.
pub fn builtin() -> Vec<Entry> {
    vec![
        Micro::entry(),
        Nano64::entry(),
        Mini96::entry(),
        Atto::entry(),
        Femto::entry(),
        Pico::entry(),
        Nano::entry(),
        Tiny::entry(),
        Base::entry(),
        Large::entry(),
        Huge::entry(),
        AttoV1::entry(),
    ]
}
