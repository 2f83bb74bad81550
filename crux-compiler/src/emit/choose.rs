//! Which case of a `switch` is entered: a `match` over the words of an enum, or else one condition after the other.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::function::{Function, Site, mentions};
use super::names::{ident, type_name};
use super::plan::Step;
use super::step::tuple;
use super::workflow::Generator;
use crate::ir::{Case, Expr, ExprKind, Op, Type};

impl<'a> Generator<'_, 'a> {
    /// `choose_<step>`.
    pub(super) fn choose(&self, step: &Step<'a>, cases: &'a [Case], site: &Site<'_, 'a>, functions: &mut Vec<Function>) -> TokenStream {
        let scope = step.inside[0];
        let choices = match by_word(cases) {
            Some((value, words)) => self.match_words(step, cases, value, &words, site, functions),
            None => self.conditions(step, cases, site, functions),
        };
        let view = mentions(&choices, "view").then(|| self.let_view(scope, &quote!(at))).flatten();
        let name = format_ident!("choose_{}", step.snake);
        self.step_function(step, &name, &[("at", self.at_ref(step))], self.flow(scope), quote!(#view #choices))
    }

    fn conditions(&self, step: &Step<'a>, cases: &'a [Case], site: &Site<'_, 'a>, functions: &mut Vec<Function>) -> TokenStream {
        let scope = step.inside[0];
        let mut choices = TokenStream::new();
        for (index, case) in cases.iter().enumerate() {
            let enter = self.enter_scope(scope, index, self.view_arg(scope));
            let Some(when) = &case.when else {
                choices.extend(enter);
                return choices;
            };
            let function = site.value("case", &format!("{}_{}", step.snake, index + 1), when);
            let call = function.call(&quote!(up), &quote!(at));
            choices.extend(if function.fallible {
                quote! {
                    match #call {
                        Ok(true) => return #enter,
                        Ok(false) => {}
                        Err(failure) => return Flow::Failed(failure),
                    }
                }
            } else {
                quote!(if #call { return #enter; })
            });
            functions.push(function);
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
        site: &Site<'_, 'a>,
        functions: &mut Vec<Function>,
    ) -> TokenStream {
        let scope = step.inside[0];
        let function = site.value("case", &step.snake, value);
        let call = function.call(&quote!(up), &quote!(at));
        let call =
            if function.fallible { quote!(match #call { Ok(value) => value, Err(failure) => return Flow::Failed(failure) }) } else { call };
        functions.push(function);
        let ty = self.module.ty(&value.ty);
        let mut arms = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let (word, enter) = (ident(&type_name(word)), self.enter_scope(scope, index, self.view_arg(scope)));
            arms.push(quote!(#ty::#word => #enter));
        }
        let covered = matches!(&value.ty, Type::Enum(all) if all.words.iter().all(|word| words.contains(&word.as_str())));
        if !covered {
            let other = match cases.len() > words.len() {
                true => self.enter_scope(scope, words.len(), self.view_arg(scope)),
                false => self.none_of_them(step),
            };
            arms.push(quote!(_ => #other));
        }
        if mentions(&call, "failure") {
            return quote!(let value = #call; match value { #(#arms),* });
        }
        quote!(match #call { #(#arms),* })
    }

    /// The step is done if no case holds.
    fn none_of_them(&self, step: &Step<'a>) -> TokenStream {
        let nothing = tuple(self.plan.scopes[step.inside[0]].exports.iter().map(|_| quote!(None)).collect());
        quote!(Flow::Done(#nothing))
    }
}

/// The value and the word of each case, if all of them (but for the last, an `else`) compare the same enum with a word.
fn by_word(cases: &[Case]) -> Option<(&Expr, Vec<&str>)> {
    let mut value = None;
    let mut words = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let Some(when) = &case.when else { return (index + 1 == cases.len()).then_some((value?, words)) };
        let ExprKind::Binary { op: Op::Equal, left, right } = &when.kind else { return None };
        let ExprKind::Word(word) = &right.kind else { return None };
        let is_same = value.is_none_or(|value: &Expr| value == &**left);
        if !is_same || left.ty.is_optional() || words.contains(&word.as_str()) {
            return None;
        }
        value = Some(&**left);
        words.push(word);
    }
    Some((value?, words))
}
