//! The functions of one step: entering it, going on after it, catching its failure; and its arms in
//! the scope's `apply`. What each verb is made of stands in [`super::work`], [`super::waiting`],
//! [`super::instant`] and [`super::composite`].

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::body::{Body, Reads, with_surroundings};
use super::function::Site;
use super::names::ident;
use super::plan::{ScopeId, ScopeKind, Step, StepId};
use super::tokens::{Variant, Written};
use super::workflow::Generator;
use crate::ir::Verb;

impl<'a> Generator<'_, 'a> {
    pub(super) fn step(&self, id: StepId) -> Written {
        let step = &self.plan.steps[id];
        let made = match &step.node.verb {
            Verb::Task(task) => self.work(id, task),
            Verb::Wait { .. } => self.wait(id),
            Verb::Sleep(until) => self.sleep(id, until),
            Verb::Emit { .. } | Verb::Fail { .. } => self.instant(id),
            Verb::Parallel { .. } => self.parallel(id),
            Verb::Switch { branches } => self.switch(id, branches),
            Verb::Each { .. } => self.each(id),
            Verb::Repeat { .. } => self.repeat(id),
            Verb::TaskThen { .. } | Verb::Group { .. } => self.group(id),
        };
        let mut variants = Vec::new();
        variants.extend(made.open.map(|part| Variant {
            name: ident(&step.camel),
            at: step.has_at().then(|| step.at_name.clone()),
            part: part.ty,
            arm: part.arm,
            place: Some(super::types::place(&step.node.place)),
        }));
        let when = self.when(id);
        let enter = Body::new(
            {
                let enter = &made.enter;
                quote!(#when #enter)
            },
            Body::reads_of(&when) | made.enter.reads,
        );
        let enter = with_surroundings(enter);
        let names_at =
            !step.node.catch.is_empty() || step.previous.is_none() || enter.has(Reads::AT);
        let mut functions = self.enter_function(step, &enter);
        functions.extend(self.catch_function(id, &mut variants));
        functions.extend(made.items);
        // A step that ends everything there and then, as `fail`, may have nobody who takes its live
        // values.
        let is_held = variants.iter().any(|variant| variant.at.as_ref() == Some(&step.at_name));
        let is_taken = step.next.is_some() || self.is_before_end(id) || names_at;
        let mut items = if step.has_at() && (is_held || is_taken) {
            self.at_struct(&step.at_name, &step.live, step.scope)
        } else {
            TokenStream::new()
        };
        items.extend(functions);
        Written { items, variants }
    }

    /// Whether [`Self::end_function`] takes its live values.
    fn is_before_end(&self, id: StepId) -> bool {
        let step = &self.plan.steps[id];
        let scope = &self.plan.scopes[step.scope];
        step.next.is_none() && self.has_end(scope) && !super::plan::is_end(step.node)
    }

    /// `enter_<step>`, from the live values of the step before it and what that gives, or from its
    /// own if it is the first.
    fn enter_function(&self, step: &Step<'a>, body: &Body) -> TokenStream {
        let (name, needs_view) =
            (format_ident!("enter_{}", step.snake), self.plan.enter_needs_view(step));
        let Some(previous) = step.previous.map(|previous| &self.plan.steps[previous]) else {
            let at: Vec<_> = self.at_param(step, body.reads).into_iter().collect();
            return self.step_function(step.scope, needs_view, &name, &at, body);
        };
        // A step that reads no live values gets no struct for them, and needs none of the earlier
        // ones.
        let at = body.has(Reads::AT).then(|| self.at_value(step, previous));
        let let_at = at.as_ref().map(|at| quote!(let at = #at;));
        let mut params: Vec<_> = self.at_param(previous, Body::reads_of(&at)).into_iter().collect();
        params.extend(self.given_param(previous));
        let body = Body::new(quote!(#let_at #body), body.reads);
        self.step_function(step.scope, needs_view, &name, &params, &body)
    }

    /// `at: AtOrder`, or `_: AtOrder` where the body does not read it; nothing where nothing is live.
    pub(super) fn at_param(&self, step: &Step<'a>, reads: Reads) -> Option<TokenStream> {
        let (at, ty) = (reads.param(Reads::AT), self.at_type(step));
        step.has_at().then(|| quote!(#at: #ty))
    }

    /// What ends a scope with an expression, from the last step's live values and what that gives:
    /// `output` or `yield`.
    pub(super) fn end_function(&self, id: ScopeId) -> TokenStream {
        let scope = &self.plan.scopes[id];
        let expr = match scope.kind {
            ScopeKind::Root => self.plan.workflow.output.as_ref(),
            ScopeKind::Each { yields, .. } => yields,
            _ => None,
        };
        // After a `fail` there is no end.
        let last = self.plan.last(scope).filter(|last| !super::plan::is_end(last.node));
        let (Some(expr), Some(last)) = (expr, last) else { return TokenStream::new() };
        let site = Site { given: &last.gives, ..self.site(last) };
        let value = site.inline(expr);
        let (tokens, failed) = (
            value.tokens(),
            if scope.kind == ScopeKind::Root { quote!(failure.output()) } else { quote!(failure) },
        );
        let done = if value.fallible {
            quote! {
                match #tokens {
                    Ok(value) => Flow::Done(value),
                    Err(failure) => Flow::Failed(#failed),
                }
            }
        } else {
            quote!(Flow::Done(#tokens))
        };
        let body = with_surroundings(Body::new(done, value.reads));
        let mut params: Vec<_> = self.at_param(last, body.reads).into_iter().collect();
        params.extend(self.given_param(last));
        let name = format_ident!("end_{}", scope.snake);
        self.step_function(id, self.plan.end_needs_view(id), &name, &params, &body)
    }

    pub(super) fn site<'s>(&'s self, step: &'s Step<'a>) -> Site<'s, 'a> {
        Site {
            plan: self.plan,
            module: self.module,
            scope: step.scope,
            live: &step.live,
            given: &[],
            at: &step.at_name,
        }
    }

    /// What stands before a step with `when`.
    fn when(&self, id: StepId) -> Option<Body> {
        let step = &self.plan.steps[id];
        let when = self.site(step).inline(step.node.when.as_ref()?);
        let (number, holds) = (self.number(step), when.tokens());
        let none = || Body::constant(quote!(None));
        let skip = self.after(id, step.gives.iter().map(|_| none()).collect());
        let reads = when.reads | skip.reads | Reads::FX;
        Some(if when.fallible {
            let failed = self.failed(id);
            let body = quote! {
                match fx.try_holds(#number, #holds) {
                    Ok(true) => {}
                    Ok(false) => return #skip,
                    Err(failure) => return #failed,
                }
            };
            Body::new(body, reads | failed.reads)
        } else {
            let body = quote! {
                if !fx.holds(#number, #holds) {
                    return #skip;
                }
            };
            Body::new(body, reads)
        })
    }

    /// Where a failure of the step itself, a variable `failure`, goes.
    pub(super) fn failed(&self, id: StepId) -> Body {
        let step = &self.plan.steps[id];
        if step.node.catch.is_empty() {
            return Body::constant(quote!(Flow::Failed(failure)));
        }
        let (catch, up) = (
            format_ident!("catch_{}", step.snake),
            self.up_arg(step.scope, self.plan.catch_needs_view(step)),
        );
        let at = step.has_at().then(|| quote!(at,));
        let reads = Body::reads_of(&up) | Reads::AT.when(step.has_at()) | Reads::FX;
        Body::new(quote!(#catch(#up #at failure, fx)), reads)
    }

    /// `node::SEO`.
    pub(super) fn number(&self, step: &Step<'a>) -> TokenStream {
        self.plan.node(step.node.no)
    }

    pub(super) fn at_type(&self, step: &Step<'a>) -> TokenStream {
        let at = ident(&step.at_name);
        quote!(#at)
    }

    /// A function of a scope's steps: what is around them, `params`, `fx`. What its body does not
    /// read is called `_`.
    pub(super) fn step_function(
        &self,
        scope: ScopeId,
        needs_view: bool,
        name: &Ident,
        params: &[TokenStream],
        body: &Body,
    ) -> TokenStream {
        let up = self.up_param(scope, body.reads, needs_view);
        let (fx, flow) = (body.param(Reads::FX), self.flow(scope));
        quote! {
            fn #name(#up #(#params,)* #fx: &mut Fx<'_>) -> #flow {
                #body
            }
        }
    }
}
