//! The derives of generated records and enums: how they are read from JSON and shown, and serde's
//! traits by way of that. A program has thousands of them, so that what is made for each is little,
//! and generic over nothing but for serde.

use proc_macro2::{Ident, TokenStream};
use quote::quote;
use syn::{Data, DeriveInput, Error, Expr, Fields, LitStr, Path, Result};

/// Of a struct with named fields. `#[json(name = "…", rules = Rules::…, default = function, secret)]`
/// on a field: what it is called in JSON, what is demanded of it, what stands for it where it is
/// absent, and that errors do not quote it.
pub(crate) fn record(item: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(item)?;
    let Data::Struct(data) = input.data else {
        return Err(Error::new_spanned(&input.ident, "a record is a struct"));
    };
    let Fields::Named(fields) = data.fields else {
        return Err(Error::new_spanned(&input.ident, "a record has named fields"));
    };
    let (mut names, mut idents, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for field in fields.named {
        let Some(ident) = field.ident else { continue };
        let options = JsonOptions::of(&ident, &field.attrs)?;
        // A static, because a pattern is compiled once.
        let rules = options.rules.map(|rules| {
            quote!({
                static RULES: ::crux_runtime::machine::Rules = #rules;
                &RULES
            })
        });
        let reader = match (rules, options.default) {
            (None, None) => quote!(#ident.read()),
            (None, Some(default)) => quote!(#ident.read_or(#default)),
            (Some(rules), None) => quote!(#ident.ruled(#rules)),
            (Some(rules), Some(default)) => quote!(#ident.ruled_or(#rules, #default)),
        };
        readers.push(if options.secret {
            quote!(#ident.hidden(#reader)?)
        } else {
            quote!(#reader?)
        });
        names.push(options.name);
        idents.push(ident);
    }
    let name = input.ident;
    Ok(quote! {
        impl ::crux_runtime::machine::Record for #name {
            fn of(json: &::crux_runtime::machine::RawValue) -> ::std::result::Result<Self, ::crux_runtime::machine::TypeError> {
                let [#(#idents),*] = ::crux_runtime::machine::fields(json, [#(#names),*])?;
                ::std::result::Result::Ok(Self { #(#idents: #readers),* })
            }

            fn each(&self, visit: &mut dyn ::std::ops::FnMut(&'static str, ::crux_runtime::machine::ValueRef<'_>)) {
                #(visit(#names, ::crux_runtime::machine::AsValueRef::as_value_ref(&self.#idents));)*
            }
        }
    })
}

/// Of an enum of words. `#[json(name = "…")]` on a variant: the word, if it is not called so.
pub(crate) fn words(item: TokenStream) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(item)?;
    let Data::Enum(data) = input.data else {
        return Err(Error::new_spanned(&input.ident, "not an enum"));
    };
    let (mut words, mut variants) = (Vec::new(), Vec::new());
    for variant in data.variants {
        words.push(JsonOptions::of(&variant.ident, &variant.attrs)?.name);
        variants.push(variant.ident);
    }
    let name = input.ident;
    Ok(quote! {
        impl #name {
            /// As it is called in YAML and JSON.
            pub const fn word(self) -> &'static str {
                match self {
                    #(Self::#variants => #words),*
                }
            }
        }

        impl ::std::fmt::Display for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl ::crux_runtime::machine::Value for #name {
            fn read(json: &::crux_runtime::machine::RawValue) -> ::std::result::Result<Self, ::crux_runtime::machine::TypeError> {
                const ALL: &[#name] = &[#(#name::#variants),*];
                ::crux_runtime::machine::word(json, &[#(#words),*]).map(|at| ALL[at])
            }
        }

        impl ::crux_runtime::machine::AsValueRef for #name {
            fn as_value_ref(&self) -> ::crux_runtime::machine::ValueRef<'_> {
                ::crux_runtime::machine::ValueRef::Text(self.word())
            }
        }
    })
}

/// Serde's traits of a record or an enum, by way of how it is read and shown.
pub(crate) fn serde(item: TokenStream) -> Result<TokenStream> {
    let name = syn::parse2::<DeriveInput>(item)?.ident;
    Ok(quote! {
        impl ::crux_runtime::serde::Serialize for #name {
            fn serialize<S: ::crux_runtime::serde::Serializer>(&self, to: S) -> ::std::result::Result<S::Ok, S::Error> {
                ::crux_runtime::serde::Serialize::serialize(&::crux_runtime::machine::AsValueRef::as_value_ref(self), to)
            }
        }

        impl<'de> ::crux_runtime::serde::Deserialize<'de> for #name {
            fn deserialize<D: ::crux_runtime::serde::Deserializer<'de>>(from: D) -> ::std::result::Result<Self, D::Error> {
                ::crux_runtime::machine::deserialize(from)
            }
        }
    })
}

/// What `#[json(…)]` says of a field or variant.
struct JsonOptions {
    name: String,
    rules: Option<Expr>,
    default: Option<Path>,
    secret: bool,
}

impl JsonOptions {
    fn of(ident: &Ident, attributes: &[syn::Attribute]) -> Result<Self> {
        let text = ident.to_string();
        let mut options = Self {
            name: text.trim_start_matches("r#").to_owned(),
            rules: None,
            default: None,
            secret: false,
        };
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("json")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    options.name = meta.value()?.parse::<LitStr>()?.value();
                } else if meta.path.is_ident("rules") {
                    options.rules = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("default") {
                    options.default = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("secret") {
                    options.secret = true;
                } else {
                    return Err(meta.error("expected `name`, `rules`, `default` or `secret`"));
                }
                Ok(())
            })?;
        }
        Ok(options)
    }
}
