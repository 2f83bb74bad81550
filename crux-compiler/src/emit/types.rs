//! Declared types as Rust types: records as structs, enums as enums, other names as aliases. Fields get Rust's names and keep the
//! names of the YAML in JSON.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::expr::Writer;
use super::names::{bare, ident, type_name, variable};
use super::paths::Module;
use crate::ir::{Enum, Field, Place, Record, Shape, TypeDef};
use crate::names;

/// The items of one declared type.
pub(super) fn item(def: &TypeDef, module: Module<'_>) -> TokenStream {
    let doc = doc(def.description.as_deref(), &def.place);
    match &def.shape {
        Shape::Record(record) => self::record(record, &doc, module),
        Shape::Enum(of) => self::words(of, &doc),
        Shape::Alias(ty) => {
            let (name, ty) = (ident(&type_name(&def.name.name)), module.ty(ty));
            quote!(#doc pub type #name = #ty;)
        }
    }
}

/// A description and the place in YAML, as a doc comment.
pub(super) fn doc(description: Option<&str>, place: &Place) -> TokenStream {
    let mut lines: Vec<String> = description.into_iter().flat_map(str::lines).map(|line| format!(" {line}")).collect();
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.push(format!(" `{}`", self::place(place)));
    quote!(#(#[doc = #lines])*)
}

/// `pipelines/booking.yaml:24`.
pub(super) fn place(place: &Place) -> String {
    format!("{}:{}", place.file, place.line)
}

pub(super) fn record(record: &Record, doc: &TokenStream, module: Module<'_>) -> TokenStream {
    let name = ident(&type_name(&record.name.name));
    let mut fields = Vec::with_capacity(record.fields.len());
    let mut helpers = Vec::new();
    for field in &record.fields {
        let rust = variable(&field.name);
        let ty = module.ty(&field.ty);
        let text = field.description.iter().flat_map(|text| text.lines()).map(|line| format!(" {line}"));
        let text: Vec<String> = text.collect();
        let mut attributes = Vec::new();
        if bare(&rust.to_string()) != field.name {
            let yaml = &field.name;
            attributes.push(quote!(rename = #yaml));
        }
        if field.default.is_some() || has_rules(field) {
            let reader = format!("{}_{}", names::module(bare(&names::module(&record.name.name))), bare(&rust.to_string()));
            helpers.push(self::reader(&ident(&reader), field, module));
            attributes.push(quote!(deserialize_with = #reader));
            if field.default.is_some() {
                let default = format!("{reader}_default");
                attributes.push(quote!(default = #default));
            } else if field.ty.is_optional() {
                attributes.push(quote!(default));
            }
        }
        if field.ty.is_optional() {
            attributes.push(quote!(skip_serializing_if = "Option::is_none"));
        }
        let serde = (!attributes.is_empty()).then(|| quote!(#[serde(#(#attributes),*)]));
        fields.push(quote!(#(#[doc = #text])* #serde pub #rust: #ty));
    }
    let (debug, derived) =
        if record.fields.iter().any(|field| field.secret) { (Some(masked(record, &name)), None) } else { (None, Some(quote!(Debug,))) };
    quote! {
        #doc
        #[derive(#derived Clone, PartialEq, Serialize, Deserialize, machine::Object)]
        #[serde(crate = "::crux_runtime::serde", remote = "Self", expecting = "an object")]
        pub struct #name {
            #(#fields),*
        }

        #debug

        #(#helpers)*
    }
}

fn has_rules(field: &Field) -> bool {
    field.min.is_some() || field.max.is_some() || field.pattern.is_some()
}

/// Reads a field that has a default or rules.
fn reader(name: &Ident, field: &Field, module: Module<'_>) -> TokenStream {
    let ty = module.ty(&field.ty);
    let bound = |name: &str, value: Option<f64>| {
        value.map(super::expr::number).map(|value| {
            let name = ident(name);
            quote!(.#name(#value))
        })
    };
    let (min, max) = (bound("min", field.min), bound("max", field.max));
    let rules = match &field.pattern {
        Some(pattern) => quote!(Rules::pattern(#pattern)),
        None => quote!(Rules::NONE),
    };
    let rules = quote!(static RULES: Rules = #rules #min #max;);
    let Some(default) = &field.default else {
        return quote! {
            fn #name<'de, D: Deserializer<'de>>(from: D) -> Result<#ty, D::Error> {
                #rules
                RULES.read(from)
            }
        };
    };
    let find = |_: &crate::ir::Value| None;
    let mut writer = Writer::new(module, &find);
    let value = writer.owned(default);
    let default_name = ident(&format!("{name}_default"));
    let read =
        if has_rules(field) { quote!(#rules RULES.read_or(from, #default_name)) } else { quote!(machine::or_default(from, #default_name)) };
    quote! {
        fn #default_name() -> #ty {
            #value
        }

        fn #name<'de, D: Deserializer<'de>>(from: D) -> Result<#ty, D::Error> {
            #read
        }
    }
}

/// `Debug` without what is secret.
fn masked(record: &Record, name: &Ident) -> TokenStream {
    let text = name.to_string();
    let fields = record.fields.iter().map(|field| {
        let rust = variable(&field.name);
        let shown = bare(&rust.to_string()).to_owned();
        if field.secret { quote!(.field(#shown, &"…")) } else { quote!(.field(#shown, &self.#rust)) }
    });
    quote! {
        impl ::std::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(#text)#(#fields)*.finish()
            }
        }
    }
}

fn words(of: &Enum, doc: &TokenStream) -> TokenStream {
    let name = ident(&type_name(&of.name.name));
    let mut variants = Vec::with_capacity(of.words.len());
    let mut arms = Vec::with_capacity(of.words.len());
    for word in &of.words {
        let rust = ident(&type_name(word));
        let rename = (rust != word.as_str()).then(|| quote!(#[serde(rename = #word)]));
        variants.push(quote!(#rename #rust));
        arms.push(quote!(#name::#rust => #word));
    }
    quote! {
        #doc
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(crate = "::crux_runtime::serde")]
        pub enum #name {
            #(#variants),*
        }

        impl ::std::fmt::Display for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(match self { #(#arms),* })
            }
        }
    }
}
