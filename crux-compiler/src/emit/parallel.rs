//! `parallel`: a struct of its branches, how they are started, and how an event reaches the one
//! that it is for.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::body::{Body, Reads};
use super::names::{ident, local};
use super::plan::StepId;
use super::tokens::{VerbCode, closure, time_option, tuple};
use super::view::View;
use super::workflow::Generator;
use crate::ir::{Node, Verb};

impl Generator<'_, '_> {
    pub(super) fn parallel(&self, id: StepId) -> VerbCode {
        let step = &self.plan.steps[id];
        let Verb::Parallel { branches, timeout_ms } = &step.node.verb else {
            return VerbCode::nothing();
        };
        let name = ident(&step.join_name);
        let outs: Vec<_> = step.inside.iter().map(|scope| self.out(*scope)).collect();
        let (alias, out) = match step.join_out_name.as_str() {
            "" => (None, tuple(outs.clone())),
            alias => {
                let alias = ident(alias);
                (Some(quote!(type #alias = (#(#outs),*);)), quote!(#alias))
            }
        };
        let fields: Vec<Ident> = branches.iter().map(|branch| branch_name(&branch.name)).collect();
        let states = step.inside.iter().map(|scope| self.state(*scope));
        let at_and_error = (quote!(at), Body::new(quote!(error), Reads::ERROR));
        let starts = step.inside.iter().zip(&fields).map(|(scope, field)| {
            let view = self.view_inline(*scope, &at_and_error.0, &at_and_error.1);
            let enter = closure(None, &self.enter_scope(*scope, 0, view));
            Body::new(
                quote!(let #field = Branch::start(&mut failed, fx, #enter);),
                enter.reads | Reads::FX,
            )
        });
        let starts: Vec<Body> = starts.collect();
        let applies =
            step.inside.iter().zip(&fields).zip(branches).filter_map(|((scope, field), branch)| {
                // An empty branch gets no events.
                let range = self.range(&branch.steps)?;
                if self.plan.scopes[*scope].is_instant {
                    return Some(Body::constant(
                        quote!(#range => all.#field.apply(&mut failed, machine::never)),
                    ));
                }
                let view = self.view(*scope, &at_and_error.0, &at_and_error.1);
                let apply = self.apply_scope(*scope, view.arg.clone());
                let apply =
                    Body::new(quote!(all.#field.apply(&mut failed, |inside| #apply)), apply.reads);
                let apply = view.before_arm(apply);
                Some(Body::new(quote!(#range => #apply), apply.reads))
            });
        let applies: Vec<Body> = applies.collect();
        let start_body = Body::new(
            quote! {
                let mut failed = None;
                #(#starts)*
                machine::joined(#name { #(#fields),* }, failed)
            },
            Body::reads_of(&starts),
        );
        let all_empty = applies.is_empty();
        let advance_body = if all_empty {
            Body::constant(quote!(machine::advanced(all, Err(RejectReason::NotOpen), None)))
        } else {
            Body::new(
                quote! {
                    let mut failed = None;
                    let applied = match event.path.node {
                        #(#applies,)*
                        _ => Err(RejectReason::NotOpen),
                    };
                    machine::advanced(all, applied, failed)
                },
                Body::reads_of(&applies) | Reads::EVENT,
            )
        };
        let (start, advance) =
            (format_ident!("start_{}", step.snake), format_ident!("advance_{}", step.snake));
        let (at, needs_view) = (ident(&step.at_name), self.plan.inside_needs_view(step));
        let at_param = |body: &Body| body.has(Reads::AT).then(|| quote!(at: &#at,));
        let (start_up, start_at) =
            (self.up_param(step.scope, start_body.reads, needs_view), at_param(&start_body));
        let (advance_up, advance_at) =
            (self.up_param(step.scope, advance_body.reads, needs_view), at_param(&advance_body));
        let (advance_event, advance_fx) =
            (advance_body.param(Reads::EVENT), advance_body.param(Reads::FX));
        let mutable = (!all_empty).then(|| quote!(mut));
        let items = quote! {
            #[derive(Part, Join)]
            pub struct #name {
                #(#fields: Branch<#states, #outs>),*
            }

            #alias

            fn #start(#start_up #start_at fx: &mut Fx<'_>) -> Inside<#name, #out> {
                #start_body
            }

            fn #advance(
                #advance_up #advance_at #mutable all: #name, #advance_event: &StepEvent, #advance_fx: &mut Fx<'_>
            ) -> Result<Inside<#name, #out>, Refused<#name>> {
                #advance_body
            }
        };
        let up = self.up_arg(step.scope, needs_view);
        let at_arg = |param: &Option<TokenStream>| {
            param.is_some().then(|| Body::new(quote!(&at,), Reads::AT))
        };
        let (start_at, advance_at) = (at_arg(&start_at), at_arg(&advance_at));
        let start = Body::new(
            quote!(#start(#up #start_at fx)),
            Body::reads_of(up.iter().chain(&start_at)) | Reads::FX,
        );
        let advance = Body::new(
            quote!(#advance(#up #advance_at inside, event, fx)),
            Body::reads_of(up.iter().chain(&advance_at)) | Reads::EVENT | Reads::FX,
        );
        VerbCode {
            items,
            ..self.made(
                id,
                quote!(#name),
                &View::default(),
                &time_option(*timeout_ms),
                &start,
                &advance,
            )
        }
    }

    /// The numbers of the nodes of a branch, as a pattern; `None`: it has none.
    fn range(&self, steps: &[Node]) -> Option<TokenStream> {
        let first = steps.first()?.no;
        let end = steps.last()?.end;
        let last = self.plan.last_step_before(end).filter(|last| *last > first);
        let first = self.plan.node(first);
        Some(match last {
            None => first,
            Some(last) => {
                let last = self.plan.node(last);
                quote!(#first..=#last)
            }
        })
    }
}

/// The field of a branch, which is a variable too where the parallel is started.
fn branch_name(name: &str) -> Ident {
    local(name, |_| false)
}
