//! `TensorCollection` and `BuildOnDevice`: how dfdx names, visits, builds and converts an emitted struct.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::Attribute;

/// A field and the name under which its tensors are saved.
pub(super) struct Field {
    pub(super) ident: Ident,
    pub(super) path: String,
}

/// The two implementations for a struct with these fields.
pub(super) fn impls(name: &Ident, fields: &[Field], shared: &[&Attribute]) -> TokenStream {
    let idents: Vec<_> = fields.iter().map(|field| &field.ident).collect();
    let build = quote!(#name { #(#idents),* });
    implement(name, &visits(fields), &nested(idents.iter().map(|ident| quote!(#ident)).collect()), &build, shared)
}

/// The same with the list of fields, its pattern and the value built from it spelled out.
pub(super) fn implement(
    name: &Ident,
    fields: &TokenStream,
    pattern: &TokenStream,
    build: &TokenStream,
    shared: &[&Attribute],
) -> TokenStream {
    quote! {
        #(#shared)*
        impl<E, D> ::convnext_core::dfdx::nn::TensorCollection<E, D> for #name<E, D>
        where
            E: ::convnext_core::dfdx::shapes::Dtype,
            D: ::convnext_core::dfdx::tensor_ops::Device<E>,
        {
            type To<
                ToE: ::convnext_core::dfdx::shapes::Dtype,
                ToD: ::convnext_core::dfdx::tensor_ops::Device<ToE>
            > = #name<ToE, ToD>;

            fn iter_tensors<V: ::convnext_core::dfdx::nn::ModuleVisitor<Self, E, D>>(
                visitor: &mut V,
            ) -> ::core::result::Result<::core::option::Option<Self::To<V::E2, V::D2>>, V::Err> {
                visitor.visit_fields(#fields, |#pattern| #build)
            }
        }

        #(#shared)*
        impl<E0, D0, E, D> ::convnext_core::dfdx::nn::BuildOnDevice<D, E> for #name<E0, D0>
        where
            E0: ::convnext_core::dfdx::shapes::Dtype,
            D0: ::convnext_core::dfdx::tensor_ops::Device<E0>,
            E: ::convnext_core::dfdx::shapes::Dtype,
            D: ::convnext_core::dfdx::tensor_ops::Device<E>,
        {
            type Built = #name<E, D>;
        }
    }
}

/// `Parts` for a struct whose fields with these names are its parts.
pub(super) fn parts<'a>(
    name: &Ident,
    fields: impl Iterator<Item = &'a Ident> + Clone,
    shared: &[&Attribute],
) -> TokenStream {
    let again = fields.clone();
    quote! {
        #(#shared)*
        impl ::convnext_core::nn::Parts for #name {
            #[allow(unused_mut)]
            fn parts(&self) -> ::std::vec::Vec<&dyn ::convnext_core::nn::Part> {
                let mut parts = ::std::vec::Vec::new();
                #(parts.extend(::convnext_core::nn::Parts::parts(&self.#fields));)*
                parts
            }

            #[allow(unused_mut)]
            fn parts_mut(&mut self) -> ::std::vec::Vec<&mut dyn ::convnext_core::nn::Part> {
                let mut parts = ::std::vec::Vec::new();
                #(parts.extend(::convnext_core::nn::Parts::parts_mut(&mut self.#again));)*
                parts
            }
        }
    }
}

fn visits(fields: &[Field]) -> TokenStream {
    let visit = |Field { ident, path }: &Field| quote!(Self::module(#path, |s| &s.#ident, |s| &mut s.#ident));
    nested(fields.iter().map(visit).collect())
}

/// `(first, (second, (third, ())))`: dfdx visits tuples, but only short ones.
fn nested(items: Vec<TokenStream>) -> TokenStream {
    items.into_iter().rev().fold(quote!(()), |rest, item| quote!((#item, #rest)))
}
