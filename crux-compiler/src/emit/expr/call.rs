//! Functions, and texts with values in them.

use proc_macro2::{TokenStream, TokenTree};
use quote::quote;

use super::Writer;
use super::code::Code;
use crate::builtins::{self, Argument, Outcome, Rust};
use crate::emit::names::ident;
use crate::ir::{Expr, ExprKind, Function, Type};

impl Writer<'_> {
    pub(super) fn call(&mut self, function: Function, args: &[Expr]) -> Code {
        let row = args.first().and_then(|first| builtins::row(function, &first.ty));
        let (Some(row), Some((of, parts))) = (row, args.split_first()) else {
            // Not a checked expression: those are typed by the same rows.
            return Code::value(quote!(compile_error!("a function with other arguments")));
        };
        match (row.rust, parts.first()) {
            (Rust::Call(name, argument, outcome), _) => self.function(name, argument, outcome, of),
            (Rust::Method(name), _) => {
                let (name, of) = (ident(name), self.code(of).tight());
                Code::value(quote!(#of.#name()))
            }
            (Rust::Pattern(name), Some(part)) => {
                let name = ident(name);
                self.text_method(quote!(#name), of, part)
            }
            (Rust::Join, Some(separator)) => {
                let (of, separator) = (self.code(of).tight(), self.code(separator).text_slice());
                Code::value(quote!(#of.join(#separator)))
            }
            (Rust::Contains, Some(part)) => self.contains(of, part),
            (Rust::HasKey, Some(key)) => {
                let (of, key) = (self.code(of).tight(), self.borrowed(key));
                Code::value(quote!(#of.has(#key)))
            }
            (Rust::Interpolate, _) => self.interpolate(std::iter::once(of)),
            (
                Rust::IsPresent | Rust::Pattern(_) | Rust::Join | Rust::Contains | Rust::HasKey,
                _,
            ) => {
                let of = self.code(of).tight();
                Code::value(quote!(#of.is_some()))
            }
        }
    }

    fn function(&mut self, name: &str, argument: Argument, outcome: Outcome, of: &Expr) -> Code {
        let name = ident(name);
        let of = match argument {
            Argument::Borrowed => self.borrowed(of),
            Argument::Slice => self.borrowed_list(of),
            Argument::Owned => self.owned(of),
            Argument::Suffixed => self.suffixed(of),
        };
        let call = quote!(machine::expr::#name(#of));
        match outcome {
            Outcome::Value => Code::value(call),
            Outcome::Option => Code::value(call).optional(),
            Outcome::Result => self.tried(call),
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
