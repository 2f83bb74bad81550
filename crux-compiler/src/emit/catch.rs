//! `catch`, and how scopes are entered and offered events.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::go_on::Stay;
use super::names::ident;
use super::plan::{Key, ScopeId, StepId};
use super::tokens::{Variant, param, tuple, used, used_fx};
use super::workflow::Generator;

impl Generator<'_, '_> {
    pub(super) fn catch_function(
        &self,
        id: StepId,
        variants: &mut Vec<Variant>,
    ) -> Option<TokenStream> {
        let step = &self.plan.steps[id];
        if step.node.catch.is_empty() {
            return None;
        }
        let mut arms = Vec::new();
        let mut any = None;
        let mut items = TokenStream::new();
        for (catch, scope) in step.node.catch.iter().zip(&step.catches) {
            let body = match scope {
                None => self.after(
                    id,
                    &quote!(at),
                    step.gives.iter().map(|key| self.kept_or_none(*key, id)).collect(),
                ),
                Some(scope) => {
                    let (body, after) = self.handler(id, *scope, variants);
                    items.extend(after);
                    body
                }
            };
            match &catch.error {
                Some(error) => arms.push(quote!(#error => #body)),
                None => {
                    any = Some(body);
                    break;
                }
            }
        }
        let other = any.unwrap_or_else(|| quote!(Flow::Failed(failure)));
        let body = if arms.is_empty() {
            other
        } else {
            quote!(match failure.name() { #(#arms,)* _ => #other })
        };
        let catch = format_ident!("catch_{}", step.snake);
        let failure = param("failure", &body);
        let at = self.at_param(step, &body);
        let params: Vec<_> = at.into_iter().chain([quote!(#failure: Failure)]).collect();
        let function = self.step_function(
            step.scope,
            self.plan.catch_needs_view(step),
            &catch,
            &params,
            (&body, &body),
        );
        Some(quote!(#function #items))
    }

    /// What a step that has failed gives of the steps inside it.
    pub(super) fn kept_or_none(&self, key: Key<'_>, id: StepId) -> TokenStream {
        let kept = self
            .plan
            .stands_inside(key, id)
            .then(|| super::function::kept(self.plan, self.module, key))
            .flatten();
        kept.unwrap_or_else(|| quote!(None))
    }

    /// Entering the steps of a catch and going on after them; and what goes on, where that is a
    /// function of its own.
    fn handler(
        &self,
        id: StepId,
        scope: ScopeId,
        variants: &mut Vec<Variant>,
    ) -> (TokenStream, TokenStream) {
        let step = &self.plan.steps[id];
        let (next, after) = self.next_after_catch(id, scope);
        if self.plan.scopes[scope].is_instant {
            let view = self.view_inline(scope, &quote!(&at), &quote!(&failure));
            let enter = self.enter_scope(scope, 0, view);
            if self.plan.is_failure(scope) {
                return (quote!(Flow::Failed(#enter)), TokenStream::new());
            }
            let go_on = next.then(&Stay::Never, None);
            return (quote!(#enter #go_on), after);
        }
        let (around, name) = (self.state(step.scope), ident(&self.plan.scopes[scope].name));
        let view = self.view_inline(scope, &quote!(&at), &quote!(error));
        let go_on = next.then(&Stay::Variant(quote!(#around::#name)), None);
        let (enter, apply) =
            (self.enter_scope(scope, 0, view.clone()), self.apply_scope(scope, view));
        let error = format_ident!("error");
        let (enter_error, apply_error, enter_fx) =
            (used(&enter, &error), used(&apply, &error), used_fx(&enter));
        variants.push(Variant {
            name: name.clone(),
            at: step.has_at().then(|| step.at_name.clone()),
            part: quote!(Handler<#name>),
            arm: quote!(part.apply(fx, |#apply_error, inside, fx| #apply) #go_on),
            place: None,
        });
        (quote!(Handler::start(failure, fx, |#enter_error, #enter_fx| #enter) #go_on), after)
    }

    /// Entering the first step of a sequence of a scope; `view`: what its steps see of what is
    /// around them, with a comma.
    pub(super) fn enter_scope(
        &self,
        scope: ScopeId,
        sequence: usize,
        view: Option<TokenStream>,
    ) -> TokenStream {
        let inner = &self.plan.scopes[scope];
        match inner.sequences.get(sequence).and_then(|steps| steps.first()) {
            Some(first) => {
                let first = &self.plan.steps[*first];
                // Nothing is live at the first step of a scope: what is around it is its view.
                let enter = format_ident!("enter_{}", first.snake);
                let view = view.filter(|_| self.plan.enter_needs_view(first));
                quote!(#enter(#view fx))
            }
            None => {
                let nothing = tuple(inner.exports.iter().map(|_| quote!(None)).collect());
                quote!(Flow::Done(#nothing))
            }
        }
    }

    /// `apply_ship(view, inside, event, fx)`.
    pub(super) fn apply_scope(&self, scope: ScopeId, view: Option<TokenStream>) -> TokenStream {
        let inner = &self.plan.scopes[scope];
        if inner.is_instant {
            let out = self.out(scope);
            return quote!(machine::never::<#out>(inside));
        }
        let apply = format_ident!("apply_{}", inner.snake);
        let view = view.filter(|_| self.plan.apply_needs_view(scope));
        quote!(#apply(#view inside, event, fx))
    }
}
