//! The masked autoencoder: encoder, densify, decoder and prediction.

use super::visitor::{self, Field};
use super::{Emission, blocks, derives, error, generics, gradients, size, tensor};
use crate::check::{ModelFcmae, ModelStage};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

pub(super) fn items(emission: &Emission<'_>, fcmae: &ModelFcmae) -> TokenStream {
    let field = |name: &str| Field { ident: format_ident!("{name}"), path: name.into() };
    let fields = ["encoder", "densify", "decoder", "prediction"].map(field);
    let mut items = declaration(emission, fcmae);
    items.extend(visitor::impls(&emission.names.fcmae, &fields, &emission.shared));
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
                images: #images,
                visible: &::std::sync::Arc<::convnext_core::nn::Visibility>,
            ) -> ::core::result::Result<#decoded, #error>
            where
                B: ::convnext_core::dfdx::shapes::Dim,
                T: ::convnext_core::dfdx::tensor::Tape<::core::primitive::f32, ::convnext_core::dfdx::tensor::Cpu>,
            {
                let x = self.encoder.try_forward_visible(images, visible)?;
                let x = ::convnext_core::dfdx::nn::Module::try_forward(&self.densify, x)?;
                ::convnext_core::dfdx::nn::Module::try_forward(&self.decoder, x)
            }
        }
    }
}

/// What pre-training needs of an autoencoder.
fn autoencoder(emission: &Emission<'_>, fcmae: &ModelFcmae) -> TokenStream {
    let (shared, autoencoder, error) = (&emission.shared, &emission.names.fcmae, error());
    let images = emission.images(&quote!(::core::primitive::usize), &quote!(::convnext_core::dfdx::tensor::NoneTape));
    let gradients = gradients();
    let (stride, normalised) = (size(emission.plan.stride()), fcmae.normalised);
    let upload = quote! {
        let shape = (
            visible.samples(),
            ::convnext_core::dfdx::shapes::Const,
            ::convnext_core::dfdx::shapes::Const,
            ::convnext_core::dfdx::shapes::Const,
        );
        let images: #images = ::convnext_core::dfdx::tensor::TensorFromVec::try_tensor_from_vec(device, images, shape)?;
    };
    quote! {
        #(#shared)*
        impl ::convnext_core::nn::AutoencoderModule for #autoencoder {
            fn predictions(
                &self,
                device: &::convnext_core::dfdx::tensor::Cpu,
                images: ::std::vec::Vec<::core::primitive::f32>,
                visible: &::std::sync::Arc<::convnext_core::nn::Visibility>,
            ) -> ::core::result::Result<::std::vec::Vec<::core::primitive::f32>, #error> {
                #upload
                let features = self.try_decode(images, visible)?;
                ::core::result::Result::Ok(
                    ::convnext_core::nn::run::predictions(&self.prediction, &features, visible, #stride)
                )
            }

            fn step(
                &self,
                device: &::convnext_core::dfdx::tensor::Cpu,
                images: &[::core::primitive::f32],
                visible: &::std::sync::Arc<::convnext_core::nn::Visibility>,
                gradients: #gradients,
            ) -> ::core::result::Result<(::core::primitive::f32, #gradients), #error> {
                ::convnext_core::nn::run::autoencoder_step(
                    &self.prediction, device, images, visible, gradients, #stride, #normalised,
                    |images| self.try_decode(images, visible),
                )
            }
        }
    }
}
