//! Functions, and texts with values in them.

use proc_macro2::TokenStream;
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
            (Function::Contains, [of, part]) if of.ty == Type::String => self.text_method(quote!(contains), of, part),
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
                let (of, separator) = (self.code(of).tight(), self.borrowed(separator));
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
        let mut args: Vec<TokenStream> = Vec::new();
        let mut only_text = true;
        let mut plain = String::new();
        for part in parts {
            let part = match &part.kind {
                ExprKind::Call { function: Function::ToString, args } => args.first().unwrap_or(part),
                _ => part,
            };
            if let ExprKind::Text(text) = &part.kind {
                plain.push_str(text);
                format.push_str(&text.replace('{', "{{").replace('}', "}}"));
                continue;
            }
            only_text = false;
            let code = self.code(part);
            let code = if part.ty == Type::Number {
                let value = code.owned(&part.ty);
                Code::value(quote!(machine::expr::number(#value)))
            } else {
                code.operand(&part.ty)
            };
            let text = code.tokens.to_string();
            if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !text.starts_with(|c: char| c.is_ascii_digit()) {
                format.push_str(&format!("{{{text}}}"));
            } else {
                format.push_str("{}");
                args.push(code.tokens);
            }
        }
        if only_text {
            return Code::borrowed_text(quote!(#plain));
        }
        if format == "{}"
            && let [only] = args.as_slice()
        {
            return Code::value(quote!(#only.to_string()));
        }
        Code::value(quote!(format!(#format, #(#args),*)))
    }
}
