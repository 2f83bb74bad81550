//! Pieces that several verbs are written with: what a step is made of, tuples and closures.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens as _, quote};

use super::body::{Body, Reads};
use super::expr::time;
use super::names::ident;

/// Everything that is generated for a step, but for its scope's enum and `apply`.
pub(super) struct Written {
    pub(super) items: TokenStream,
    /// The variants that hold it and its catches while they are open, with the types of their
    /// parts.
    pub(super) variants: Vec<Variant>,
}

pub(super) struct Variant {
    pub(super) name: Ident,
    /// The struct of the live values beside the part, if there are any.
    pub(super) at: Option<String>,
    pub(super) part: TokenStream,
    /// `part.apply(…).then(…)`.
    pub(super) arm: Body,
    pub(super) place: Option<String>,
}

/// What a verb is made of.
pub(super) struct VerbCode {
    /// The body of `enter_<step>`, after its `when`.
    pub(super) enter: Body,
    /// The part that holds the step while it is open, and how an event is offered to it; `None`: it
    /// is never open.
    pub(super) open: Option<Part>,
    /// Functions and constants of the step's own.
    pub(super) items: TokenStream,
}

pub(super) struct Part {
    pub(super) ty: TokenStream,
    pub(super) arm: Body,
}

impl VerbCode {
    /// Of a verb that is another's; no step has it.
    pub(super) fn nothing() -> Self {
        Self { enter: Body::default(), open: None, items: TokenStream::new() }
    }
}

/// Nothing, one, or a tuple.
pub(super) fn tuple(parts: Vec<TokenStream>) -> TokenStream {
    match parts.as_slice() {
        [one] => quote!(#one),
        all => quote!((#(#all),*)),
    }
}

pub(super) fn tuple_or_any(parts: Vec<TokenStream>) -> TokenStream {
    if parts.is_empty() { quote!(_) } else { tuple(parts) }
}

/// A closure that names the parameters it reads; the function itself, where the closure would do
/// nothing but call it. What it is given first, `inside`, it always reads.
pub(super) fn closure(first: Option<&str>, body: &Body) -> Body {
    let first = first.map(ident);
    let all = first.iter().map(|name| quote!(#name,)).chain([quote!(fx)]).collect::<TokenStream>();
    let tokens: Vec<TokenTree> = body.to_token_stream().into_iter().collect();
    if let [TokenTree::Ident(function), TokenTree::Group(arguments)] = &tokens[..]
        && arguments.stream().to_string() == all.to_string()
    {
        return Body::constant(quote!(#function));
    }
    let (first, fx) = (first.iter(), body.param(Reads::FX));
    Body::new(quote!(|#(#first,)* #fx| #body), body.reads.without(Reads::FX))
}

pub(super) fn time_option(ms: Option<u64>) -> TokenStream {
    match ms {
        Some(ms) => {
            let ms = time(ms);
            quote!(Some(#ms))
        }
        None => quote!(None),
    }
}
