//! Which case of a `switch` is entered: a `match` over the words of an enum, or else one condition
//! after the other.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::names::variant;
use super::plan::Step;
use super::tokens::{mentions, param, tuple, with_surroundings};
use super::view::View;
use super::workflow::Generator;
use crate::ir::{Case, Expr, Type, by_word};

impl<'a> Generator<'_, 'a> {
    /// `choose_<step>`, and its call.
    pub(super) fn choose(&self, step: &Step<'a>, cases: &'a [Case]) -> (TokenStream, TokenStream) {
        let scope = step.inside[0];
        let view = self.view(scope, &quote!(at), &quote!(error));
        let choices = match by_word(cases) {
            Some((value, words)) => self.match_words(step, cases, value, &words, &view),
            None => self.conditions(step, cases, &view),
        };
        let before = view.before.filter(|_| mentions(&choices, "view"));
        let body = with_surroundings(quote!(#before #choices));
        let (name, at_type, needs_view) = (
            format_ident!("choose_{}", step.snake),
            self.at_type(step),
            self.choose_needs_view(step),
        );
        let is_read = mentions(&body, "at");
        let (at, at_arg) = (is_read.then(|| quote!(at: &#at_type,)), is_read.then(|| quote!(&at,)));
        let (up, fx, flow) =
            (self.up_param(step.scope, &body, needs_view), param("fx", &body), self.flow(scope));
        let up_arg = self.up_arg(step.scope, needs_view);
        let item = quote! {
            fn #name(#up #at #fx: &mut Fx<'_>) -> #flow {
                #body
            }
        };
        (item, quote!(#name(#up_arg #at_arg fx)))
    }

    fn choose_needs_view(&self, step: &Step<'a>) -> bool {
        step.reads_outside || self.plan.inside_needs_view(step)
    }

    fn conditions(&self, step: &Step<'a>, cases: &'a [Case], view: &View) -> TokenStream {
        let scope = step.inside[0];
        let mut choices = TokenStream::new();
        for (index, case) in cases.iter().enumerate() {
            let enter = self.enter_scope(scope, index, view.arg.clone());
            let Some(when) = &case.when else {
                choices.extend(enter);
                return choices;
            };
            let when = self.site(step).inline(when);
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
        choices
    }

    fn match_words(
        &self,
        step: &Step<'a>,
        cases: &'a [Case],
        value: &'a Expr,
        words: &[&str],
        view: &View,
    ) -> TokenStream {
        let scope = step.inside[0];
        let inline = self.site(step).inline(value);
        let tokens = inline.tokens();
        let ty = self.module.ty(&value.ty);
        let mut arms = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let (word, enter) = (variant(word), self.enter_scope(scope, index, view.arg.clone()));
            arms.push(quote!(#ty::#word => #enter));
        }
        let is_covered = matches!(&value.ty, Type::Enum(all) if all.words.iter().all(|word| words.contains(&word.as_str())));
        if !is_covered {
            let other = match cases.len() > words.len() {
                true => self.enter_scope(scope, words.len(), view.arg.clone()),
                false => self.none_of_them(step),
            };
            arms.push(quote!(_ => #other));
        }
        if inline.fallible {
            return quote! {
                let value = match #tokens {
                    Ok(value) => value,
                    Err(failure) => return Flow::Failed(failure),
                };
                match value { #(#arms),* }
            };
        }
        quote!(match #tokens { #(#arms),* })
    }

    /// The step is done if no case holds.
    fn none_of_them(&self, step: &Step<'a>) -> TokenStream {
        let nothing =
            tuple(self.plan.scopes[step.inside[0]].exports.iter().map(|_| quote!(None)).collect());
        quote!(Flow::Done(#nothing))
    }
}
