//! The `until` of a `repeat`: a function, because it is asked where the first round ends and where
//! a later one does.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::expr::Writer;
use super::function::Site;
use super::names::ident;
use super::paths::result_type;
use super::plan::StepId;
use super::tokens::{mentions, tuple_or_any, used_fx};
use super::view::view_name;
use super::workflow::Generator;
use crate::ir::{Expr, Value};

/// The function, and the closure that asks it with what a round has given.
pub(super) struct Until {
    pub(super) item: TokenStream,
    pub(super) closure: TokenStream,
}

impl Generator<'_, '_> {
    /// `view`: how the steps of the round see what is around them, with a comma.
    pub(super) fn until(&self, id: StepId, until: &Expr, view: Option<TokenStream>) -> Until {
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
        let find = |value: &Value| site.code(value);
        let is_taken = |name: &Ident| self.plan.is_field(name);
        let mut writer = Writer::new(self.module, &find).among(&is_taken);
        let body = writer.owned_code(until);
        let fallible = writer.fallible;
        let body = if fallible { body.in_ok(&until.ty) } else { body.alone() };

        let (mut params, mut args) = (Vec::new(), Vec::new());
        let up = view_name(self.plan, scope_id);
        if let (Some(ty), Some(view)) = (self.view_type(scope_id), view)
            && mentions(&body, &up.to_string())
        {
            params.push(quote!(#up: #ty));
            args.push(quote!(#view));
        }
        let mut round = Vec::new();
        for key in &scope.exports {
            let name = self.plan.field(*key);
            if !mentions(&body, &name.to_string()) {
                round.push(quote!(_));
                continue;
            }
            let ty = result_type(self.plan, self.module, *key);
            if self.plan.is_export_optional(*key, scope_id) {
                params.push(quote!(#name: Option<&#ty>));
                args.push(quote!(#name.as_deref(),));
            } else {
                params.push(quote!(#name: &#ty));
                args.push(quote!(#name,));
            }
            round.push(quote!(#name));
        }
        for (name, ty, value) in
            [("env", quote!(&Env), quote!(fx.env())), ("now", quote!(Time), quote!(fx.now()))]
        {
            if mentions(&body, name) {
                let name = ident(name);
                params.push(quote!(#name: #ty));
                args.push(quote!(#value,));
            }
        }
        if mentions(&body, "fx") {
            params.push(quote!(fx: &Fx<'_>));
            args.push(quote!(fx,));
        }
        let name = format_ident!("until_{}", step.snake);
        let out = if fallible { quote!(Result<bool, Failure>) } else { quote!(bool) };
        // A person would not do that; but then, they would not read eight results at once.
        let many = (params.len() > 7)
            .then(|| quote!(#[allow(clippy::too_many_arguments, reason = "one for each value that the expression reads")]));
        let call = quote!(#name(#(#args)*));
        let call = if fallible { call } else { quote!(Ok(#call)) };
        let (round, fx) = (tuple_or_any(round), used_fx(&call));
        Until {
            item: quote!(#many fn #name(#(#params),*) -> #out { #body }),
            closure: quote!(|#round, #fx| #call),
        }
    }
}
