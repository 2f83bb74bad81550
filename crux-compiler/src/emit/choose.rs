//! Which case of a `switch` is entered: a `match` over the words of an enum, or else one condition
//! after the other.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::body::{Body, Reads, with_surroundings};
use super::names::variant;
use super::plan::Step;
use super::tokens::tuple;
use super::view::View;
use super::workflow::Generator;
use crate::ir::{Case, Expr, Type, by_word};

impl<'a> Generator<'_, 'a> {
    /// `choose_<step>`, and its call.
    pub(super) fn choose(&self, step: &Step<'a>, cases: &'a [Case]) -> (TokenStream, Body) {
        let scope = step.inside[0];
        let error = Body::new(quote!(error), Reads::ERROR);
        let view = self.view(scope, &quote!(at), &error);
        let choices = match by_word(cases) {
            Some((value, words)) => self.match_words(step, cases, value, &words, &view),
            None => self.conditions(step, cases, &view),
        };
        let body = with_surroundings(view.before(choices));
        let (name, at_type, needs_view) = (
            format_ident!("choose_{}", step.snake),
            self.at_type(step),
            self.choose_needs_view(step),
        );
        let is_read = body.has(Reads::AT);
        let (at, at_arg) = (is_read.then(|| quote!(at: &#at_type,)), is_read.then(|| quote!(&at,)));
        let (up, fx, flow) = (
            self.up_param(step.scope, body.reads, needs_view),
            body.param(Reads::FX),
            self.flow(scope),
        );
        let up_arg = self.up_arg(step.scope, needs_view);
        let item = quote! {
            fn #name(#up #at #fx: &mut Fx<'_>) -> #flow {
                #body
            }
        };
        let reads = Body::reads_of(&up_arg) | Reads::AT.when(is_read) | Reads::FX;
        (item, Body::new(quote!(#name(#up_arg #at_arg fx)), reads))
    }

    fn choose_needs_view(&self, step: &Step<'a>) -> bool {
        step.reads_outside || self.plan.inside_needs_view(step)
    }

    fn conditions(&self, step: &Step<'a>, cases: &'a [Case], view: &View) -> Body {
        let scope = step.inside[0];
        let (mut choices, mut reads) = (TokenStream::new(), Reads::NOTHING);
        for (index, case) in cases.iter().enumerate() {
            let enter = self.enter_scope(scope, index, view.arg.clone());
            reads = reads | enter.reads;
            let Some(when) = &case.when else {
                return Body::new(quote!(#choices #enter), reads);
            };
            let when = self.site(step).inline(when);
            reads = reads | when.reads;
            let holds = when.tokens();
            choices.extend(if when.fallible {
                quote! {
                    match #holds {
                        Ok(true) => return #enter,
                        Ok(false) => {}
                        Err(failure) => return Flow::Failed(failure),
                    }
                }
            } else {
                quote!(if #holds { return #enter; })
            });
        }
        choices.extend(self.none_of_them(step));
        Body::new(choices, reads)
    }

    fn match_words(
        &self,
        step: &Step<'a>,
        cases: &'a [Case],
        value: &'a Expr,
        words: &[&str],
        view: &View,
    ) -> Body {
        let scope = step.inside[0];
        let inline = self.site(step).inline(value);
        let tokens = inline.tokens();
        let ty = self.module.ty(&value.ty);
        let (mut arms, mut reads) = (Vec::new(), inline.reads);
        for (index, word) in words.iter().enumerate() {
            let (word, enter) = (variant(word), self.enter_scope(scope, index, view.arg.clone()));
            reads = reads | enter.reads;
            arms.push(quote!(#ty::#word => #enter));
        }
        let is_covered = matches!(&value.ty, Type::Enum(all) if all.words.iter().all(|word| words.contains(&word.as_str())));
        if !is_covered {
            let other = match cases.len() > words.len() {
                true => self.enter_scope(scope, words.len(), view.arg.clone()),
                false => Body::constant(self.none_of_them(step)),
            };
            reads = reads | other.reads;
            arms.push(quote!(_ => #other));
        }
        if inline.fallible {
            let body = quote! {
                let value = match #tokens {
                    Ok(value) => value,
                    Err(failure) => return Flow::Failed(failure),
                };
                match value { #(#arms),* }
            };
            return Body::new(body, reads);
        }
        Body::new(quote!(match #tokens { #(#arms),* }), reads)
    }

    /// The step is done if no case holds.
    fn none_of_them(&self, step: &Step<'a>) -> TokenStream {
        let nothing =
            tuple(self.plan.scopes[step.inside[0]].exports.iter().map(|_| quote!(None)).collect());
        quote!(Flow::Done(#nothing))
    }
}
