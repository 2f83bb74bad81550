//! What takes no time: `emit` and `fail`.

use quote::quote;

use super::body::{Body, Reads};
use super::plan::StepId;
use super::tokens::VerbCode;
use super::workflow::Generator;
use crate::ir::Verb;

impl Generator<'_, '_> {
    pub(super) fn instant(&self, id: StepId) -> VerbCode {
        let step = &self.plan.steps[id];
        let (number, site) = (self.number(step), self.site(step));
        let enter = match &step.node.verb {
            Verb::Emit { event, routing_key, data } => {
                let route = super::routes::constant(routing_key);
                let (let_data, data) = site.inline(data).named("data");
                let go_on = self.go_on(id);
                Body::new(
                    quote!(#let_data fx.emit(#number, #event, routes::#route, #data) #go_on),
                    let_data.reads | Reads::FX | go_on.reads,
                )
            }
            Verb::Fail { error, message } => {
                let (let_message, message) = site.inline(message).named("message");
                let failed = self.failed(id);
                let fail = quote!(fx.fail(#number, #error, #message));
                let reads = let_message.reads | Reads::FX;
                if self.plan.is_failure(step.scope) {
                    Body::new(quote!(#let_message #fail), reads)
                } else if step.node.catch.is_empty() {
                    Body::new(quote!(#let_message Flow::Failed(#fail)), reads)
                } else {
                    let body = quote! {
                        #let_message
                        let failure = #fail;
                        #failed
                    };
                    Body::new(body, reads | failed.reads)
                }
            }
            _ => return VerbCode::nothing(),
        };
        VerbCode { enter, ..VerbCode::nothing() }
    }
}
