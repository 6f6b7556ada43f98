//! Names that the emitted code uses itself, or that Rust knows for something else.
#![allow(missing_docs, non_camel_case_types)]

use convnext_core::{Variant, convnext};

/// Each in a module of its own, and all of them in one, where they are in each other's way too.
macro_rules! named {
    ($($module:ident: $name:ident)*) => {
        $(pub mod $module {
            ::convnext_core::convnext! {
                pub model $name {
                    input: 16 x 16 x 1, stem: 2, head: 4, stages: [4 x 1, 8 x 1], fcmae: { patch: 8, mask: 0.5 },
                }
            }
        })*
        pub mod together {
            ::convnext_core::convnext! {
                family Small { input: 16 x 16 x 1, stem: 2, head: 4, stages: [4 x 1, 8 x 1], fcmae: { patch: 8 } }
                $(pub model $name: Small {})*
            }
        }
    };
}

named! {
    a: A b: B c: C d: D e: E f: F g: G h: H i: I j: J k: K l: L m: M n: N o: O p: P q: Q r: R s: S t: T u: U v: V w: W
    x: X y: Y z: Z d0: D0 e0: E0 e2: E2 d2: D2 to: To to_e: ToE to_d: ToD output: Output built: Built error: Err
    float: f32 size: usize word: str byte: u8 truth: bool
    option: Option some: Some none: None result: Result ok: Ok boxed: Box vec: Vec string: String clone: Clone
    debug: Debug sized: Sized copy: Copy drop: Drop
    core_: core std_: std own: convnext_core library: dfdx
    variant: Variant entry: Entry plan: Plan tensor: Tensor cpu: Cpu
    umlaut: Größe raw: r#fn inner: _Inner unary: Encoder
}

convnext! {
    /// In front of all that follows here.
    pub model E: Family {}
    family Family { input: 16 x 16 x 1, stem: 2, head: 4, stages: [4 x 1, 8 x 1] }
}

#[test]
fn names_are_free() {
    assert_eq!((name::<E>(), name::<t::T>(), name::<together::f32>()), ("e", "t", "f32"));
    assert_eq!((name::<umlaut::Größe>(), name::<raw::r#fn>(), name::<inner::_Inner>()), ("größe", "fn", "inner"));
}

fn name<M: Variant>() -> &'static str {
    M::PLAN.name
}

/// The type parameters of the emitted code still are what dfdx takes them for.
#[test]
fn a_model_named_as_a_parameter_is_built_and_runs() {
    use convnext_core::dfdx::prelude::*;
    let device = AutoDevice::default();
    let model: e::E = device.build_module::<e::E, core::primitive::f32>();
    let images = device.zeros::<Rank4<2, 16, 16, 1>>();
    let logits: Tensor<Rank2<2, 4>, core::primitive::f32, _> = model.forward(images);
    assert_eq!(logits.array().len(), 2);
}
