//! The masked autoencoder: encoder, densify, decoder and prediction.

use super::visitor::{self, Field};
use super::{Emission, blocks, derives, error, generics, pass, size, tensor};
use crate::check::{ModelFcmae, ModelStage};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

pub(super) fn items(emission: &Emission<'_>, fcmae: &ModelFcmae) -> TokenStream {
    let field = |name: &str| Field { ident: format_ident!("{name}"), path: name.into() };
    let fields = ["encoder", "densify", "decoder", "prediction"].map(field);
    let mut items = declaration(emission, fcmae);
    items.extend(visitor::impls(&emission.names.fcmae, &fields, &emission.shared));
    let parts = fields[..3].iter().map(|field| &field.ident);
    items.extend(visitor::parts(&emission.names.fcmae, parts, &emission.shared));
    items.extend(decode(emission, fcmae));
    items.extend(autoencoder(emission, fcmae));
    items
}

fn declaration(emission: &Emission<'_>, fcmae: &ModelFcmae) -> TokenStream {
    let Emission { names, visibility, shared, .. } = emission;
    let (autoencoder, encoder) = (&names.fcmae, &names.encoder);
    let (derives, generics) = (derives(), generics());
    let docs = summary(emission, fcmae);
    let [densify, decoder, prediction] = modules(emission, fcmae);
    quote! {
        #(#shared)*
        #[doc = #docs]
        #derives
        #visibility struct #autoencoder #generics {
            /// Stem and stages, run on visible patches only.
            #visibility encoder: #encoder<E, D>,
            /// Projection to the decoder's channels, and the mask token for removed cells.
            #visibility densify: #densify,
            /// Blocks on the full grid.
            #visibility decoder: #decoder,
            /// From each cell's features to its pixels.
            #visibility prediction: #prediction,
        }
    }
}

fn summary(emission: &Emission<'_>, fcmae: &ModelFcmae) -> String {
    let ModelFcmae { patch, patches_high, patches_wide, visible, .. } = fcmae;
    format!(
        "The masked autoencoder of [`{}`]: {visible} of {patches_high} x {patches_wide} patches of {patch} x {patch} pixels are visible.",
        emission.names.model
    )
}

/// Pixel values under one cell of the last grid.
fn values(emission: &Emission<'_>) -> u64 {
    emission.plan.stride().pow(2) * emission.plan.channels
}

/// Types of densify, decoder and prediction.
fn modules(emission: &Emission<'_>, fcmae: &ModelFcmae) -> [TokenStream; 3] {
    let plan = emission.plan;
    let ModelStage { height, width, dim, .. } = *plan.last();
    let ModelFcmae { decoder_dim, decoder_depth, decoder_kernel, visible, .. } = *fcmae;
    let side = fcmae.patch / plan.stride();
    let densify = [height, width, visible, side, dim, decoder_dim].into_iter().map(size);
    let prediction = [height, width, decoder_dim, values(emission)].into_iter().map(size);
    [
        quote!(::convnext_core::nn::Densify<#(#densify,)* E, D>),
        blocks(plan.flavour, height, width, decoder_dim, decoder_kernel, decoder_depth),
        quote!(::convnext_core::nn::Prediction<#(#prediction,)* E, D>),
    ]
}

/// The forward pass up to the decoder's features.
fn decode(emission: &Emission<'_>, fcmae: &ModelFcmae) -> TokenStream {
    let Emission { names, visibility, shared, plan, .. } = emission;
    let (autoencoder, error) = (&names.fcmae, error());
    let images = emission.images(&quote!(B), &quote!(T));
    let ModelStage { height, width, .. } = *plan.last();
    let decoded = tensor(&quote!(B), &[height, width, fcmae.decoder_dim], &quote!(T));
    let pass = pass(3, &quote!(::core::option::Option::Some(visible)), false);
    let docs = format!(
        "Features of the decoder, `[B, {height}, {width}, {}]`, visible and removed cells alike.",
        fcmae.decoder_dim
    );
    quote! {
        #(#shared)*
        impl #autoencoder {
            #[doc = #docs]
            #visibility fn try_decode<B, T>(
                &self,
                x: #images,
                visible: &::std::sync::Arc<::convnext_core::nn::Visibility>,
            ) -> ::core::result::Result<#decoded, #error>
            where
                B: ::convnext_core::dfdx::shapes::Dim,
                T: ::convnext_core::dfdx::tensor::Tape<::core::primitive::f32, ::convnext_core::dfdx::tensor::Cpu>,
            {
                #pass
            }
        }
    }
}

/// What pre-training needs of an autoencoder.
fn autoencoder(emission: &Emission<'_>, fcmae: &ModelFcmae) -> TokenStream {
    let (shared, autoencoder) = (&emission.shared, &emission.names.fcmae);
    let (stride, normalised) = (size(emission.plan.stride()), fcmae.normalised);
    quote! {
        #(#shared)*
        impl ::convnext_core::nn::AutoencoderModule for #autoencoder {
            fn pixels(&self) -> ::convnext_core::nn::Pixels {
                self.prediction.pixels(#stride, #normalised)
            }

            fn set_precision(&mut self, precision: ::convnext_core::simd::Precision) {
                self.prediction.precision = precision;
                for part in ::convnext_core::nn::Parts::parts_mut(self) {
                    part.set_precision(precision);
                }
            }
        }
    }
}
