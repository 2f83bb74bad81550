//! Routing keys as constants, so that nobody types one twice.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::names::ident;
use super::text::Items;
use crate::ir::Program;
use crate::names;

/// The constant of a routing key in the module `routes`.
pub(super) fn constant(key: &str) -> Ident {
    ident(&names::constant(key))
}

pub(super) fn items(program: &Program) -> Items {
    let mut items = Items::new();
    for route in &program.routes {
        let (key, constant) = (&route.key, constant(&route.key));
        let doc = format!(" {}.", route.meaning);
        items.push(quote!(#[doc = #doc] pub const #constant: &str = #key;));
    }
    items
}

/// The table of all of them.
pub(super) fn table(program: &Program) -> TokenStream {
    let rows = program.routes.iter().map(|route| {
        let (constant, meaning, is_published) = (constant(&route.key), &route.meaning, route.is_published);
        quote!(::crux_runtime::app::Route { key: routes::#constant, meaning: #meaning, is_published: #is_published })
    });
    quote!(static ROUTES: &[::crux_runtime::app::Route] = &[#(#rows),*];)
}
