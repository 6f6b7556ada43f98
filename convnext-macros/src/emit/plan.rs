//! The plan as a literal of `::convnext_core::plan::Plan`.

use super::{Emission, docs, size};
use crate::ast::Flavour;
use crate::plan::{FcmaePlan, StagePlan};
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
    let [parameters, multiply_adds] = [plan.cost.parameters(), plan.cost.multiply_adds()].map(size);
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
            parameters: #parameters,
            multiply_adds: #multiply_adds,
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

fn stage(stage: &StagePlan) -> TokenStream {
    let [dim, depth, kernel] = [stage.dim, stage.depth, stage.kernel].map(size);
    let [height, width] = [stage.height, stage.width].map(size);
    let drop_path = stage.drop_path.iter().copied().map(rate);
    let [parameters, multiply_adds] = [stage.cost.parameters(), stage.cost.multiply_adds()].map(size);
    quote! {
        ::convnext_core::plan::StagePlan {
            dim: #dim,
            depth: #depth,
            kernel: #kernel,
            height: #height,
            width: #width,
            drop_path: &[#(#drop_path),*],
            parameters: #parameters,
            multiply_adds: #multiply_adds,
        }
    }
}

fn fcmae(fcmae: &FcmaePlan) -> TokenStream {
    let [patch, patches_high, patches_wide] = [fcmae.patch, fcmae.patches_high, fcmae.patches_wide].map(size);
    let mask = rate(fcmae.mask);
    let [decoder_dim, decoder_depth] = [fcmae.decoder_dim, fcmae.decoder_depth].map(size);
    let [decoder_kernel, visible] = [fcmae.decoder_kernel, fcmae.visible].map(size);
    let normalised = fcmae.normalised;
    let [parameters, multiply_adds] = [fcmae.cost.parameters(), fcmae.cost.multiply_adds()].map(size);
    quote! {
        ::convnext_core::plan::FcmaePlan {
            patch: #patch,
            mask: #mask,
            patches_high: #patches_high,
            patches_wide: #patches_wide,
            visible: #visible,
            decoder_dim: #decoder_dim,
            decoder_depth: #decoder_depth,
            decoder_kernel: #decoder_kernel,
            normalised: #normalised,
            parameters: #parameters,
            multiply_adds: #multiply_adds,
        }
    }
}
