//! Declared types as Rust types: records as structs, enums as enums, other names as aliases. Fields
//! get Rust's names and keep the names of the YAML in JSON.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::expr::{Writer, int};
use super::names::{bare, declared_type, ident, variable, variant};
use super::paths::Module;
use crate::bound::Bound;
use crate::ir::{Enum, Field, Place, Record, Shape, Type, TypeDef};
use crate::names;

/// Whose code handles values of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenBy {
    /// Generated code alone: input and result of a service's step.
    Machines,
    /// Step structs, hooks and tests too, which may want to hand them to others by serde's traits.
    /// Those are an eighth of what a type takes to build.
    People,
}

impl SeenBy {
    fn derive(self) -> Option<TokenStream> {
        (self == Self::People).then(|| quote!(, machine::Serde))
    }
}

/// The items of one declared type.
pub(super) fn item(def: &TypeDef, module: Module<'_>, seen_by: SeenBy) -> TokenStream {
    let doc = doc(def.description.as_deref(), &def.place);
    match &def.shape {
        Shape::Record(record) => self::record(record, &doc, module, seen_by),
        Shape::Enum(of) => self::words(of, &doc, seen_by),
        Shape::Alias(ty) => {
            let (name, ty) = (ident(&declared_type(&def.name.name)), module.ty(ty));
            quote!(#doc pub type #name = #ty;)
        }
    }
}

/// A description and the place in YAML, as a doc comment.
pub(super) fn doc(description: Option<&str>, place: &Place) -> TokenStream {
    let mut lines: Vec<String> =
        description.into_iter().flat_map(str::lines).map(|line| format!(" {line}")).collect();
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

fn record(record: &Record, doc: &TokenStream, module: Module<'_>, seen_by: SeenBy) -> TokenStream {
    let serde = seen_by.derive();
    let name = ident(&declared_type(&record.name.name));
    let mut fields = Vec::with_capacity(record.fields.len());
    let mut helpers = Vec::new();
    for field in &record.fields {
        let rust = variable(&field.name);
        let ty = module.ty(&field.ty);
        let text =
            field.description.iter().flat_map(|text| text.lines()).map(|line| format!(" {line}"));
        let text: Vec<String> = text.collect();
        let mut attributes = Vec::new();
        let own = bare(&rust.to_string()).to_owned();
        if own != field.name {
            let yaml = &field.name;
            attributes.push(quote!(name = #yaml));
        }
        // What stands between the two names keeps `line_total` of `Order` apart from `total` of
        // `OrderLine`.
        let helper =
            |what: &str| format!("{}_{what}_of_{own}", bare(&names::module(&record.name.name)));
        if has_rules(field) {
            let rules = rules(field);
            attributes.push(quote!(rules = #rules));
        }
        if let Some(value) = &field.default {
            let name = ident(&helper("default"));
            helpers.push(default(&name, value, &ty, module));
            attributes.push(quote!(default = #name));
        }
        if field.secret {
            attributes.push(quote!(secret));
        }
        let json = (!attributes.is_empty()).then(|| quote!(#[json(#(#attributes),*)]));
        fields.push(quote!(#(#[doc = #text])* #json pub #rust: #ty));
    }
    let (debug, derived) = if record.fields.iter().any(|field| field.secret) {
        (Some(masked(record, &name)), None)
    } else {
        (None, Some(quote!(Debug,)))
    };
    quote! {
        #doc
        #[derive(#derived Clone, PartialEq, machine::Record #serde)]
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

/// What is demanded of a field's value.
fn rules(field: &Field) -> TokenStream {
    let ty = field.ty.present();
    let bound = |name: &str, value: Option<Bound>| {
        let value = value?;
        let number = value.number();
        let whole = (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64);
        let (name, bound) = match (ty, value.beyond_doubles(), whole) {
            (Type::Integer, Some(exact), _) => (format!("whole_{name}"), int(exact)),
            (Type::Integer, None, Some(whole)) => (format!("{name}_integer"), int(whole)),
            (Type::String | Type::List(_), _, Some(whole)) => (format!("{name}_len"), int(whole)),
            _ => (name.to_owned(), super::expr::number(number)),
        };
        let name = ident(&name);
        Some(quote!(.#name(#bound)))
    };
    let (min, max) = (bound("min", field.min), bound("max", field.max));
    let rules = match &field.pattern {
        Some(pattern) => quote!(Rules::pattern(#pattern)),
        None => quote!(Rules::NONE),
    };
    quote!(#rules #min #max)
}

/// What stands for a field that is absent.
fn default(
    name: &Ident,
    value: &crate::ir::Expr,
    ty: &TokenStream,
    module: Module<'_>,
) -> TokenStream {
    let find = |_: &crate::ir::Value| None;
    let value = Writer::new(module, &find).owned(value);
    quote! {
        fn #name() -> #ty {
            #value
        }
    }
}

/// `Debug` without what is secret.
fn masked(record: &Record, name: &Ident) -> TokenStream {
    let text = name.to_string();
    let fields = record.fields.iter().map(|field| {
        let rust = variable(&field.name);
        let shown = bare(&rust.to_string()).to_owned();
        if field.secret {
            quote!(.field(#shown, &"…"))
        } else {
            quote!(.field(#shown, &self.#rust))
        }
    });
    quote! {
        impl ::std::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(#text)#(#fields)*.finish()
            }
        }
    }
}

fn words(of: &Enum, doc: &TokenStream, seen_by: SeenBy) -> TokenStream {
    let serde = seen_by.derive();
    let name = ident(&declared_type(&of.name.name));
    let variants = of.words.iter().map(|word| {
        let rust = variant(word);
        let json = (rust != word.as_str()).then(|| quote!(#[json(name = #word)]));
        quote!(#json #rust)
    });
    quote! {
        #doc
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, machine::Enum #serde)]
        pub enum #name {
            #(#variants),*
        }
    }
}
