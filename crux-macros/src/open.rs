//! The derives of generated code: what is open in a scope, and when a `parallel` is done.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Fields, GenericArgument, PathArguments, Type};

pub(crate) fn part(item: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(item) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let name = &input.ident;
    let body = match &input.data {
        Data::Enum(data) if data.variants.is_empty() => quote!(match *self {}),
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let variant_name = &variant.ident;
                // The part is the last field; before it stand the live values.
                let before = variant.fields.iter().skip(1).map(|_| quote!(_,));
                quote!(#name::#variant_name(#(#before)* part) => ::crux_runtime::machine::Part::open(part, visit))
            });
            quote!(match self { #(#arms),* })
        }
        Data::Struct(data) => {
            let fields = data.fields.iter().map(|field| &field.ident);
            quote!(#(::crux_runtime::machine::Part::open(&self.#fields, visit);)*)
        }
        Data::Union(_) => return error(&input, "a scope is an enum, or a struct of branches"),
    };
    quote! {
        impl ::crux_runtime::machine::Part for #name {
            #[allow(unused_variables, reason = "nothing is open in a scope without states")]
            fn open(&self, visit: &mut dyn ::std::ops::FnMut(::crux_runtime::machine::Open<'_>)) {
                #body
            }
        }
    }
}

pub(crate) fn join(item: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(item) {
        Ok(input) => input,
        Err(error) => return error.to_compile_error(),
    };
    let Data::Struct(data) = &input.data else {
        return error(&input, "branches stand in a struct");
    };
    let Fields::Named(fields) = &data.fields else {
        return error(&input, "each branch has a name");
    };
    let name = &input.ident;
    let mut names = Vec::new();
    let mut values = Vec::new();
    let mut results = Vec::new();
    for (index, field) in fields.named.iter().enumerate() {
        let Some(result) = branch_result(&field.ty) else {
            return error(&field.ty, "a field is a `Branch<State, Result>`");
        };
        names.extend(&field.ident);
        values.push(format_ident!("result_{index}"));
        results.push(result);
    }
    let (result, value) = match (results.as_slice(), values.as_slice()) {
        ([result], [value]) => (quote!(#result), quote!(#value)),
        _ => (quote!((#(#results),*)), quote!((#(#values),*))),
    };
    quote! {
        impl ::crux_runtime::machine::Join for #name {
            type Out = #result;

            fn join(self) -> ::std::result::Result<Self::Out, Self> {
                match self {
                    #name { #(#names: ::crux_runtime::machine::Branch::Done(#values)),* } => ::std::result::Result::Ok(#value),
                    open => ::std::result::Result::Err(open),
                }
            }
        }
    }
}

/// `T` of `Branch<S, T>`.
fn branch_result(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let PathArguments::AngleBracketed(arguments) = &path.path.segments.last()?.arguments else {
        return None;
    };
    match arguments.args.last()? {
        GenericArgument::Type(result) => Some(result),
        _ => None,
    }
}

fn error(at: &impl quote::ToTokens, message: &str) -> TokenStream {
    syn::Error::new_spanned(at, message).to_compile_error()
}
