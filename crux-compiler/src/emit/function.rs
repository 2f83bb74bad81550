//! Expressions of the live values: where they stand, or as functions where they stand in several
//! places.

use std::cell::Cell;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::body::{Body, Reads};
use super::expr::{Code, Writer};
use super::names::ident;
use super::paths::{Module, result_type};
use super::plan::{Key, Outer, Plan, ScopeId, ValueLocation};
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
    pub(super) reads: Reads,
}

impl Inline {
    /// Of what `writer` has written; `state`: what that reads of the state.
    pub(super) fn new(body: Code, writer: &Writer<'_>, state: Reads) -> Self {
        let reads = writer.reads | state;
        if !writer.is_fallible() {
            return Self { tokens: body.alone(), fallible: false, reads };
        }
        let leaves_early = writer.leaves_early(&body);
        // An owned value is what it is, whatever its type.
        let result = body.in_ok(&Type::Json);
        let tokens = if leaves_early { quote!(machine::expr::attempt(|| #result)) } else { result };
        Self { tokens, fallible: true, reads }
    }

    /// The value; where it is [`Self::fallible`] a `Result` of it.
    pub(super) fn tokens(&self) -> &TokenStream {
        &self.tokens
    }

    /// `let name = …;` and the `Result` of it.
    pub(super) fn named(&self, name: &str) -> (Body, TokenStream) {
        let (name, tokens) = (ident(name), &self.tokens);
        (
            Body::new(quote!(let #name = #tokens;), self.reads),
            if self.fallible { quote!(#name) } else { quote!(Ok(#name)) },
        )
    }

    /// The `Result`.
    pub(super) fn result(&self) -> Body {
        let tokens = &self.tokens;
        Body::new(if self.fallible { quote!(#tokens) } else { quote!(Ok(#tokens)) }, self.reads)
    }
}

impl<'a> Site<'_, 'a> {
    /// A value of the state, as it is seen from here, and what is read for it.
    pub(super) fn code(&self, value: &Value) -> Option<(Code, Reads)> {
        if let Some(key) = self.plan.key(value).filter(|key| self.given.contains(key)) {
            let name = self.plan.field(key);
            let code = shared(quote!(#name), self.plan.is_optional(key, self.scope));
            return Some((code, Reads::NOTHING));
        }
        Some(match self.plan.find(value, self.scope, self.live)? {
            ValueLocation::Here(key) if self.at.is_empty() => {
                let name = self.plan.field(key);
                let optional = self.plan.is_optional(key, self.scope);
                let code = if optional {
                    Code::option_of_refs(quote!(#name))
                } else {
                    Code::reference(quote!(#name))
                };
                (code, Reads::NOTHING)
            }
            ValueLocation::Here(key) => {
                let field = self.plan.field(key);
                (shared(quote!(at.#field), self.plan.is_optional(key, self.scope)), Reads::AT)
            }
            ValueLocation::Around(step, key) => {
                let (around, field) =
                    (outer_value(self.plan, self.scope, Outer::At(step)), self.plan.field(key));
                let optional = self.plan.is_optional(key, self.plan.steps[step].scope);
                (shared(quote!(#around.#field), optional), Reads::UP)
            }
            ValueLocation::Item(name) => (self.outer(Outer::Item(name)), Reads::UP),
            ValueLocation::Error => (self.outer(Outer::Error), Reads::UP),
            ValueLocation::Kept(key) => {
                (Code::shared(kept(self.plan, self.module, key)?).optional(), Reads::FX)
            }
        })
    }

    fn outer(&self, outer: Outer<'_>) -> Code {
        Code::reference(outer_value(self.plan, self.scope, outer))
    }

    pub(super) fn inline(&self, expr: &Expr) -> Inline {
        self.inline_code(|writer| writer.owned_code(expr))
    }

    /// The same for whatever `write` writes.
    pub(super) fn inline_code(&self, write: impl FnOnce(&mut Writer<'_>) -> Code) -> Inline {
        let reads = Cell::new(Reads::NOTHING);
        let find = |value: &Value| {
            let (code, read) = self.code(value)?;
            reads.set(reads.get() | read);
            Some(code)
        };
        let is_taken = |name: &Ident| self.plan.is_field(name);
        let mut writer = Writer::new(self.module, &find).among(&is_taken);
        let body = write(&mut writer);
        Inline::new(body, &writer, reads.get())
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
