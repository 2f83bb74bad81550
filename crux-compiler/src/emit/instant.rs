//! What takes no time: `emit` and `fail`.

use quote::quote;

use super::plan::StepId;
use super::tokens::Made;
use super::workflow::Generator;
use crate::ir::Verb;

impl Generator<'_, '_> {
    pub(super) fn instant(&self, id: StepId) -> Made {
        let step = &self.plan.steps[id];
        let (number, site) = (self.number(step), self.site(step));
        let enter = match &step.node.verb {
            Verb::Emit { event, routing_key, data } => {
                let route = super::routes::constant(routing_key);
                let (let_data, data) = site.inline(data).named("data");
                let go_on = self.go_on(id);
                quote!(#let_data fx.emit(#number, #event, routes::#route, #data) #go_on)
            }
            Verb::Fail { error, message } => {
                let (let_message, message) = site.inline(message).named("message");
                let failed = self.failed(id, &quote!(failure));
                let fail = quote!(fx.fail(#number, #error, #message));
                if self.plan.is_failure(step.scope) {
                    quote!(#let_message #fail)
                } else if step.node.catch.is_empty() {
                    quote!(#let_message Flow::Failed(#fail))
                } else {
                    quote! {
                        #let_message
                        let failure = #fail;
                        #failed
                    }
                }
            }
            _ => return Made::nothing(),
        };
        Made { enter, ..Made::nothing() }
    }
}
