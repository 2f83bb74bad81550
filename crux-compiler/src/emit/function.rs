//! Expressions of the live values: where they stand, or as functions where they stand in several
//! places.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::expr::{Code, Writer};
use super::names::ident;
use super::paths::{Module, result_type};
use super::plan::{Found, Key, Outer, Plan, ScopeId};
use super::tokens::has_question;
use super::view::outer_value;
use crate::ir::{Expr, Type, Value};

/// Where an expression stands: its scope, and the values at hand there.
#[derive(Clone, Copy)]
pub(super) struct Site<'s, 'a> {
    pub(super) plan: &'s Plan<'a>,
    pub(super) module: Module<'s>,
    pub(super) scope: ScopeId,
    pub(super) live: &'s [Key<'a>],
    /// What the step before has given: variables, each an `Arc`.
    pub(super) given: &'s [Key<'a>],
    /// Of the struct of the live values; empty: they are variables.
    pub(super) at: &'s str,
}

/// An expression where it stands, once.
pub(super) struct Inline {
    tokens: TokenStream,
    pub(super) fallible: bool,
}

impl Inline {
    /// Of what a writer has written.
    pub(super) fn new(body: Code, fallible: bool) -> Self {
        if !fallible {
            return Self { tokens: body.alone(), fallible };
        }
        // An owned value is what it is, whatever its type.
        let result = body.in_ok(&Type::Json);
        let tokens =
            if has_question(&result) { quote!(machine::expr::attempt(|| #result)) } else { result };
        Self { tokens, fallible }
    }

    /// The value; where it is [`Self::fallible`] a `Result` of it.
    pub(super) fn tokens(&self) -> &TokenStream {
        &self.tokens
    }

    /// `let name = …;` and the `Result` of it.
    pub(super) fn named(&self, name: &str) -> (TokenStream, TokenStream) {
        let (name, tokens) = (ident(name), &self.tokens);
        (
            quote!(let #name = #tokens;),
            if self.fallible { quote!(#name) } else { quote!(Ok(#name)) },
        )
    }

    /// The `Result`.
    pub(super) fn result(&self) -> TokenStream {
        let tokens = &self.tokens;
        if self.fallible { quote!(#tokens) } else { quote!(Ok(#tokens)) }
    }
}

impl<'a> Site<'_, 'a> {
    /// A value of the state, as it is seen from here.
    pub(super) fn code(&self, value: &Value) -> Option<Code> {
        if let Some(key) = self.plan.key(value).filter(|key| self.given.contains(key)) {
            let name = self.plan.field(key);
            return Some(shared(quote!(#name), self.plan.is_optional(key, self.scope)));
        }
        Some(match self.plan.find(value, self.scope, self.live)? {
            Found::Here(key) if self.at.is_empty() => {
                let name = self.plan.field(key);
                let optional = self.plan.is_optional(key, self.scope);
                if optional {
                    Code::option_of_refs(quote!(#name))
                } else {
                    Code::reference(quote!(#name))
                }
            }
            Found::Here(key) => {
                let field = self.plan.field(key);
                shared(quote!(at.#field), self.plan.is_optional(key, self.scope))
            }
            Found::Around(step, key) => {
                let (around, field) =
                    (outer_value(self.plan, self.scope, Outer::At(step)), self.plan.field(key));
                shared(
                    quote!(#around.#field),
                    self.plan.is_optional(key, self.plan.steps[step].scope),
                )
            }
            Found::Item(name) => {
                Code::reference(outer_value(self.plan, self.scope, Outer::Item(name)))
            }
            Found::Error => Code::reference(outer_value(self.plan, self.scope, Outer::Error)),
            Found::Kept(key) => Code::shared(kept(self.plan, self.module, key)?).optional(),
        })
    }

    pub(super) fn inline(&self, expr: &Expr) -> Inline {
        self.inline_code(|writer| writer.owned_code(expr))
    }

    /// The same for whatever `write` writes.
    pub(super) fn inline_code(&self, write: impl FnOnce(&mut Writer<'_>) -> Code) -> Inline {
        let find = |value: &Value| self.code(value);
        let is_taken = |name: &Ident| self.plan.is_field(name);
        let mut writer = Writer::new(self.module, &find).among(&is_taken);
        let body = write(&mut writer);
        Inline::new(body, writer.fallible)
    }
}

fn shared(tokens: TokenStream, optional: bool) -> Code {
    let code = Code::shared(tokens);
    if optional { code.optional() } else { code }
}

/// `fx.kept::<score::Output>(node::SCORE)`: a result that is read after a failure.
pub(super) fn kept(plan: &Plan<'_>, module: Module<'_>, key: Key<'_>) -> Option<TokenStream> {
    let (number, ty) = (plan.node(plan.kept_number(key)?), result_type(plan, module, key));
    Some(quote!(fx.kept::<#ty>(#number)))
}
