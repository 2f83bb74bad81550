//! Steps with one scope inside: groups, `switch`, `each`, `repeat`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::body::{Body, Reads, used};
use super::expr::{count, time};
use super::plan::{ScopeId, Step, StepId};
use super::tokens::{Part, VerbCode, closure, time_option};
use super::view::View;
use super::workflow::Generator;
use crate::ir::{Case, Value, Verb};

impl<'a> Generator<'_, 'a> {
    /// A group, or a task with steps.
    pub(super) fn group(&self, id: StepId) -> VerbCode {
        let step = &self.plan.steps[id];
        let scope = step.inside[0];
        let timeout = if let Verb::Group { timeout_ms, .. } = step.node.verb {
            time_option(timeout_ms)
        } else {
            quote!(None)
        };
        let view = self.view_inside(scope);
        let enter = self.enter_scope(scope, 0, view.arg.clone());
        let apply = self.apply_scope(scope, view.arg.clone());
        self.made(id, self.state(scope), &view, &timeout, &enter, &apply)
    }

    pub(super) fn switch(&self, id: StepId, branches: &'a [Case]) -> VerbCode {
        let step = &self.plan.steps[id];
        let scope = step.inside[0];
        let view = self.view_inside(scope);
        let apply = self.apply_scope(scope, view.arg.clone());
        let (items, choose) = self.choose(step, branches);
        VerbCode {
            items,
            ..self.made(id, self.state(scope), &view, &quote!(None), &choose, &apply)
        }
    }

    pub(super) fn each(&self, id: StepId) -> VerbCode {
        let step = &self.plan.steps[id];
        let Verb::Each { item_type, list, concurrency, timeout_ms, yields, .. } = &step.node.verb
        else {
            return VerbCode::nothing();
        };
        let scope = step.inside[0];
        let (let_list, list) = self.site(step).inline(list).named("list");
        let view = self.view_inline(scope, &quote!(&at), &error());
        let (enter, apply) =
            (self.enter_scope(scope, 0, view.clone()), self.apply_scope(scope, view));
        let item = self.item_name(scope);
        let (enter_item, apply_item) =
            (used(enter.has(Reads::ITEM), &item), used(apply.has(Reads::ITEM), &item));
        let (enter_fx, apply_fx) = (enter.param(Reads::FX), apply.param(Reads::FX));
        let inside = (enter.reads | apply.reads).without(Reads::ITEM);
        let enter = quote!(|#enter_item, #enter_fx| #enter);
        let (concurrency, timeout) = (count((*concurrency).into()), time_option(*timeout_ms));
        let (state, ty) = (self.state(scope), self.module.ty(item_type));
        let result =
            yields.as_ref().map_or_else(|| quote!(()), |yields| self.module.ty(&yields.ty));
        let (number, go_on) = (self.number(step), self.go_on(id));
        // Its result is no event's: where it is to be kept, it is said here.
        let own = self.plan.key(&Value::Step(step.node.id.clone()));
        let keep =
            own.and_then(|own| self.plan.kept_number(own)).map(|_| quote!(.keep(#number, fx)));
        VerbCode {
            enter: Body::new(
                quote!(#let_list Composite::each(#number, #timeout, #list, #concurrency, fx, #enter) #keep #go_on),
                let_list.reads | inside.without(Reads::EVENT) | Reads::FX | go_on.reads,
            ),
            open: Some(Part {
                ty: quote!(Composite<Each<#ty, #state, #result>>),
                arm: Body::new(
                    quote!(part.apply_each(event, fx, |#apply_item, inside, #apply_fx| #apply, #enter) #keep #go_on),
                    inside | Reads::EVENT | Reads::FX | go_on.reads,
                ),
            }),
            items: TokenStream::new(),
        }
    }

    pub(super) fn repeat(&self, id: StepId) -> VerbCode {
        let step = &self.plan.steps[id];
        let Verb::Repeat { until, max, every_ms, timeout_ms, .. } = &step.node.verb else {
            return VerbCode::nothing();
        };
        let scope = step.inside[0];
        let view = self.view_inside(scope);
        let until = self.until(id, until, view.arg.clone());
        let (enter, apply) = (
            self.enter_scope(scope, 0, view.arg.clone()),
            self.apply_scope(scope, view.arg.clone()),
        );
        let (enter, apply) = (closure(None, &enter), closure(Some("inside"), &apply));
        let rounds = format_ident!("ROUNDS_{}", step.snake.to_uppercase());
        let (number, max, every) = (self.number(step), count((*max).into()), time(*every_ms));
        let (asked, item) = (until.closure, until.item);
        let (state, timeout, go_on) = (self.state(scope), time_option(*timeout_ms), self.go_on(id));
        let reads = enter.reads | asked.reads | Reads::FX | go_on.reads;
        let start = Body::new(
            quote!(Composite::repeat(#rounds, #timeout, fx, #enter, #asked) #go_on),
            reads,
        );
        let arm = Body::new(
            quote!(part.apply_repeat(#rounds, event, fx, #apply, #enter, #asked) #go_on),
            reads | apply.reads | Reads::EVENT,
        );
        VerbCode {
            enter: view.before(start),
            open: Some(Part { ty: quote!(Composite<Repeat<#state>>), arm: view.before_arm(arm) }),
            items: quote! {
                const #rounds: Rounds = Rounds::new(#number, #max, #every);

                #item
            },
        }
    }

    fn view_inside(&self, scope: ScopeId) -> View {
        self.view(scope, &quote!(&at), &error())
    }

    /// A composite step: how what is inside it is started, and how an event is offered to that.
    pub(super) fn made(
        &self,
        id: StepId,
        inside: TokenStream,
        view: &View,
        timeout: &TokenStream,
        start: &Body,
        apply: &Body,
    ) -> VerbCode {
        let step: &Step<'a> = &self.plan.steps[id];
        let (number, go_on) = (self.number(step), self.go_on(id));
        let (start, apply) = (closure(None, start), closure(Some("inside"), apply));
        let enter = Body::new(
            quote!(Composite::start(#number, #timeout, fx, #start) #go_on),
            start.reads | Reads::FX | go_on.reads,
        );
        let arm = Body::new(
            quote!(part.apply(event, fx, #apply) #go_on),
            apply.reads | Reads::EVENT | Reads::FX | go_on.reads,
        );
        VerbCode {
            enter: view.before(enter),
            open: Some(Part { ty: quote!(Composite<#inside>), arm: view.before_arm(arm) }),
            items: TokenStream::new(),
        }
    }
}

/// What the steps of a catch see of its failure; no other step provides that.
fn error() -> Body {
    Body::new(quote!(error), Reads::ERROR)
}
