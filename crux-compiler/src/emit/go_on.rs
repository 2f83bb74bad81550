//! What comes after a step: from what its part has given to the live values of the next one, or to
//! the result of the scope.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens as _, format_ident, quote};

use super::body::{Body, Reads};
use super::expr::field_value;
use super::names::ident;
use super::paths::live_type;
use super::plan::{Key, Scope, ScopeId, ScopeKind, Step, StepId};
use super::tokens::tuple;
use super::workflow::Generator;
use crate::ir::Verb;

/// The values that a step gives, each as an expression, in the order of [`Step::gives`].
type Gives = Vec<Body>;

/// How a flow goes on: `.optional()`, then `.with(at).then(…, fx, enter_finalize)`.
pub(super) struct Next {
    /// What is made of the result first.
    made: TokenStream,
    /// Whether the step has live values.
    has_at: bool,
    goal: Goal,
}

/// Where a flow goes when the step is done.
enum Goal {
    /// To a function that takes the result.
    Result(Body),
    /// To one that takes none.
    Nothing(Body),
    /// To one that takes the result and `up`, what is around the scope; or to a closure that takes
    /// the result alone.
    In { up: Body, function: TokenStream, closure: Body },
    /// To the end of the scope, whose result it is.
    End,
}

impl Next {
    /// `.with(at).then(stay, fx, next)`, with `catch` where there is one.
    pub(super) fn then(&self, stay: &Stay, catch: Option<Body>) -> Body {
        let Self { made, has_at, goal } = self;
        let with = has_at.then(|| quote!(.with(at)));
        let stay = match stay {
            Stay::Variant(variant) => variant.clone(),
            Stay::Never if *has_at => quote!(machine::never_stays_with),
            Stay::Never => quote!(machine::never_stays),
        };
        let read = match goal {
            Goal::Result(next) | Goal::Nothing(next) => next.reads | Reads::FX,
            Goal::In { up, closure, .. } => up.reads | closure.reads | Reads::FX,
            Goal::End => Reads::FX.when(catch.is_some()),
        };
        let reads = read | Body::reads_of(&catch) | Reads::AT.when(*has_at);
        let then = match (goal, catch) {
            (Goal::Result(next), None) => quote!(.then(#stay, fx, #next)),
            (Goal::Result(next), Some(catch)) => quote!(.then_or(#stay, fx, #next, #catch)),
            (Goal::Nothing(next), None) => quote!(.then_discard(#stay, fx, #next)),
            (Goal::Nothing(next), Some(catch)) => {
                quote!(.then_discard_or(#stay, fx, #next, #catch))
            }
            (Goal::In { up, function, .. }, None) => quote!(.then_in(#up #stay, fx, #function)),
            (Goal::In { closure, .. }, Some(catch)) => {
                quote!(.then_or(#stay, fx, #closure, #catch))
            }
            (Goal::End, None) => quote!(.finish(#stay)),
            (Goal::End, Some(catch)) => quote!(.finish_or(#stay, fx, #catch)),
        };
        Body::new(quote!(#made #with #then), reads)
    }
}

/// What holds a step while it is open.
pub(super) enum Stay {
    Variant(TokenStream),
    Never,
}

impl<'a> Generator<'_, 'a> {
    /// `.with(at).then(State::Notify, fx, enter_finalize)`.
    pub(super) fn go_on(&self, id: StepId) -> Body {
        let step = &self.plan.steps[id];
        let scope = &self.plan.scopes[step.scope];
        let (state, variant) = (ident(&scope.name), ident(&step.camel));
        let stay = if self.plan.is_instant_verb(step) {
            Stay::Never
        } else {
            Stay::Variant(quote!(#state::#variant))
        };
        let catch = (!step.node.catch.is_empty()).then(|| {
            let catch = format_ident!("catch_{}", step.snake);
            match self.up_arg(step.scope, self.plan.catch_needs_view(step)) {
                None => Body::constant(quote!(#catch)),
                Some(up) => {
                    let at = step.has_at().then(|| quote!(at,));
                    Body::new(quote!(|#at failure, fx| #catch(#up #at failure, fx)), up.reads)
                }
            }
        });
        self.next(id, None).then(&stay, catch)
    }

    /// What takes what the step's part, or the steps of one of its catches, has given.
    pub(super) fn next(&self, id: StepId, catch: Option<ScopeId>) -> Next {
        let step = &self.plan.steps[id];
        let (has_view, has_at) = (self.plan.after_needs_view(step), step.has_at());
        let PartResult { first, pattern, found, is_unit } = self.given(id, catch);
        let gives: Gives = step
            .gives
            .iter()
            .map(|key| match found.iter().find(|(found, _)| found == key) {
                Some((_, value)) => value.clone(),
                None if catch.is_some() => self.kept_or_none(*key, id),
                None => Body::constant(quote!(None)),
            })
            .collect();
        let done = self.is_done_inline(id).then(|| self.results(id, &gives));
        let value = done.clone().unwrap_or_else(|| Body::tuple(&gives));
        // Only a closure has `up`, or `at` before it is moved.
        let is_plain = (if done.is_some() { !value.has(Reads::AT) } else { !has_view })
            && !value.has(Reads::FX);
        let text = value.to_token_stream().to_string();
        if !is_plain {
            // What is passed on as it comes needs no names.
            let is_same = done.is_none()
                && first.is_empty()
                && !gives.is_empty()
                && text == pattern.to_string();
            if is_same {
                let name = self.after_name(id);
                let after = self.call_after(id, Some(Body::constant(quote!(given))));
                let at = has_at.then(|| quote!(at,));
                let goal = match self.up_arg(step.scope, true) {
                    Some(up) => Goal::In {
                        up,
                        function: quote!(#name),
                        closure: in_closure(quote!(|#at given, fx| #after), &after),
                    },
                    None => Goal::Result(Body::constant(quote!(#name))),
                };
                return Next { made: TokenStream::new(), has_at, goal };
            }
            let after = match &done {
                Some(results) => Body::new(quote!(Flow::Done(#results)), results.reads),
                None => self.after(id, gives.clone()),
            };
            let at = has_at.then(|| after.param(Reads::AT)).map(|at| quote!(#at,));
            let fx = after.param(Reads::FX);
            return match gives.is_empty() && done.is_none() {
                true => Next {
                    made: TokenStream::new(),
                    has_at,
                    goal: Goal::Nothing(in_closure(quote!(|#at #fx| #after), &after)),
                },
                false => Next {
                    made: first,
                    has_at,
                    goal: Goal::Result(in_closure(quote!(|#at #pattern, #fx| #after), &after)),
                },
            };
        }
        let after = self.after_name(id);
        if done.is_none() && gives.is_empty() {
            let goal = Goal::Nothing(Body::constant(quote!(#after)));
            return Next { made: TokenStream::new(), has_at, goal };
        }
        let given = pattern.to_string();
        let made = match text.as_str() {
            "()" if is_unit => TokenStream::new(),
            "()" => quote!(.discard()),
            same if same == given => first,
            some if some == quote!(Some(#pattern)).to_string() => quote!(#first.optional()),
            _ => quote!(#first.map_done(|#pattern| #value)),
        };
        // The end of a scope reads nothing of what is live.
        if done.is_some() {
            return Next { made, has_at, goal: Goal::End };
        }
        Next { made, has_at, goal: Goal::Result(Body::constant(quote!(#after))) }
    }

    /// The same after the steps of a catch. Results that the machine has kept are asked for in a
    /// function: both where the catch begins and where it goes on leads there.
    pub(super) fn next_after_catch(&self, id: StepId, catch: ScopeId) -> (Next, TokenStream) {
        let next = self.next(id, Some(catch));
        let step = &self.plan.steps[id];
        let asks = step.gives.iter().any(|key| self.kept_or_none(*key, id).has(Reads::FX));
        if !asks || self.plan.after_needs_view(step) {
            return (next, TokenStream::new());
        }
        let PartResult { pattern, found, .. } = self.given(id, Some(catch));
        let gives =
            step.gives.iter().map(|key| match found.iter().find(|(found, _)| found == key) {
                Some((_, value)) => value.clone(),
                None => self.kept_or_none(*key, id),
            });
        let after = self.after(id, gives.collect());
        let (name, at, out) = (
            format_ident!("after_{}", self.plan.scopes[catch].snake),
            self.at_param(step, after.reads),
            self.out(catch),
        );
        let is_void = found.is_empty();
        let given = (!is_void).then(|| quote!(#pattern: #out));
        let params: Vec<TokenStream> = at.into_iter().chain(given).collect();
        let function = self.step_function(step.scope, false, &name, &params, &after);
        let name = Body::constant(quote!(#name));
        let goal = if is_void { Goal::Nothing(name) } else { Goal::Result(name) };
        (Next { made: TokenStream::new(), has_at: step.has_at(), goal }, function)
    }

    /// What comes from the step's part or a catch.
    fn given(&self, id: StepId, catch: Option<ScopeId>) -> PartResult<'a> {
        let step = &self.plan.steps[id];
        let is_each = matches!(step.node.verb, Verb::Each { .. });
        let (pattern, found) = match catch {
            Some(scope) => self.exported(&[scope], step),
            None if step.inside.is_empty() || is_each => match step.gives.first() {
                // Its own result is the only one that a step without exports gives (its catches
                // give theirs on another way).
                Some(key) if self.is_own(*key, id) => {
                    let name = self.plan.field(*key);
                    let value = Body::constant(if self.plan.is_optional(*key, step.scope) {
                        quote!(Some(#name))
                    } else {
                        quote!(#name)
                    });
                    let first =
                        if is_each { quote!(.map_done(Arc::new)) } else { TokenStream::new() };
                    return PartResult {
                        first,
                        pattern: quote!(#name),
                        found: vec![(*key, value)],
                        is_unit: false,
                    };
                }
                _ => (quote!(_), Vec::new()),
            },
            None => self.exported(&step.inside, step),
        };
        let is_unit = match catch {
            Some(scope) => self.plan.scopes[scope].exports.is_empty(),
            None if matches!(step.node.verb, Verb::Sleep(_) | Verb::Emit { .. }) => true,
            None if is_each
                || step.inside.is_empty()
                || matches!(step.node.verb, Verb::Parallel { .. }) =>
            {
                false
            }
            None => step.inside.iter().all(|scope| self.plan.scopes[*scope].exports.is_empty()),
        };
        PartResult { first: TokenStream::new(), pattern, found, is_unit }
    }

    /// Whether a key is the step's own result, not that of a step in one of its catches.
    fn is_own(&self, key: Key<'a>, id: StepId) -> bool {
        self.plan.owner_id(key) == Some(id)
    }

    /// The pattern of what `scopes` give to `step` (a tuple of tuples), and the values for the keys
    /// that it passes on.
    fn exported(&self, scopes: &[ScopeId], step: &Step<'a>) -> (TokenStream, Vec<(Key<'a>, Body)>) {
        let mut found = Vec::new();
        let mut patterns = Vec::new();
        for scope in scopes {
            let names = self.plan.scopes[*scope].exports.iter().map(|key| {
                let name = self.plan.field(*key);
                if !step.gives.contains(key) {
                    return quote!(_);
                }
                let wrap = self.plan.is_optional(*key, step.scope)
                    && !self.plan.is_export_optional(*key, *scope);
                let value = if wrap { quote!(Some(#name)) } else { quote!(#name) };
                found.push((*key, Body::constant(value)));
                quote!(#name)
            });
            let names: Vec<_> = names.collect();
            patterns.push(if names.is_empty() { quote!(()) } else { tuple(names) });
        }
        if found.is_empty() { (quote!(_), found) } else { (tuple(patterns), found) }
    }

    /// Going on after the step with what it gives.
    pub(super) fn after(&self, id: StepId, gives: Gives) -> Body {
        if self.is_done_inline(id) {
            let results = self.results(id, &gives);
            return Body::new(quote!(Flow::Done(#results)), results.reads);
        }
        self.call_after(id, (!gives.is_empty()).then(|| Body::tuple(&gives)))
    }

    fn call_after(&self, id: StepId, given: Option<Body>) -> Body {
        let step = &self.plan.steps[id];
        let (after, up) =
            (self.after_name(id), self.up_arg(step.scope, self.plan.after_needs_view(step)));
        let reads =
            Body::reads_of(up.iter().chain(&given)) | Reads::AT.when(step.has_at()) | Reads::FX;
        let given = given.map(|given| quote!(#given,));
        let at = step.has_at().then(|| quote!(at,));
        Body::new(quote!(#after(#up #at #given fx)), reads)
    }

    /// Whether nothing comes after the step but the end of a scope that gives results of steps: no
    /// function is needed for that.
    fn is_done_inline(&self, id: StepId) -> bool {
        let step = &self.plan.steps[id];
        let scope = &self.plan.scopes[step.scope];
        step.next.is_none() && !self.has_end(scope)
    }

    /// Whether an expression ends the scope: `output` or `yield`.
    pub(super) fn has_end(&self, scope: &Scope<'a>) -> bool {
        match scope.kind {
            ScopeKind::Root => self.plan.workflow.output.is_some(),
            ScopeKind::Each { yields, .. } => yields.is_some(),
            _ => false,
        }
    }

    /// The end of a scope that gives results of steps.
    fn results(&self, id: StepId, gives: &[Body]) -> Body {
        let step = &self.plan.steps[id];
        let scope = &self.plan.scopes[step.scope];
        let results = scope.exports.iter().map(|key| {
            let given =
                step.gives.iter().position(|given| given == key).and_then(|index| gives.get(index));
            let field = self.plan.field(*key);
            let value = match given {
                Some(value) => value.clone(),
                None if step.live.contains(key) => Body::new(quote!(at.#field), Reads::AT),
                // Of another case of the switch.
                None => return Body::constant(quote!(None)),
            };
            let wrap = scope.kind == ScopeKind::Switch && !self.plan.is_optional(*key, step.scope);
            if wrap { Body::new(quote!(Some(#value)), value.reads) } else { value }
        });
        Body::tuple(&results.collect::<Vec<_>>())
    }

    /// What takes the live values of the step and what it gives: `enter_<next step>`, or
    /// `end_<scope>`.
    fn after_name(&self, id: StepId) -> Ident {
        let step = &self.plan.steps[id];
        match step.next {
            Some(next) => format_ident!("enter_{}", self.plan.steps[next].snake),
            None => format_ident!("end_{}", self.plan.scopes[step.scope].snake),
        }
    }

    /// The parameter for what a step gives; `None`: that is nothing.
    pub(super) fn given_param(&self, step: &Step<'a>) -> Option<TokenStream> {
        if step.gives.is_empty() {
            return None;
        }
        let names = step.gives.iter().map(|key| self.plan.field(*key)).map(|name| quote!(#name));
        let types = step.gives.iter().map(|key| {
            live_type(self.plan, self.module, *key, self.plan.is_optional(*key, step.scope))
        });
        let (pattern, ty) = (tuple(names.collect()), self.gives_type(step, types.collect()));
        Some(quote!(#pattern: #ty))
    }

    /// The type of what a step gives; where that is several, by the name of the tuple of what is
    /// inside it, if it is the same.
    fn gives_type(&self, step: &Step<'a>, types: Vec<TokenStream>) -> TokenStream {
        let alias = match step.inside.as_slice() {
            [inside] => self.plan.scopes[*inside].out_name.as_str(),
            _ => step.join_out_name.as_str(),
        };
        let exported: Vec<(Key<'a>, ScopeId)> = step
            .inside
            .iter()
            .flat_map(|scope| self.plan.scopes[*scope].exports.iter().map(|key| (*key, *scope)))
            .collect();
        let is_flat = step.inside.len() == 1
            || step.inside.iter().all(|scope| self.plan.scopes[*scope].exports.len() == 1);
        let is_same = is_flat
            && exported.iter().map(|(key, _)| *key).eq(step.gives.iter().copied())
            && exported.iter().all(|(key, scope)| {
                self.plan.is_export_optional(*key, *scope)
                    == self.plan.is_optional(*key, step.scope)
            });
        if is_same && types.len() > 1 && !alias.is_empty() {
            let alias = ident(alias);
            quote!(#alias)
        } else {
            tuple(types)
        }
    }

    /// The live values of a step, made of those of the step before it and what that gives.
    pub(super) fn at_value(&self, step: &Step<'a>, previous: &Step<'a>) -> Body {
        let name = ident(&step.at_name);
        let fields = step.live.iter().map(|key| {
            let field = self.plan.field(*key);
            let value =
                if previous.gives.contains(key) { quote!(#field) } else { quote!(at.#field) };
            field_value(&field, value)
        });
        let is_read = step.live.iter().any(|key| !previous.gives.contains(key));
        Body::new(quote!(#name { #(#fields),* }), Reads::AT.when(is_read))
    }
}

/// What a step's part gives.
struct PartResult<'a> {
    /// What is made of it in any case.
    first: TokenStream,
    pattern: TokenStream,
    /// The values in the pattern, by key.
    found: Vec<(Key<'a>, Body)>,
    /// Whether it is `()`.
    is_unit: bool,
}

/// A closure with the body `after`, which is given `at` and `fx`.
fn in_closure(closure: TokenStream, after: &Body) -> Body {
    Body::new(closure, after.reads.without(Reads::AT | Reads::FX))
}
