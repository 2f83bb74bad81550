//! Waiting: for an event, and for a time.

use proc_macro2::TokenStream;
use quote::quote;

use super::body::{Body, Reads, with_surroundings};
use super::expr::time;
use super::plan::StepId;
use super::tokens::{Part, VerbCode, time_option};
use super::workflow::Generator;
use crate::ir::{SleepUntil, Verb};

impl Generator<'_, '_> {
    pub(super) fn wait(&self, id: StepId) -> VerbCode {
        let step = &self.plan.steps[id];
        let Verb::Wait { event, event_type, correlate, condition, timeout_ms } = &step.node.verb
        else {
            return VerbCode::nothing();
        };
        let (number, site, go_on) = (self.number(step), self.site(step), self.go_on(id));
        let (let_value, value) = match correlate {
            None => (Body::default(), quote!(Ok(None))),
            Some(value) => {
                let value = site.inline_code(|writer| writer.text(value));
                let (let_value, _) = value.named("value");
                (
                    let_value,
                    if value.fallible { quote!(value.map(Some)) } else { quote!(Ok(Some(value))) },
                )
            }
        };
        let timeout = time_option(*timeout_ms);
        let ty = self.module.path(&event_type.name);
        let event_and_fx = Reads::EVENT | Reads::FX;
        let arm = match condition {
            None => Body::new(quote!(part.apply(event, fx) #go_on), event_and_fx | go_on.reads),
            Some(condition) => {
                let holds = with_surroundings(site.inline(condition).result());
                let (event, fx) = (holds.param(Reads::EVENT), holds.param(Reads::FX));
                let reads = holds.reads | event_and_fx | go_on.reads;
                let holds = if holds.has(Reads::FX) { quote!({ #holds }) } else { quote!(#holds) };
                Body::new(quote!(part.apply_if(event, fx, |#event, #fx| #holds) #go_on), reads)
            }
        };
        VerbCode {
            enter: Body::new(
                quote!(#let_value Wait::start(#number, #event, #value, #timeout, fx) #go_on),
                let_value.reads | Reads::FX | go_on.reads,
            ),
            open: Some(Part { ty: quote!(Wait<#ty>), arm }),
            items: TokenStream::new(),
        }
    }

    pub(super) fn sleep(&self, id: StepId, until: &SleepUntil) -> VerbCode {
        let step = &self.plan.steps[id];
        let (number, go_on) = (self.number(step), self.go_on(id));
        let (let_until, until) = match until {
            SleepUntil::For { ms } => {
                let ms = time(*ms);
                (Body::default(), quote!(Ok(fx.now().plus_ms(#ms))))
            }
            SleepUntil::Until(until) => {
                let until = self.site(step).inline(until);
                let (let_until, _) = until.named("until");
                (
                    let_until,
                    if until.fallible {
                        quote!(until.map(Time::from))
                    } else {
                        quote!(Ok(Time::from(until)))
                    },
                )
            }
        };
        VerbCode {
            enter: Body::new(
                quote!(#let_until Sleep::start(#number, #until, fx) #go_on),
                let_until.reads | Reads::FX | go_on.reads,
            ),
            open: Some(Part {
                ty: quote!(Sleep),
                arm: Body::new(
                    quote!(part.apply(event, fx) #go_on),
                    Reads::EVENT | Reads::FX | go_on.reads,
                ),
            }),
            items: TokenStream::new(),
        }
    }
}
