//! Pieces that several verbs are written with: what a step is made of, tuples, closures, and which
//! variables tokens read.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{format_ident, quote};

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
    pub(super) arm: TokenStream,
    pub(super) place: Option<String>,
}

/// What a verb is made of.
pub(super) struct Made {
    /// The body of `enter_<step>`, after its `when`.
    pub(super) enter: TokenStream,
    /// The part that holds the step while it is open, and how an event is offered to it; `None`: it
    /// is never open.
    pub(super) open: Option<Part>,
    /// Functions and constants of the step's own.
    pub(super) items: TokenStream,
}

pub(super) struct Part {
    pub(super) ty: TokenStream,
    pub(super) arm: TokenStream,
}

impl Made {
    /// Of a verb that is another's; no step has it.
    pub(super) fn nothing() -> Self {
        Self { enter: TokenStream::new(), open: None, items: TokenStream::new() }
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

/// `name` if the tokens read a variable of that name, else `_`.
pub(super) fn used(tokens: &TokenStream, name: &Ident) -> TokenStream {
    if mentions(tokens, &name.to_string()) { quote!(#name) } else { quote!(_) }
}

pub(super) fn used_fx(tokens: &TokenStream) -> TokenStream {
    used(tokens, &format_ident!("fx"))
}

/// A closure that names the parameters it uses; the function itself, where the closure would do
/// nothing but call it.
pub(super) fn closure(parameters: &[&str], body: &TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = body.clone().into_iter().collect();
    if let [TokenTree::Ident(function), TokenTree::Group(arguments)] = &tokens[..]
        && arguments.stream().to_string().replace(' ', "") == parameters.join(",")
    {
        return quote!(#function);
    }
    let parameters = parameters.iter().map(|name| used(body, &format_ident!("{name}")));
    quote!(|#(#parameters),*| #body)
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

/// `name`, or `_` where the body does not read it.
pub(super) fn param(name: &str, body: &TokenStream) -> TokenStream {
    if mentions(body, name) {
        let name = ident(name);
        quote!(#name)
    } else {
        quote!(_)
    }
}

/// A body, after what its expressions read of `fx`.
pub(super) fn with_surroundings(body: TokenStream) -> TokenStream {
    let env = mentions(&body, "env").then(|| quote!(let env = fx.env();));
    let now = mentions(&body, "now").then(|| quote!(let now = fx.now();));
    quote!(#env #now #body)
}

/// Whether tokens read a variable of that name: not as a field (`x.at`), nor as the name of one
/// (`at: x`), nor in a path.
pub(super) fn mentions(tokens: &TokenStream, name: &str) -> bool {
    let trees: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let is = |tree: Option<&TokenTree>, wanted: char| matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted);
    trees.iter().enumerate().any(|(at, tree)| match tree {
        TokenTree::Group(group) => mentions(&group.stream(), name),
        TokenTree::Ident(ident) if *ident == name => {
            let before =
                |distance: usize| at.checked_sub(distance).and_then(|before| trees.get(before));
            // `0..at` is no field, and `x: at` is no path.
            let is_field = is(before(1), '.') && !is(before(2), '.');
            let is_path = is(before(1), ':') && is(before(2), ':');
            let is_name = is(trees.get(at + 1), ':') && !is(trees.get(at + 2), ':');
            !is_field && !is_path && !is_name
        }
        _ => false,
    })
}

pub(super) fn has_question(tokens: &TokenStream) -> bool {
    tokens.clone().into_iter().any(|tree| match tree {
        TokenTree::Group(group) => has_question(&group.stream()),
        TokenTree::Punct(punct) => punct.as_char() == '?',
        _ => false,
    })
}
