//! Functions, and texts with values in them.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use super::Writer;
use super::code::Code;
use crate::ir::{Expr, ExprKind, Function, Type};

impl Writer<'_> {
    pub(super) fn call(&mut self, function: Function, args: &[Expr]) -> Code {
        match (function, args) {
            (Function::Size, [of]) => {
                let of = self.borrowed(of);
                Code::value(quote!(machine::expr::size(#of)))
            }
            (Function::Has, [of, key]) => {
                let (of, key) = (self.code(of).tight(), self.borrowed(key));
                Code::value(quote!(#of.has(#key)))
            }
            (Function::Has, [of]) => {
                let of = self.code(of).tight();
                Code::value(quote!(#of.is_some()))
            }
            (Function::Contains, [of, part]) if of.ty == Type::String => {
                self.text_method(quote!(contains), of, part)
            }
            (Function::Contains, [of, part]) => self.contains(of, part),
            (Function::StartsWith, [of, part]) => self.text_method(quote!(starts_with), of, part),
            (Function::EndsWith, [of, part]) => self.text_method(quote!(ends_with), of, part),
            (Function::Lower, [of]) => {
                let of = self.code(of).tight();
                Code::value(quote!(#of.to_lowercase()))
            }
            (Function::Upper, [of]) => {
                let of = self.code(of).tight();
                Code::value(quote!(#of.to_uppercase()))
            }
            (Function::Join, [of, separator]) => {
                let (of, separator) = (self.code(of).tight(), self.code(separator).text_slice());
                Code::value(quote!(#of.join(#separator)))
            }
            (Function::Sum, [of]) => {
                let of = self.borrowed_list(of);
                self.fallible = true;
                Code::tried(quote!(machine::expr::sum(#of)))
            }
            (Function::Min, [of]) => {
                let of = self.borrowed_list(of);
                Code::value(quote!(machine::expr::min(#of))).optional()
            }
            (Function::Max, [of]) => {
                let of = self.borrowed_list(of);
                Code::value(quote!(machine::expr::max(#of))).optional()
            }
            (Function::ToString, [of]) => self.interpolate(std::iter::once(of)),
            (Function::ToInteger, [of]) if of.ty == Type::Number => {
                let of = self.owned(of);
                self.fallible = true;
                Code::tried(quote!(machine::expr::truncate(#of)))
            }
            (Function::ToNumber, [of]) if of.ty == Type::Integer => {
                let of = self.suffixed(of);
                Code::value(quote!(machine::expr::to_number(#of)))
            }
            (Function::ToInteger, [of]) => self.parse(quote!(parse_integer), of),
            (Function::ToNumber, [of]) => self.parse(quote!(parse_number), of),
            (Function::ToTimestamp, [of]) => self.parse(quote!(parse_timestamp), of),
            (Function::ToDuration, [of]) => self.parse(quote!(parse_duration), of),
            // Not a checked expression.
            _ => Code::value(quote!(compile_error!("a function with other arguments"))),
        }
    }

    fn text_method(&mut self, method: TokenStream, of: &Expr, part: &Expr) -> Code {
        let of = self.code(of).tight();
        // A text of one character is a pattern of one character; clippy wants it so.
        let part = match &part.kind {
            ExprKind::Text(text) if text.chars().count() == 1 => {
                let letter = text.chars().next();
                quote!(#letter)
            }
            _ => self.borrowed(part),
        };
        Code::value(quote!(#of.#method(#part)))
    }

    fn parse(&mut self, function: TokenStream, of: &Expr) -> Code {
        let of = self.borrowed(of);
        Code::value(quote!(machine::expr::#function(#of))).optional()
    }

    /// A text made of parts, each of a type that has a text.
    pub(super) fn interpolate<'e>(&mut self, parts: impl Iterator<Item = &'e Expr>) -> Code {
        let mut format = String::new();
        let mut args: Vec<Code> = Vec::new();
        let mut only_text = true;
        let mut plain = String::new();
        for part in parts {
            let part = match &part.kind {
                ExprKind::Call { function: Function::ToString, args } => {
                    args.first().unwrap_or(part)
                }
                _ => part,
            };
            if let Some(text) = literal(part) {
                plain.push_str(&text);
                format.push_str(&text.replace('{', "{{").replace('}', "}}"));
                continue;
            }
            only_text = false;
            // `format!` and `to_string` borrow by themselves, and show what a reference refers to.
            let code = self.code(part);
            let code = if part.ty == Type::Number {
                let value = code.owned(&part.ty);
                Code::value(quote!(machine::expr::number(#value)))
            } else {
                code
            };
            let tokens = code.alone();
            format.push_str(&if is_name(&tokens) {
                format!("{{{tokens}}}")
            } else {
                "{}".to_owned()
            });
            args.push(code);
        }
        if only_text {
            return Code::borrowed_text(quote!(#plain));
        }
        if plain.is_empty()
            && let [only] = args.as_slice()
        {
            let only = only.tight();
            return Code::value(quote!(#only.to_string()));
        }
        let args = args.iter().map(Code::alone).filter(|arg| !is_name(arg));
        Code::value(quote!(format!(#format, #(#args),*)))
    }
}

/// The text of a literal that is known already.
fn literal(part: &Expr) -> Option<String> {
    match &part.kind {
        ExprKind::Text(text) | ExprKind::Word(text) => Some(text.clone()),
        ExprKind::Integer(value) => Some(value.to_string()),
        ExprKind::Boolean(value) => Some(value.to_string()),
        ExprKind::Negate(of) if part.ty == Type::Integer => match of.kind {
            ExprKind::Integer(value) => value.checked_neg().map(|value| value.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether `format!` can name it inside its text.
fn is_name(tokens: &TokenStream) -> bool {
    let mut trees = tokens.clone().into_iter();
    matches!((trees.next(), trees.next()), (Some(TokenTree::Ident(name)), None) if !name.to_string().starts_with("r#"))
}
