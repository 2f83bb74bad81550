//! The `until` of a `repeat`: a function, because it is asked where the first round ends and where
//! a later one does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::body::{Body, Reads};
use super::expr::Writer;
use super::function::Site;
use super::paths::result_type;
use super::plan::{Key, StepId};
use super::tokens::tuple_or_any;
use super::view::view_name;
use super::workflow::Generator;
use crate::ir::{Expr, Value};

/// The function, and the closure that asks it with what a round has given.
pub(super) struct Until {
    pub(super) item: TokenStream,
    pub(super) closure: Body,
}

impl Generator<'_, '_> {
    /// `view`: how the steps of the round see what is around them, with a comma.
    pub(super) fn until(&self, id: StepId, until: &Expr, view: Option<Body>) -> Until {
        let step = &self.plan.steps[id];
        let scope_id = step.inside[0];
        let scope = &self.plan.scopes[scope_id];
        let site = Site {
            plan: self.plan,
            module: self.module,
            scope: scope_id,
            live: &scope.exports,
            given: &[],
            at: "",
        };
        let (state, round_reads) =
            (Cell::new(Reads::NOTHING), RefCell::new(BTreeSet::<Key<'_>>::new()));
        let find = |value: &Value| {
            let (code, read) = site.code(value)?;
            state.set(state.get() | read);
            round_reads.borrow_mut().extend(self.plan.key(value));
            Some(code)
        };
        let is_taken = |name: &Ident| self.plan.is_field(name);
        let mut writer = Writer::new(self.module, &find).among(&is_taken);
        let body = writer.owned_code(until);
        let (fallible, reads) = (writer.is_fallible(), writer.reads | state.get());
        let body = if fallible { body.in_ok(&until.ty) } else { body.alone() };

        let (mut params, mut args) = (Vec::new(), Vec::<Body>::new());
        let up = view_name(self.plan, scope_id);
        if let (Some(ty), Some(view)) = (self.view_type(scope_id), view)
            && reads.has(Reads::UP)
        {
            params.push(quote!(#up: #ty));
            args.push(view);
        }
        let mut round = Vec::new();
        for key in &scope.exports {
            let name = self.plan.field(*key);
            if !round_reads.borrow().contains(key) {
                round.push(quote!(_));
                continue;
            }
            let ty = result_type(self.plan, self.module, *key);
            if self.plan.is_export_optional(*key, scope_id) {
                params.push(quote!(#name: Option<&#ty>));
                args.push(Body::constant(quote!(#name.as_deref(),)));
            } else {
                params.push(quote!(#name: &#ty));
                args.push(Body::constant(quote!(#name,)));
            }
            round.push(quote!(#name));
        }
        let surroundings = [
            (Reads::ENV, quote!(env: &Env), quote!(fx.env(),)),
            (Reads::NOW, quote!(now: Time), quote!(fx.now(),)),
            (Reads::FX, quote!(fx: &Fx<'_>), quote!(fx,)),
        ];
        for (read, param, value) in surroundings {
            if reads.has(read) {
                params.push(param);
                args.push(Body::new(value, Reads::FX));
            }
        }
        let name = format_ident!("until_{}", step.snake);
        let out = if fallible { quote!(Result<bool, Failure>) } else { quote!(bool) };
        // A person would not do that; but then, they would not read eight results in one condition.
        let many = (params.len() > 7)
            .then(|| quote!(#[allow(clippy::too_many_arguments, reason = "one for each value that the expression reads")]));
        let call = quote!(#name(#(#args)*));
        let call = if fallible { call } else { quote!(Ok(#call)) };
        let call = Body::new(call, Body::reads_of(&args));
        let (round, fx) = (tuple_or_any(round), call.param(Reads::FX));
        Until {
            item: quote!(#many fn #name(#(#params),*) -> #out { #body }),
            closure: Body::new(quote!(|#round, #fx| #call), call.reads.without(Reads::FX)),
        }
    }
}
