//! Work: a task that is handed out.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote};

use super::body::{Body, Reads};
use super::names::ident;
use super::plan::{Step, StepId};
use super::tokens::{Part, VerbCode};
use super::workflow::Generator;
use crate::ir::{Task, Undo};

impl<'a> Generator<'_, 'a> {
    pub(super) fn work(&self, id: StepId, task: &'a Task) -> VerbCode {
        let step = &self.plan.steps[id];
        let (number, site, go_on) = (self.number(step), self.site(step), self.go_on(id));
        let contract = self.contract(&task.contract);
        let push = task.undo.as_ref().map(|undo| self.push_undo(step, undo));
        let (let_input, input) = site.inline(&task.with).named("input");
        let start = match &task.key {
            Some(key) => {
                let (let_key, key) = site.inline(key).named("key");
                let start = quote!(#let_key TaskStep::start_keyed(#number, #input, #key, fx));
                Body::new(start, let_key.reads | Reads::FX)
            }
            None => Body::new(quote!(TaskStep::start(#number, #input, fx)), Reads::FX),
        };
        VerbCode {
            enter: Body::new(
                quote!(#push #let_input #start #go_on),
                Body::reads_of(&push) | let_input.reads | start.reads | go_on.reads,
            ),
            open: Some(Part {
                ty: quote!(TaskStep<#contract::Type>),
                arm: Body::new(
                    quote!(part.apply(event, fx) #go_on),
                    Reads::EVENT | Reads::FX | go_on.reads,
                ),
            }),
            items: TokenStream::new(),
        }
    }

    /// `fx.push_undo(…);`
    fn push_undo(&self, step: &Step<'a>, undo: &'a Undo) -> Body {
        let number = self.number(step);
        let (variant, name) = (ident(&step.camel), ident(&step.undo_name));
        let captured = super::undo::captured(self, step, undo, &self.site(step));
        let fields: Vec<_> = captured
            .iter()
            .map(|captured| {
                super::expr::field_value(&captured.field, captured.value.to_token_stream())
            })
            .collect();
        let value = if fields.is_empty() { quote!(#name) } else { quote!(#name { #(#fields),* }) };
        Body::new(
            quote! {
                let undo = #value;
                fx.push_undo(#number, Undo::#variant(undo));
            },
            Body::reads_of(captured.iter().map(|captured| &captured.value)) | Reads::FX,
        )
    }
}
