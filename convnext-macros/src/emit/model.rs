//! The classifier: encoder and head, under the declared name.

use super::visitor::{self, Field};
use super::{Emission, derives, docs, generics, plan, size, tensor};
use crate::check::ModelStage;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

pub(super) fn items(emission: &Emission<'_>) -> TokenStream {
    let field = |name: &str| Field { ident: format_ident!("{name}"), path: name.into() };
    let fields = [field("encoder"), field("head")];
    let mut items = declaration(emission);
    items.extend(visitor::impls(&emission.names.code, &fields, &emission.shared));
    items.extend(visitor::parts(&emission.names.code, fields.iter().map(|field| &field.ident), &emission.shared));
    items.extend(forward(emission));
    items.extend(variant(emission));
    items.extend(classifier(emission));
    items
}

fn declaration(emission: &Emission<'_>) -> TokenStream {
    let Emission { names, visibility, attributes, .. } = emission;
    let (model, encoder) = (&names.code, &names.encoder);
    let (derives, generics, head) = (derives(), generics(), head(emission));
    let separator = docs(attributes).next().map(|_| quote!(#[doc = ""]));
    let summary = summary(emission);
    quote! {
        #(#attributes)*
        #separator
        #[doc = #summary]
        #derives
        #visibility struct #model #generics {
            /// Stem and stages.
            #visibility encoder: #encoder<E, D>,
            /// Pooling, normalisation and the linear layer to the classes.
            #visibility head: #head,
        }
    }
}

/// The numbers of the plan that a reader of the documentation wants.
fn summary(emission: &Emission<'_>) -> String {
    let plan = emission.plan;
    format!(
        "Takes `{} x {} x {}` to {} classes by way of {}.",
        plan.height,
        plan.width,
        plan.channels,
        plan.classes,
        emission.shapes()
    )
}

fn head(emission: &Emission<'_>) -> TokenStream {
    let ModelStage { height, width, dim, .. } = *emission.plan.last();
    let sizes = [height, width, dim, emission.plan.classes].into_iter().map(size);
    quote!(::convnext_core::nn::Head<#(#sizes,)* E, D>)
}

/// Forward passes, `[B, H, W, C]` to logits `[B, CLASSES]`.
fn forward(emission: &Emission<'_>) -> TokenStream {
    let logits = tensor(&quote!(B), &[emission.plan.classes], &quote!(T));
    super::forward(emission, &emission.names.code, &logits, 1)
}

/// The plan, and the entry in a command line's list.
fn variant(emission: &Emission<'_>) -> TokenStream {
    let Emission { names, shared, .. } = emission;
    let (model, fcmae) = (&names.code, &names.fcmae);
    let plan = plan::literal(emission);
    let entry = match emission.plan.fcmae {
        Some(_) => quote!(::convnext_core::Entry::with_fcmae::<#model, #fcmae>),
        None => quote!(::convnext_core::Entry::new::<#model>),
    };
    quote! {
        #(#shared)*
        impl ::convnext_core::Variant for #model {
            const PLAN: ::convnext_core::plan::Plan = #plan;

            fn entry() -> ::convnext_core::Entry {
                #entry(<Self as ::convnext_core::Variant>::PLAN)
            }
        }
    }
}

/// What training and evaluation need of a classifier.
fn classifier(emission: &Emission<'_>) -> TokenStream {
    let (shared, model) = (&emission.shared, &emission.names.code);
    quote! {
        #(#shared)*
        impl ::convnext_core::nn::ClassifierModule for #model {}
    }
}
