//! `catch`, and how scopes are entered and offered events.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::body::{Body, Reads};
use super::go_on::Stay;
use super::names::ident;
use super::plan::{Key, ScopeId, StepId};
use super::tokens::{Variant, tuple};
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
                None => {
                    let gives = step.gives.iter().map(|key| self.kept_or_none(*key, id));
                    self.after(id, gives.collect())
                }
                Some(scope) => {
                    let (body, after) = self.handler(id, *scope, variants);
                    items.extend(after);
                    body
                }
            };
            match &catch.error {
                Some(error) => arms.push(Body::new(quote!(#error => #body), body.reads)),
                None => {
                    any = Some(body);
                    break;
                }
            }
        }
        let other = any.unwrap_or_else(|| Body::new(quote!(Flow::Failed(failure)), Reads::FAILURE));
        let body = if arms.is_empty() {
            other
        } else {
            Body::new(
                quote!(match failure.name() { #(#arms,)* _ => #other }),
                Body::reads_of(&arms) | other.reads | Reads::FAILURE,
            )
        };
        let catch = format_ident!("catch_{}", step.snake);
        let failure = body.param(Reads::FAILURE);
        let at = self.at_param(step, body.reads);
        let params: Vec<_> = at.into_iter().chain([quote!(#failure: Failure)]).collect();
        let function = self.step_function(
            step.scope,
            self.plan.catch_needs_view(step),
            &catch,
            &params,
            &body,
        );
        Some(quote!(#function #items))
    }

    /// What a step that has failed gives of the steps inside it.
    pub(super) fn kept_or_none(&self, key: Key<'_>, id: StepId) -> Body {
        let kept = self
            .plan
            .stands_inside(key, id)
            .then(|| super::function::kept(self.plan, self.module, key))
            .flatten();
        match kept {
            Some(kept) => Body::new(kept, Reads::FX),
            None => Body::constant(quote!(None)),
        }
    }

    /// Entering the steps of a catch and going on after them; and what goes on, where that is a
    /// separate function.
    fn handler(
        &self,
        id: StepId,
        scope: ScopeId,
        variants: &mut Vec<Variant>,
    ) -> (Body, TokenStream) {
        let step = &self.plan.steps[id];
        let (next, after) = self.next_after_catch(id, scope);
        if self.plan.scopes[scope].is_instant {
            let failure = Body::new(quote!(&failure), Reads::FAILURE);
            let view = self.view_inline(scope, &quote!(&at), &failure);
            let enter = self.enter_scope(scope, 0, view);
            if self.plan.is_failure(scope) {
                let failed = Body::new(quote!(Flow::Failed(#enter)), enter.reads);
                return (failed, TokenStream::new());
            }
            let go_on = next.then(&Stay::Never, None);
            return (Body::new(quote!(#enter #go_on), enter.reads | go_on.reads), after);
        }
        let (around, name) = (self.state(step.scope), ident(&self.plan.scopes[scope].name));
        let error = Body::new(quote!(error), Reads::ERROR);
        let view = self.view_inline(scope, &quote!(&at), &error);
        let go_on = next.then(&Stay::Variant(quote!(#around::#name)), None);
        let (enter, apply) =
            (self.enter_scope(scope, 0, view.clone()), self.apply_scope(scope, view));
        let (enter_error, apply_error) = (enter.param(Reads::ERROR), apply.param(Reads::ERROR));
        let enter_fx = enter.param(Reads::FX);
        variants.push(Variant {
            name: name.clone(),
            at: step.has_at().then(|| step.at_name.clone()),
            part: quote!(Handler<#name>),
            arm: Body::new(
                quote!(part.apply(fx, |#apply_error, inside, fx| #apply) #go_on),
                apply.reads.without(Reads::ERROR) | Reads::FX | go_on.reads,
            ),
            place: None,
        });
        let start = Body::new(
            quote!(Handler::start(failure, fx, |#enter_error, #enter_fx| #enter) #go_on),
            enter.reads.without(Reads::ERROR) | Reads::FAILURE | Reads::FX | go_on.reads,
        );
        (start, after)
    }

    /// Entering the first step of a sequence of a scope; `view`: what its steps see of what is
    /// around them, with a comma.
    pub(super) fn enter_scope(&self, scope: ScopeId, sequence: usize, view: Option<Body>) -> Body {
        let inner = &self.plan.scopes[scope];
        match inner.sequences.get(sequence).and_then(|steps| steps.first()) {
            Some(first) => {
                let first = &self.plan.steps[*first];
                // Nothing is live at the first step of a scope: what is around it is its view.
                let enter = format_ident!("enter_{}", first.snake);
                let view = view.filter(|_| self.plan.enter_needs_view(first));
                Body::new(quote!(#enter(#view fx)), Body::reads_of(&view) | Reads::FX)
            }
            None => {
                let nothing = tuple(inner.exports.iter().map(|_| quote!(None)).collect());
                Body::constant(quote!(Flow::Done(#nothing)))
            }
        }
    }

    /// `apply_ship(view, inside, event, fx)`.
    pub(super) fn apply_scope(&self, scope: ScopeId, view: Option<Body>) -> Body {
        let inner = &self.plan.scopes[scope];
        if inner.is_instant {
            let out = self.out(scope);
            return Body::constant(quote!(machine::never::<#out>(inside)));
        }
        let apply = format_ident!("apply_{}", inner.snake);
        let view = view.filter(|_| self.plan.apply_needs_view(scope));
        Body::new(
            quote!(#apply(#view inside, event, fx)),
            Body::reads_of(&view) | Reads::EVENT | Reads::FX,
        )
    }
}
