//! `#[workflow(…)]`: the `impl Contract` that ties a struct to its step type, and nothing else.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Expr, Item, Path, Token, ext::IdentExt};

/// What stands in the parentheses.
#[derive(Default)]
struct Arguments {
    step: Option<Ident>,
    blocking: bool,
    routing_key: Option<Expr>,
    pipelines: Option<Path>,
}

const KNOWN: &str = "known are `step = NAME`, `blocking`, `routing_key = \"…\"` and `crate = path`";

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            let twice = |there: bool| {
                if there {
                    Err(syn::Error::new(name.span(), format!("`{name}` stands here twice")))
                } else {
                    Ok(())
                }
            };
            match name.to_string().as_str() {
                "step" => {
                    twice(arguments.step.is_some())?;
                    arguments.step = Some(value(
                        input,
                        &name,
                        "the name of a step type, without quotes",
                        Ident::parse_any,
                    )?);
                }
                "blocking" => {
                    twice(arguments.blocking)?;
                    arguments.blocking = true;
                }
                "routing_key" => {
                    twice(arguments.routing_key.is_some())?;
                    arguments.routing_key = Some(value(
                        input,
                        &name,
                        "a text or a constant of `pipelines::routes`",
                        Expr::parse,
                    )?);
                }
                "crate" => {
                    twice(arguments.pipelines.is_some())?;
                    arguments.pipelines = Some(value(
                        input,
                        &name,
                        "the path of the generated module",
                        Path::parse_mod_style,
                    )?);
                }
                other => {
                    return Err(syn::Error::new(
                        name.span(),
                        format!("there is no argument `{other}`: {KNOWN}"),
                    ));
                }
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

/// What follows `name =`.
fn value<T>(
    input: ParseStream<'_>,
    name: &Ident,
    what: &str,
    parse: fn(ParseStream<'_>) -> syn::Result<T>,
) -> syn::Result<T> {
    let expected = |at: proc_macro2::Span| syn::Error::new(at, format!("`{name}` needs {what}"));
    input.parse::<Token![=]>().map_err(|error| expected(error.span()))?;
    parse(input).map_err(|error| expected(error.span()))
}

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match try_expand(arguments, &item) {
        Ok(contract) => quote!(#item #contract),
        // The struct stays, so that one mistake is one error.
        Err(error) => {
            let error = error.to_compile_error();
            quote!(#item #error)
        }
    }
}

fn try_expand(arguments: TokenStream, item: &TokenStream) -> syn::Result<TokenStream> {
    let (name, generics) = match syn::parse2::<Item>(item.clone())? {
        Item::Struct(item) => (item.ident, item.generics),
        Item::Enum(item) => (item.ident, item.generics),
        other => {
            return Err(syn::Error::new(
                other.span(),
                "`#[workflow]` stands on the struct of a step",
            ));
        }
    };
    let Arguments { step, blocking, routing_key, pipelines } = syn::parse2(arguments)?;
    let Some(step) = step else {
        return Err(syn::Error::new(
            proc_macro2::Span::call_site(),
            "`step` is missing: write `#[workflow(step = NAME)]`, NAME being the `type` of its step in pipelines/*.yaml",
        ));
    };
    let pipelines = pipelines.map_or_else(|| quote!(crate::pipelines), |path| quote!(#path));
    // The span of the name, so that "could not find" points at what the user has written.
    let marker = quote_spanned!(step.span()=> #pipelines::steps::#step::Type);
    let check = routing_key.map(|key| {
        let assertion = quote_spanned! {key.span()=>
            assert!(
                <#marker as ::crux_runtime::machine::StepType>::CONTRACT.has_routing_key(KEY),
                "the routing key is not that of the step's contract in pipelines/*.yaml"
            );
        };
        quote! {
            const _: () = {
                #[allow(unused_imports, reason = "a text needs none of the constants")]
                use #pipelines::routes;
                const KEY: &str = #key;
                #assertion
            };
        }
    });
    let blocking = blocking.then(|| {
        quote!(
            const BLOCKING: bool = true;
        )
    });
    let (implement, types, bounds) = generics.split_for_impl();
    Ok(quote! {
        impl #implement ::crux_runtime::Contract for #name #types #bounds {
            type Type = #marker;
            #blocking
        }

        #check
    })
}
