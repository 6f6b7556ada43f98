//! The Rust items of a model: one file for each thing that is emitted.

mod encoder;
mod fcmae;
mod model;
mod plan;
mod stub;
mod visitor;

use crate::ast::{Declaration, Flavour};
use crate::check::{Model, ModelStage};
use crate::hygiene;
use crate::names::Names;
use proc_macro2::{Ident, Literal, TokenStream};
use quote::quote;
use syn::{Attribute, Visibility};

pub(crate) use stub::stub;

/// What every file here needs of a model.
struct Emission<'a> {
    names: Names,
    visibility: &'a Visibility,
    attributes: &'a [Attribute],
    /// Attributes that go on every item, not on the classifier's type alone.
    shared: Vec<&'a Attribute>,
    plan: &'a Model,
}

/// All items of a model.
pub(crate) fn model(declaration: &Declaration, plan: &Model) -> TokenStream {
    let emission = Emission {
        names: Names::new(&declaration.name),
        visibility: &declaration.visibility,
        attributes: &declaration.attributes,
        shared: shared(declaration),
        plan,
    };
    let mut items = encoder::items(&emission);
    items.extend(model::items(&emission));
    if let Some(fcmae) = &plan.fcmae {
        items.extend(fcmae::items(&emission, fcmae));
    }
    hygiene::named(&declaration.name, items)
}

/// `#[cfg(...)]` and `#[allow(...)]`.
fn shared(declaration: &Declaration) -> Vec<&Attribute> {
    let is_shared = |attribute: &&Attribute| ["cfg", "allow"].iter().any(|name| attribute.path().is_ident(name));
    declaration.attributes.iter().filter(is_shared).collect()
}

/// The text of the doc comment, one string a line.
fn docs(attributes: &[Attribute]) -> impl Iterator<Item = String> {
    attributes.iter().filter_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(doc) if doc.path.is_ident("doc") => match &doc.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

/// A size as it appears in the emitted code.
fn size(value: u64) -> Literal {
    Literal::u64_unsuffixed(value)
}

/// A dfdx tensor of f32 on the CPU, `[batch, dims...]`, with a tape.
fn tensor(batch: &TokenStream, dims: &[u64], tape: &TokenStream) -> TokenStream {
    let dims = dims.iter().map(|dim| size(*dim));
    quote! {
        ::convnext_core::dfdx::tensor::Tensor<
            (#batch, #(::convnext_core::dfdx::shapes::Const<#dims>),*),
            ::core::primitive::f32,
            ::convnext_core::dfdx::tensor::Cpu,
            #tape
        >
    }
}

/// Activations of the visible patches, `[batch, visible, side, side, dim]`, with a tape.
fn sparse(visible: u64, side: u64, dim: u64) -> TokenStream {
    let dims = [visible, side, side, dim].into_iter().map(size);
    quote! {
        ::convnext_core::nn::Sparse<(B, #(::convnext_core::dfdx::shapes::Const<#dims>),*), T>
    }
}

/// The module of a run of blocks.
fn blocks(flavour: Flavour, height: u64, width: u64, dim: u64, kernel: u64, depth: u64) -> TokenStream {
    let block = match flavour {
        Flavour::V1 => quote!(BlockV1),
        Flavour::V2 => quote!(Block),
    };
    let [height, width, dim, kernel, depth] = [height, width, dim, kernel, depth].map(size);
    let hidden = quote!({ ::convnext_core::plan::EXPANSION * #dim });
    let block = quote!(::convnext_core::nn::#block<#height, #width, #dim, #hidden, #kernel, E, D>);
    quote!(::convnext_core::dfdx::nn::modules::Repeated<#block, #depth>)
}

impl Emission<'_> {
    /// The images a model takes, `[B, H, W, C]`.
    fn images(&self, batch: &TokenStream, tape: &TokenStream) -> TokenStream {
        tensor(batch, &[self.plan.height, self.plan.width, self.plan.channels], tape)
    }

    /// The features of the last stage, `[B, h, w, DIM]`.
    fn features(&self) -> TokenStream {
        let ModelStage { height, width, dim, .. } = *self.plan.last();
        tensor(&quote!(B), &[height, width, dim], &quote!(T))
    }

    /// `56 x 56 x 40, 28 x 28 x 80, ...`.
    fn shapes(&self) -> String {
        let shape = |stage: &ModelStage| format!("{} x {} x {}", stage.height, stage.width, stage.dim);
        self.plan.stages.iter().map(shape).collect::<Vec<_>>().join(", ")
    }
}

/// Forward passes of `module` from images to `output`, which has `sizes` axes beside the batch.
fn forward(emission: &Emission<'_>, module: &Ident, output: &TokenStream, sizes: usize) -> TokenStream {
    let (shared, error) = (&emission.shared, error());
    let images = emission.images(&quote!(B), &quote!(T));
    let none = quote!(::core::option::Option::None);
    let [inference, training] = [false, true].map(|drops| pass(sizes, &none, drops));
    quote! {
        #(#shared)*
        impl<B, T> ::convnext_core::dfdx::nn::Module<#images> for #module
        where
            B: ::convnext_core::dfdx::shapes::Dim,
            T: ::convnext_core::dfdx::tensor::Tape<::core::primitive::f32, ::convnext_core::dfdx::tensor::Cpu>,
        {
            type Output = #output;
            type Error = #error;

            fn try_forward(&self, x: #images) -> ::core::result::Result<Self::Output, Self::Error> {
                #inference
            }
        }

        #(#shared)*
        impl<B, T> ::convnext_core::dfdx::nn::ModuleMut<#images> for #module
        where
            B: ::convnext_core::dfdx::shapes::Dim,
            T: ::convnext_core::dfdx::tensor::Tape<::core::primitive::f32, ::convnext_core::dfdx::tensor::Cpu>,
        {
            type Output = #output;
            type Error = #error;

            fn try_forward_mut(&mut self, x: #images) -> ::core::result::Result<Self::Output, Self::Error> {
                #training
            }
        }
    }
}

/// One pass of `self` over `x`, to an output of `sizes` axes beside the batch.
fn pass(sizes: usize, visible: &TokenStream, drops: bool) -> TokenStream {
    let sizes = std::iter::repeat_n(quote!(::convnext_core::dfdx::shapes::Const), sizes);
    quote! {
        {
            let shape = (::convnext_core::dfdx::shapes::HasShape::shape(&x).0, #(#sizes),*);
            ::convnext_core::nn::run::forward(self, x, shape, #visible, #drops)
        }
    }
}

/// What dfdx's CPU reports; every emitted forward pass has this error.
fn error() -> TokenStream {
    quote!(<::convnext_core::dfdx::tensor::Cpu as ::convnext_core::dfdx::tensor::HasErr>::Err)
}

/// `#[derive]`s of an emitted struct.
fn derives() -> TokenStream {
    quote!(#[derive(::core::clone::Clone, ::core::fmt::Debug)])
}

/// The generics of an emitted struct, with the defaults that make `Atto` mean `Atto<f32, Cpu>`.
fn generics() -> TokenStream {
    quote! {
        <
            E: ::convnext_core::dfdx::shapes::Dtype = ::core::primitive::f32,
            D: ::convnext_core::dfdx::tensor_ops::Device<E> = ::convnext_core::dfdx::tensor::Cpu
        >
    }
}
