//! Stand-ins for a model that could not be compiled: the same names, so that code which uses them stays quiet.

use super::{derives, error, generics, shared, tensor, visitor};
use crate::ast::{Declaration, Pretraining, Setting, Settings, Spec};
use crate::hygiene;
use crate::names::Names;
use proc_macro2::{Ident, TokenStream};
use quote::quote;

pub(crate) fn stub(model: &Declaration, spec: &Spec) -> TokenStream {
    let names = Names::new(&model.name);
    let family = spec.family_of(model).map(|family| &family.settings);
    let mut items: TokenStream =
        [&names.code, &names.encoder].map(|name| empty_module(name, model)).into_iter().collect();
    items.extend(variant(&names, model));
    items.extend(classifier(&names, model, classes(&model.settings, family)));
    if has_fcmae(&model.settings, family) {
        items.extend(empty_module(&names.fcmae, model));
        items.extend(autoencoder(&names, model));
    }
    hygiene::named(&model.name, items)
}

/// The declared number of classes, so that what is done with the logits still fits.
fn classes(own: &Settings, family: Option<&Settings>) -> u64 {
    let inherited = family.and_then(|family| family.head.given());
    own.head.given().or(inherited).map_or(1, |head| head.value)
}

fn has_fcmae(own: &Settings, family: Option<&Settings>) -> bool {
    let declares =
        |setting: &Setting<Pretraining>| matches!(setting, Setting::Given(Pretraining::On(_)) | Setting::Wrong);
    match &own.fcmae {
        Setting::Absent => family.is_some_and(|family| declares(&family.fcmae)),
        own => declares(own),
    }
}

/// A struct without tensors that dfdx can build.
fn empty_module(name: &Ident, model: &Declaration) -> TokenStream {
    let (shared, visibility) = (shared(model), &model.visibility);
    let (derives, generics) = (derives(), generics());
    let build = quote!(#name { marker: ::core::marker::PhantomData });
    let visitor = visitor::implement(name, &quote!(()), &quote!(()), &build, &shared);
    let parts = visitor::parts(name, std::iter::empty(), &shared);
    quote! {
        #(#shared)*
        /// Not compiled: its declaration has a mistake.
        #derives
        #visibility struct #name #generics { marker: ::core::marker::PhantomData<(E, D)> }

        #visitor

        #parts
    }
}

fn variant(names: &Names, model: &Declaration) -> TokenStream {
    let (shared, model) = (shared(model), &names.code);
    let name = names.command_line();
    quote! {
        #(#shared)*
        impl ::convnext_core::Variant for #model {
            const PLAN: ::convnext_core::plan::Plan = ::convnext_core::plan::Plan::blank(#name);

            fn entry() -> ::convnext_core::Entry {
                ::core::unreachable!()
            }
        }
    }
}

/// Takes images of any size.
fn classifier(names: &Names, declaration: &Declaration, classes: u64) -> TokenStream {
    let (shared, model, error) = (shared(declaration), &names.code, error());
    let logits = tensor(&quote!(B), &[classes], &quote!(T));
    let cpu = quote!(::convnext_core::dfdx::tensor::Cpu);
    let images = quote!(::convnext_core::dfdx::tensor::Tensor<(B, H, W, C), ::core::primitive::f32, #cpu, T>);
    let bounds = quote! {
        B: ::convnext_core::dfdx::shapes::Dim,
        H: ::convnext_core::dfdx::shapes::Dim,
        W: ::convnext_core::dfdx::shapes::Dim,
        C: ::convnext_core::dfdx::shapes::Dim,
        T: ::convnext_core::dfdx::tensor::Tape<::core::primitive::f32, #cpu>,
    };
    quote! {
        #(#shared)*
        impl<B, H, W, C, T> ::convnext_core::dfdx::nn::Module<#images> for #model where #bounds {
            type Output = #logits;
            type Error = #error;

            fn try_forward(&self, _: #images) -> ::core::result::Result<Self::Output, Self::Error> {
                ::core::unreachable!()
            }
        }

        #(#shared)*
        impl<B, H, W, C, T> ::convnext_core::dfdx::nn::ModuleMut<#images> for #model where #bounds {
            type Output = #logits;
            type Error = #error;

            fn try_forward_mut(&mut self, _: #images) -> ::core::result::Result<Self::Output, Self::Error> {
                ::core::unreachable!()
            }
        }

        #(#shared)*
        impl ::convnext_core::nn::ClassifierModule for #model {}
    }
}

fn autoencoder(names: &Names, declaration: &Declaration) -> TokenStream {
    let (shared, fcmae) = (shared(declaration), &names.fcmae);
    quote! {
        #(#shared)*
        impl ::convnext_core::nn::AutoencoderModule for #fcmae {
            fn pixels(&self) -> ::convnext_core::nn::Pixels {
                ::core::unreachable!()
            }

            fn set_precision(&mut self, _: ::convnext_core::simd::Precision) {
                ::core::unreachable!()
            }
        }
    }
}
