//! `map`, `filter`, `all` and `exists`: iterators, or where the body can fail their counterparts
//! that stop at the first failure.

use proc_macro2::Ident;
use quote::quote;

use super::Writer;
use super::code::{Code, is_copy};
use crate::emit::names::local;
use crate::ir::{Expr, Iterate, Type};

impl Writer<'_> {
    pub(super) fn iterate(
        &mut self,
        how: Iterate,
        over: &Expr,
        variable: &str,
        body: &Expr,
    ) -> Code {
        let element = match &over.ty {
            Type::List(element) => (**element).clone(),
            _ => Type::Json,
        };
        let copy = is_copy(&element);
        let list = self.code(over).tight();
        let name = self.bind(variable);
        let (code, fails) = self.in_closure(|writer| writer.code(body).into_owned(&body.ty));
        let read = self.bound.pop().is_some_and(|(.., read)| read);
        let name = if read { quote!(#name) } else { quote!(_) };
        // What the closures of std get: `&T`, or with `copied` a `T`.
        let by_reference = if copy && read { quote!(&#name) } else { name.clone() };
        if fails {
            let result = code.in_ok(&body.ty);
            return match how {
                Iterate::Map => self.tried(
                    quote!(#list.iter().map(|#by_reference| #result).collect::<Result<Vec<_>, Failure>>()),
                ),
                Iterate::Filter => {
                    self.tried(quote!(machine::expr::try_filter(&#list, |#by_reference| #result)))
                }
                Iterate::All => {
                    self.tried(quote!(machine::expr::try_all(&#list, |#by_reference| #result)))
                }
                Iterate::Exists => {
                    self.tried(quote!(machine::expr::try_exists(&#list, |#by_reference| #result)))
                }
            };
        }
        let tokens = code.alone();
        match how {
            Iterate::Map => {
                Code::value(quote!(#list.iter().map(|#by_reference| #tokens).collect::<Vec<_>>()))
            }
            Iterate::Filter if copy => Code::value(
                quote!(#list.iter().copied().filter(|#by_reference| #tokens).collect::<Vec<_>>()),
            ),
            Iterate::Filter => {
                let by_reference = if read { quote!(&#name) } else { name };
                Code::value(
                    quote!(#list.iter().filter(|#by_reference| #tokens).cloned().collect::<Vec<_>>()),
                )
            }
            Iterate::All => Code::value(quote!(#list.iter().all(|#by_reference| #tokens))),
            Iterate::Exists => Code::value(quote!(#list.iter().any(|#by_reference| #tokens))),
        }
    }

    /// A variable of that name that hides no other.
    fn bind(&mut self, yaml: &str) -> Ident {
        let name = local(yaml, |name| (self.is_taken)(name));
        self.bound.push((yaml.to_owned(), name.clone(), false));
        name
    }
}
