//! What was declared, as a literal of `::convnext_core::plan::Plan`.

use super::{Emission, docs, size};
use crate::ast::{Flavour, Fraction};
use crate::check::{ModelFcmae, ModelStage};
use proc_macro2::{Literal, TokenStream};
use quote::quote;

pub(super) fn literal(emission: &Emission<'_>) -> TokenStream {
    let plan = emission.plan;
    let name = emission.names.command_line();
    let about = docs(emission.attributes).map(|line| line.trim().to_string()).find(|line| !line.is_empty());
    let about = about.unwrap_or_default();
    let [height, width, channels] = [plan.height, plan.width, plan.channels].map(size);
    let [stem, classes] = [plan.stem, plan.classes].map(size);
    let flavour = flavour(plan.flavour);
    let stages = plan.stages.iter().map(stage);
    let drop_path = rate(plan.drop_path);
    let fcmae = match &plan.fcmae {
        Some(plan) => {
            let fcmae = fcmae(plan);
            quote!(::core::option::Option::Some(#fcmae))
        }
        None => quote!(::core::option::Option::None),
    };
    quote! {
        ::convnext_core::plan::Plan {
            name: #name,
            about: #about,
            height: #height,
            width: #width,
            channels: #channels,
            stem: #stem,
            flavour: ::convnext_core::plan::Flavour::#flavour,
            stages: &[#(#stages),*],
            classes: #classes,
            drop_path: #drop_path,
            fcmae: #fcmae,
        }
    }
}

fn flavour(flavour: Flavour) -> TokenStream {
    match flavour {
        Flavour::V1 => quote!(V1),
        Flavour::V2 => quote!(V2),
    }
}

fn rate(rate: f32) -> Literal {
    Literal::f32_unsuffixed(rate)
}

fn stage(stage: &ModelStage) -> TokenStream {
    let [dim, depth, kernel] = [stage.dim, stage.depth, stage.kernel].map(size);
    quote!(::convnext_core::plan::StagePlan { dim: #dim, depth: #depth, kernel: #kernel })
}

fn fcmae(fcmae: &ModelFcmae) -> TokenStream {
    let mask = decimal(&fcmae.mask);
    let sizes = [fcmae.patch, fcmae.decoder_dim, fcmae.decoder_depth, fcmae.decoder_kernel];
    let [patch, decoder_dim, decoder_depth, decoder_kernel] = sizes.map(size);
    let normalised = fcmae.normalised;
    quote! {
        ::convnext_core::plan::FcmaePlan {
            patch: #patch,
            mask: #mask,
            decoder_dim: #decoder_dim,
            decoder_depth: #decoder_depth,
            decoder_kernel: #decoder_kernel,
            normalised: #normalised,
        }
    }
}

fn decimal(fraction: &Fraction) -> TokenStream {
    let [digits, one] = [fraction.digits, fraction.one()].map(size);
    quote!(::convnext_core::plan::Decimal { digits: #digits, one: #one })
}
