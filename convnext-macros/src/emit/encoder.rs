//! The encoder: stem, stages and the downsamplings between them; dense, and on visible patches only.

use super::visitor::{self, Field};
use super::{Emission, blocks, derives, error, generics, pass, size, sparse};
use crate::check::{Model, ModelFcmae, ModelStage};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

pub(super) fn items(emission: &Emission<'_>) -> TokenStream {
    let parts = parts(emission.plan);
    let mut items = declaration(emission, &parts);
    let fields: Vec<_> = parts.iter().map(Part::field).collect();
    items.extend(visitor::impls(&emission.names.encoder, &fields, &emission.shared));
    items.extend(visitor::parts(&emission.names.encoder, fields.iter().map(|field| &field.ident), &emission.shared));
    items.extend(forward(emission));
    if let Some(fcmae) = &emission.plan.fcmae {
        items.extend(forward_visible(emission, fcmae));
    }
    items
}

/// A field of the encoder.
struct Part {
    ident: Ident,
    path: String,
    module: TokenStream,
    docs: String,
}

impl Part {
    fn field(&self) -> Field {
        Field { ident: self.ident.clone(), path: self.path.clone() }
    }
}

fn parts(plan: &Model) -> Vec<Part> {
    let mut parts = vec![stem(plan)];
    for (index, stage) in plan.stages.iter().enumerate() {
        if index > 0 {
            parts.push(downsample(index, &plan.stages[index - 1], stage));
        }
        parts.push(stage_blocks(plan, index, stage));
    }
    parts
}

fn stem(plan: &Model) -> Part {
    let first = &plan.stages[0];
    let sizes = [plan.height, plan.width, plan.channels, plan.stem, first.dim, first.height, first.width];
    let sizes = sizes.into_iter().map(size);
    Part {
        ident: format_ident!("stem"),
        path: "stem".into(),
        module: quote!(::convnext_core::nn::Stem<#(#sizes,)* E, D>),
        docs: format!("Cuts the image into {0} x {0} patches of {1} channels each.", plan.stem, first.dim),
    }
}

fn downsample(index: usize, before: &ModelStage, stage: &ModelStage) -> Part {
    let sizes = [before.height, before.width, before.dim, stage.height, stage.width, stage.dim];
    let sizes = sizes.into_iter().map(size);
    Part {
        ident: format_ident!("downsample{index}"),
        path: format!("stages.{index}.downsample"),
        module: quote!(::convnext_core::nn::Downsample<#(#sizes,)* E, D>),
        docs: format!("Halves the grid for stage {index}, counted from 0."),
    }
}

fn stage_blocks(plan: &Model, index: usize, stage: &ModelStage) -> Part {
    let ModelStage { height, width, dim, kernel, depth, .. } = *stage;
    Part {
        ident: format_ident!("stage{index}"),
        path: format!("stages.{index}.blocks"),
        module: blocks(plan.flavour, height, width, dim, kernel, depth),
        docs: format!("Blocks of stage {index}: {depth} on {height} x {width} x {dim}."),
    }
}

fn declaration(emission: &Emission<'_>, parts: &[Part]) -> TokenStream {
    let Emission { names, visibility, shared, .. } = emission;
    let (derives, generics, encoder) = (derives(), generics(), &names.encoder);
    let docs = format!("The encoder of [`{}`]: {} after its stages.", names.model, emission.shapes());
    let fields = parts.iter().map(|Part { ident, module, docs, .. }| {
        quote! {
            #[doc = #docs]
            #visibility #ident: #module
        }
    });
    quote! {
        #(#shared)*
        #[doc = #docs]
        #derives
        #visibility struct #encoder #generics {
            #(#fields),*
        }
    }
}

/// Dense forward passes, `[B, H, W, C]` to `[B, h, w, DIM]`.
fn forward(emission: &Emission<'_>) -> TokenStream {
    super::forward(emission, &emission.names.encoder, &emission.features(), 3)
}

/// The forward pass of pre-training: `[B, H, W, C]` to the visible `[B, K, P, P, DIM]`.
fn forward_visible(emission: &Emission<'_>, fcmae: &ModelFcmae) -> TokenStream {
    let Emission { names, visibility, shared, plan, .. } = emission;
    let (encoder, error) = (&names.encoder, error());
    let images = emission.images(&quote!(B), &quote!(T));
    let visible = sparse(fcmae.visible, fcmae.patch / plan.stride(), plan.last().dim);
    let pass = pass(4, &quote!(::core::option::Option::Some(visible)), false);
    let docs = format!(
        "Features of the {} visible patches of each image, `[B, {}, {side}, {side}, {}]`; removed ones are not computed.",
        fcmae.visible,
        fcmae.visible,
        plan.last().dim,
        side = fcmae.patch / plan.stride()
    );
    quote! {
        #(#shared)*
        impl #encoder {
            #[doc = #docs]
            #visibility fn try_forward_visible<B, T>(
                &self,
                x: #images,
                visible: &::std::sync::Arc<::convnext_core::nn::Visibility>,
            ) -> ::core::result::Result<#visible, #error>
            where
                B: ::convnext_core::dfdx::shapes::Dim,
                T: ::convnext_core::dfdx::tensor::Tape<::core::primitive::f32, ::convnext_core::dfdx::tensor::Cpu>,
            {
                let tensor = #pass?;
                ::core::result::Result::Ok(::convnext_core::nn::Sparse { tensor, visible: ::core::clone::Clone::clone(visible) })
            }
        }
    }
}
