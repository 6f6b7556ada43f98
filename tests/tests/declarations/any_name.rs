//! Names that the emitted code uses itself, or that Rust knows for something else.
#![allow(missing_docs, non_camel_case_types)]

use convnext_core::{Variant, convnext};

/// All of them in one module, where they are in each other's way too.
macro_rules! together {
    ($($name:ident)*) => {
        pub mod together {
            ::convnext_core::convnext! {
                family Small { input: 16 x 16 x 1, stem: 2, head: 4, stages: [4 x 1, 8 x 1], fcmae: { patch: 8 } }
                $(pub model $name: Small {})*
            }
        }
    };
}

together! {
    A B C D E F G H I J K L M N O P Q R S T U V W X Y Z D0 E0 E2 D2 To ToE ToD Output Built Err
    f32 usize str u8 bool Option Some None Result Ok Box Vec String Clone Debug Sized Copy Drop
    core std convnext_core dfdx Variant Entry Plan Tensor Cpu Größe r#fn _Inner Encoder
}

/// One by itself in a module.
macro_rules! apart {
    ($($module:ident: $name:ident)*) => {
        $(pub mod $module {
            ::convnext_core::convnext! {
                pub model $name {
                    input: 16 x 16 x 1, stem: 2, head: 4, stages: [4 x 1, 8 x 1], fcmae: { patch: 8, mask: 0.5 },
                }
            }
        })*
    };
}

apart! { e: E t: T d: D float: f32 option: Option umlaut: Größe raw: r#fn inner: _Inner }

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
