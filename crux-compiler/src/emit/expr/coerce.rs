//! Making a value fit a type that it fits without being of it.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use super::code::{Code, is_copy};
use super::{Writer, field_value};
use crate::emit::names::{variable, variant};
use crate::ir::{Expr, ExprKind, Record, Type};

impl Writer<'_> {
    pub(super) fn coerce(&mut self, inner: &Expr, to: &Type) -> Code {
        // A literal is written as what it becomes.
        match (&inner.kind, to) {
            (ExprKind::Integer(value), Type::Number) => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "an integer becomes the nearest number"
                )]
                let value = *value as f64;
                return Code::value(super::number(value)).signed(value < 0.0);
            }
            (ExprKind::List(items), Type::List(element)) if items.is_empty() => {
                let _ = element;
                return Code::value(quote!(Vec::new()));
            }
            _ => {}
        }
        let code = self.code(inner);
        self.fit(code, &inner.ty, to)
    }

    /// `code`, being of the type `from`, as a value of the type `to`.
    fn fit(&mut self, code: Code, from: &Type, to: &Type) -> Code {
        if same(from, to) {
            return code.into_owned(to);
        }
        match (from, to) {
            (Type::Optional(from), Type::Optional(to)) => self.fit_option(code, from, to),
            (_, Type::Optional(to)) if same(from, to) => Code::some(code),
            (_, Type::Optional(to)) => Code::some(self.fit(code, from, to)),
            (_, Type::Json) => {
                let value = code.borrowed();
                self.tried(quote!(Json::of(#value)))
            }
            (Type::Integer, Type::Number) => {
                let value = code.owned(from);
                Code::value(quote!(machine::expr::to_number(#value)))
            }
            (Type::List(from), Type::List(to)) => {
                let list = code.tight();
                let (value, fails) = self.each(from, to);
                let by_reference = if is_copy(from) { quote!(&value) } else { quote!(value) };
                if fails {
                    self.tried(
                        quote!(#list.iter().map(|#by_reference| #value).collect::<Result<Vec<_>, Failure>>()),
                    )
                } else {
                    Code::value(
                        quote!(#list.iter().map(|#by_reference| #value).collect::<Vec<_>>()),
                    )
                }
            }
            (Type::Map(from), Type::Map(to)) => {
                let map = code.tight();
                let (value, fails) = self.each(from, to);
                let by_reference = if is_copy(from) { quote!(&value) } else { quote!(value) };
                if fails {
                    self.tried(quote! {
                        #map.iter().map(|(key, #by_reference)| Ok((key.clone(), #value?))).collect::<Result<IndexMap<_, _>, Failure>>()
                    })
                } else {
                    Code::value(
                        quote!(#map.iter().map(|(key, #by_reference)| (key.clone(), #value)).collect::<IndexMap<_, _>>()),
                    )
                }
            }
            (Type::Record(from), Type::Record(to)) => self.fit_record(code, from, to),
            (Type::Enum(from), Type::Enum(to)) => {
                let value = code.owned(&Type::Enum(from.clone()));
                let (from_path, to_path) =
                    (self.module.path(&from.name), self.module.path(&to.name));
                let arms = from.words.iter().map(|word| {
                    let word = variant(word);
                    quote!(#from_path::#word => #to_path::#word)
                });
                Code::value(quote!(match #value { #(#arms),* })).loose()
            }
            _ => Code::value(quote!(compile_error!("a value that does not fit"))),
        }
    }

    fn fit_option(&mut self, code: Code, from: &Type, to: &Type) -> Code {
        let option = if is_copy(from) {
            code.into_owned(&from.clone().optional()).tight()
        } else {
            code.option_ref(from)
        };
        let (value, fails) = self.each(from, to);
        let closure = closure(&value);
        if fails {
            self.tried(quote!(#option.map(#closure).transpose())).optional()
        } else {
            Code::value(quote!(#option.map(#closure))).optional()
        }
    }

    /// What a variable `value` is converted to of the type `from` (a reference, unless it is
    /// copied); a `Result` if that can fail.
    fn each(&mut self, from: &Type, to: &Type) -> (TokenStream, bool) {
        let code =
            if is_copy(from) { Code::value(quote!(value)) } else { Code::reference(quote!(value)) };
        let code = if from.is_optional() { code.optional() } else { code };
        let (code, fails) = self.in_closure(|writer| writer.fit(code, from, to));
        (if fails { code.in_ok(to) } else { code.owned(to) }, fails)
    }

    fn fit_record(&mut self, code: Code, from: &Record, to: &Record) -> Code {
        use super::Form;
        let is_place = code.form != Form::Value;
        let source = if is_place { code.tight() } else { quote!(value) };
        let path = self.module.path(&to.name);
        let mut fields = Vec::with_capacity(to.fields.len());
        for wanted in &to.fields {
            let name = variable(&wanted.name);
            let value = match from.fields.iter().find(|field| field.name == wanted.name) {
                Some(found) => {
                    let field = Code::place(quote!(#source.#name));
                    let field = if found.ty.is_optional() { field.optional() } else { field };
                    self.fit(field, &found.ty, &wanted.ty).owned(&wanted.ty)
                }
                None => match &wanted.default {
                    Some(default) => self.owned(default),
                    None => quote!(None),
                },
            };
            fields.push(field_value(&name, value));
        }
        let record = quote!(#path { #(#fields),* });
        let has_name = |name: &str| from.fields.iter().any(|field| field.name == name);
        let is_read = to.fields.iter().any(|field| has_name(&field.name));
        if is_place && !is_read {
            // What is said to be read is read.
            return Code::value(quote!({ let _ = &#source; #record })).loose();
        }
        if is_place {
            return Code::value(record).loose();
        }
        let tokens = code.alone();
        Code::value(quote!({ let value = #tokens; #record })).loose()
    }
}

/// `|value| body`, or the function itself where the body is nothing but its call.
fn closure(body: &TokenStream) -> TokenStream {
    let mut trees: Vec<TokenTree> = body.clone().into_iter().collect();
    let is_call = matches!(trees.last(), Some(TokenTree::Group(args)) if args.stream().to_string() == "value");
    let is_path = |tree: &TokenTree| match tree {
        TokenTree::Ident(_) => true,
        TokenTree::Punct(punct) => punct.as_char() == ':',
        _ => false,
    };
    trees.pop();
    if is_call && !trees.is_empty() && trees.iter().all(is_path) {
        return trees.into_iter().collect();
    }
    quote!(|value| #body)
}

/// Records and enums are the same type exactly if they have the same name.
fn same(a: &Type, b: &Type) -> bool {
    crate::types::same(a, b)
}
