//! The derive of generated records: serde's, but for what JSON they are read from.

use proc_macro2::TokenStream;
use quote::quote;
use syn::DeriveInput;

/// For a struct with `#[serde(remote = "Self")]`, whose derives give functions instead of implementations.
pub(crate) fn object(item: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(item) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let name = &input.ident;
    quote! {
        impl ::crux_runtime::serde::Serialize for #name {
            fn serialize<S: ::crux_runtime::serde::Serializer>(&self, to: S) -> ::std::result::Result<S::Ok, S::Error> {
                #name::serialize(self, to)
            }
        }

        impl<'de> ::crux_runtime::serde::Deserialize<'de> for #name {
            fn deserialize<D: ::crux_runtime::serde::Deserializer<'de>>(from: D) -> ::std::result::Result<Self, D::Error> {
                #name::deserialize(::crux_runtime::machine::OnlyObject(from))
            }
        }
    }
}
