//! The functions of one step: entering it, going on after it, catching its failure; and its arms in the scope's `apply`.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::expr::{count, field_value};
use super::function::{Function, Site, live_type, mentions};
use super::names::ident;
use super::plan::{Key, Scope, ScopeId, ScopeKind, Step, StepId};
use super::workflow::Generator;
use crate::ir::{SleepUntil, Task, Verb};

/// Everything that is generated for a step, but for its scope's enum and `apply`.
pub(super) struct Written {
    pub(super) items: TokenStream,
    /// The variants that hold it and its catches while they are open, with the types of their parts.
    pub(super) variants: Vec<Variant>,
}

pub(super) struct Variant {
    pub(super) name: Ident,
    /// The struct of the live values beside the part.
    pub(super) at: String,
    pub(super) part: TokenStream,
    /// `part.apply(…).then(…)`.
    pub(super) arm: TokenStream,
    pub(super) place: Option<String>,
}

/// What comes after a step: the values that it gives, each as an expression, in the order of [`Step::gives`].
type Gives = Vec<TokenStream>;

impl<'a> Generator<'_, 'a> {
    pub(super) fn step(&self, id: StepId) -> Written {
        let step = &self.plan.steps[id];
        let mut items = self.at_struct(&step.at_name, &step.live, step.scope);
        let mut variants = Vec::new();
        let site = self.site(step);
        let mut functions: Vec<Function> = Vec::new();
        let mut helpers = TokenStream::new();
        let go_on = self.go_on(id);
        let body = match &step.node.verb {
            Verb::Task(task) => {
                let (start, apply) = self.task(step, task, &site, &mut functions);
                let contract = self.contract(&task.contract);
                variants.push(self.variant(id, quote!(Leaf<#contract::Type>), quote!(#apply #go_on)));
                quote!(#start #go_on)
            }
            Verb::Wait { event, event_type, correlate, condition, timeout_ms } => {
                let number = number(step);
                let value = match correlate {
                    Some(value) => {
                        let function = site.function("value", &step.snake, None, quote!(String), |writer| writer.text(value));
                        let call = function.call(&quote!(up), &quote!(&at));
                        let call = if function.fallible { quote!(#call.map(Some)) } else { quote!(Ok(Some(#call))) };
                        functions.push(function);
                        call
                    }
                    None => quote!(Ok(None)),
                };
                let timeout = option(*timeout_ms);
                let ty = self.module.path(&event_type.name);
                let condition = match condition {
                    Some(condition) => {
                        let function =
                            site.function("where", &step.snake, Some(quote!(&#ty)), quote!(bool), |writer| writer.owned_code(condition));
                        let call = function.result(&quote!(up), &quote!(&at));
                        functions.push(function);
                        let fx = if mentions(&call, "fx") { quote!(fx) } else { quote!(_) };
                        let event = if mentions(&call, "event") { quote!(event) } else { quote!(_) };
                        quote!(|#event, #fx| #call)
                    }
                    None => quote!(|_, _| Ok(true)),
                };
                variants.push(self.variant(id, quote!(Wait<#ty>), quote!(part.apply(event, fx, #condition) #go_on)));
                quote!(Wait::start(#number, #event, #value, #timeout, fx) #go_on)
            }
            Verb::Sleep(until) => {
                let number = number(step);
                let until = match until {
                    SleepUntil::For { ms } => {
                        let ms = count(*ms);
                        quote!(Ok(fx.now().plus_ms(#ms)))
                    }
                    SleepUntil::Until(until) => {
                        let function = site.value("until", &step.snake, until);
                        let call = function.call(&quote!(up), &quote!(&at));
                        let call = if function.fallible { quote!(#call.map(Time::from)) } else { quote!(Ok(Time::from(#call))) };
                        functions.push(function);
                        call
                    }
                };
                variants.push(self.variant(id, quote!(Sleep), quote!(part.apply(event, fx) #go_on)));
                quote!(Sleep::start(#number, #until, fx) #go_on)
            }
            Verb::Emit { event, routing_key, data } => {
                let number = number(step);
                let function = site.value("data", &step.snake, data);
                let data = function.result(&quote!(up), &quote!(&at));
                functions.push(function);
                let route = super::routes::constant(routing_key);
                let after = self.after(id, &quote!(at), Vec::new());
                let failed = self.failed(id, &quote!(failure));
                quote! {
                    match fx.emit(#number, #event, routes::#route, #data) {
                        Ok(()) => #after,
                        Err(failure) => #failed,
                    }
                }
            }
            Verb::Fail { error, message } => {
                let number = number(step);
                let function = site.value("message", &step.snake, message);
                let call = function.call(&quote!(up), &quote!(&at));
                let failure = if function.fallible {
                    quote!(#call.map_or_else(|failure| failure, |message| Failure::new(#error, message)))
                } else {
                    quote!(Failure::new(#error, #call))
                };
                functions.push(function);
                let failed = self.failed(id, &quote!(failure));
                quote! {
                    let failure = fx.failed(#number, #failure);
                    #failed
                }
            }
            Verb::TaskThen { .. } | Verb::Group { .. } => {
                let scope = step.inside[0];
                let timeout = if let Verb::Group { timeout_ms, .. } = step.node.verb { option(timeout_ms) } else { quote!(None) };
                let enter = self.enter_scope(scope, 0, self.view_arg(scope));
                let apply = self.apply_scope(scope, self.view_arg(scope));
                let view = self.let_view(scope, &quote!(&at));
                let state = self.state(scope);
                variants.push(self.composite(id, &quote!(#state), &view, &apply, &go_on));
                self.within(step, &view, &timeout, &enter, &go_on)
            }
            Verb::Switch { branches } => {
                let scope = step.inside[0];
                let choose = self.choose(step, branches, &site, &mut functions);
                helpers.extend(choose);
                let (choose, up) = (format_ident!("choose_{}", step.snake), self.up_arg(step.scope));
                let apply = self.apply_scope(scope, self.view_arg(scope));
                let view = self.let_view(scope, &quote!(&at));
                let state = self.state(scope);
                variants.push(self.composite(id, &quote!(#state), &view, &apply, &go_on));
                self.within(step, &None, &quote!(None), &quote!(#choose(#up &at, fx)), &go_on)
            }
            Verb::Parallel { timeout_ms, .. } => {
                let (start, advance, parts) = self.parallel(id);
                helpers.extend(parts);
                let name = ident(&step.join_name);
                variants.push(self.composite(id, &quote!(#name), &None, &advance, &go_on));
                self.within(step, &None, &option(*timeout_ms), &start, &go_on)
            }
            Verb::Each { item_type, list, at_once, timeout_ms, yields, .. } => {
                let scope = step.inside[0];
                let function = site.value("list", &step.snake, list);
                let list = function.result(&quote!(up), &quote!(&at));
                functions.push(function);
                let view = self.view_inline(scope, &quote!(&at));
                let (enter, apply) = (self.enter_scope(scope, 0, view.clone()), self.apply_scope(scope, view));
                let item = self.item_name(scope);
                let (enter_item, apply_item) = (used(&enter, &item), used(&apply, &item));
                let enter = {
                    let fx = used_fx(&enter);
                    quote!(|#enter_item, #fx| #enter)
                };
                let apply = {
                    let fx = used_fx(&apply);
                    quote!(|#apply_item, inside, #fx| #apply)
                };
                let at_once = count((*at_once).into());
                let start = quote!(Each::start(#list, #at_once, fx, #enter));
                let (state, ty) = (self.state(scope), self.module.ty(item_type));
                let result = yields.as_ref().map_or_else(|| quote!(()), |yields| self.module.ty(&yields.ty));
                let advance = quote!(inside.apply(event, fx, #apply, #enter));
                variants.push(self.composite(id, &quote!(Each<#ty, #state, #result>), &None, &advance, &go_on));
                self.within(step, &None, &option(*timeout_ms), &start, &go_on)
            }
            Verb::Repeat { until, max, every_ms, timeout_ms, .. } => {
                let scope = step.inside[0];
                let inner = &self.plan.scopes[scope];
                let inner_site = Site { scope, live: &inner.exports, at: "", ..site };
                let function = inner_site.value("until", &step.snake, until);
                let round = round_pattern(self, inner, &function);
                let call = pass_round(self, scope, &function, function.result(&quote!(view), &quote!(at)));
                functions.push(function);
                let until = {
                    let fx = used_fx(&call);
                    quote!(|#round, #fx| #call)
                };
                let enter = self.enter_scope(scope, 0, self.view_arg(scope));
                let enter = {
                    let fx = used_fx(&enter);
                    quote!(|#fx| #enter)
                };
                let apply = self.apply_scope(scope, self.view_arg(scope));
                let apply = {
                    let fx = used_fx(&apply);
                    quote!(|inside, #fx| #apply)
                };
                let view = self.let_view(scope, &quote!(&at));
                let rounds = format_ident!("ROUNDS_{}", step.snake.to_uppercase());
                let (number, max, every) = (number(step), count((*max).into()), count(*every_ms));
                items.extend(quote!(const #rounds: Rounds = Rounds { node: #number, max: #max, every_ms: #every };));
                let start = quote!(Repeat::start(#rounds, fx, #enter, #until));
                let advance = quote!(inside.apply(#rounds, event, fx, #apply, #enter, #until));
                let state = self.state(scope);
                variants.push(self.composite(id, &quote!(Repeat<#state>), &view, &advance, &go_on));
                self.within(step, &view, &option(*timeout_ms), &start, &go_on)
            }
        };
        let when = self.when(id, &site, &mut functions);
        let enter = format_ident!("enter_{}", step.snake);
        let enter = self.step_function(step, &enter, &[("at", self.at_type(step))], self.flow(step.scope), quote!(#when #body));
        items.extend(enter);
        items.extend(self.after_function(id));
        items.extend(self.catch_function(id, &mut variants));
        items.extend(helpers);
        items.extend(functions.into_iter().map(|function| function.item));
        Written { items, variants }
    }

    fn site<'s>(&'s self, step: &'s Step<'a>) -> Site<'s, 'a> {
        Site { plan: self.plan, module: self.module, scope: step.scope, live: &step.live, at: &step.at_name }
    }

    /// `Leaf::start(…)`, with the undo before it, and `part.apply(…)`.
    fn task(&self, step: &Step<'a>, task: &'a Task, site: &Site<'_, 'a>, functions: &mut Vec<Function>) -> (TokenStream, TokenStream) {
        let number = number(step);
        let with = site.value("with", &step.snake, &task.with);
        let input = with.result(&quote!(up), &quote!(&at));
        functions.push(with);
        let start = match &task.key {
            Some(key) => {
                let function = site.value("key", &step.snake, key);
                let key = function.result(&quote!(up), &quote!(&at));
                functions.push(function);
                quote!(Leaf::start_keyed(#number, #input, #key, fx))
            }
            None => quote!(Leaf::start(#number, #input, fx)),
        };
        let push = task.undo.as_ref().map(|undo| self.push_undo(step, undo, site));
        (quote!(#push #start), quote!(part.apply(event, fx)))
    }

    /// `Within::start(…)`, with the view of what is inside before it.
    fn within(
        &self,
        step: &Step<'a>,
        view: &Option<TokenStream>,
        timeout: &TokenStream,
        start: &TokenStream,
        go_on: &TokenStream,
    ) -> TokenStream {
        let (number, fx) = (number(step), used_fx(start));
        let view = view.as_ref().filter(|_| mentions(start, "view"));
        quote!(#view Within::start(#number, #timeout, fx, |#fx| #start) #go_on)
    }

    /// The variant of a composite step, with `apply` for what is inside.
    fn composite(&self, id: StepId, inside: &TokenStream, view: &Option<TokenStream>, apply: &TokenStream, go_on: &TokenStream) -> Variant {
        let fx = used_fx(apply);
        let view = view.as_ref().filter(|_| mentions(apply, "view"));
        let arm = quote!(part.apply(event, fx, |inside, #fx| #apply) #go_on);
        let arm = if view.is_some() { quote!({ #view #arm }) } else { arm };
        self.variant(id, quote!(Within<#inside>), arm)
    }

    fn variant(&self, id: StepId, part: TokenStream, arm: TokenStream) -> Variant {
        let step = &self.plan.steps[id];
        Variant { name: ident(&step.camel), at: step.at_name.clone(), part, arm, place: Some(super::types::place(&step.node.place)) }
    }

    /// What stands before a step with `when`.
    fn when(&self, id: StepId, site: &Site<'_, 'a>, functions: &mut Vec<Function>) -> Option<TokenStream> {
        let step = &self.plan.steps[id];
        let function = site.value("when", &step.snake, step.node.when.as_ref()?);
        let call = function.call(&quote!(up), &quote!(&at));
        let number = number(step);
        let skip = self.after(id, &quote!(at), step.gives.iter().map(|_| quote!(None)).collect());
        let fallible = function.fallible;
        functions.push(function);
        Some(if fallible {
            let failed = self.failed(id, &quote!(failure));
            quote! {
                match #call {
                    Ok(true) => {}
                    Ok(false) => {
                        fx.skipped(#number);
                        return #skip;
                    }
                    Err(failure) => {
                        let failure = fx.failed(#number, failure);
                        return #failed;
                    }
                }
            }
        } else {
            quote! {
                if !#call {
                    fx.skipped(#number);
                    return #skip;
                }
            }
        })
    }

    /// What becomes of a failure of the step itself.
    fn failed(&self, id: StepId, failure: &TokenStream) -> TokenStream {
        let step = &self.plan.steps[id];
        if step.node.catch.is_empty() {
            return quote!(Flow::Failed(#failure));
        }
        let (catch, up) = (format_ident!("catch_{}", step.snake), self.up_arg(step.scope));
        quote!(#catch(#up at, #failure, fx))
    }

    /// `.then(at, State::Notify, fx, after_notify)`.
    fn go_on(&self, id: StepId) -> TokenStream {
        let step = &self.plan.steps[id];
        let scope = &self.plan.scopes[step.scope];
        let (state, variant) = (ident(&scope.name), ident(&step.camel));
        let next = self.next(id, None);
        if step.node.catch.is_empty() {
            return quote!(.then(at, #state::#variant, fx, #next));
        }
        let catch = format_ident!("catch_{}", step.snake);
        let catch = if scope.view.is_empty() { quote!(#catch) } else { quote!(|at, failure, fx| #catch(up, at, failure, fx)) };
        quote!(.then_or(at, #state::#variant, fx, #next, #catch))
    }

    /// The closure (or function) that takes what the step's part, or the steps of one of its catches, has given.
    fn next(&self, id: StepId, catch: Option<ScopeId>) -> TokenStream {
        let step = &self.plan.steps[id];
        // What comes, as a pattern; and what is made of it, by key.
        let (pattern, found): (TokenStream, Vec<(Key<'a>, TokenStream)>) = match catch {
            Some(scope) => self.exported(&[scope], step),
            None if step.inside.is_empty() || matches!(step.node.verb, Verb::Each { .. }) => match step.gives.first() {
                // Its own result is the only one that a step without exports gives (its catches give theirs on another way).
                Some(key) if self.is_own(*key, id) => {
                    let name = self.plan.field(*key);
                    let value = if matches!(step.node.verb, Verb::Each { .. }) { quote!(Arc::new(#name)) } else { quote!(#name) };
                    let value = if self.plan.is_optional(*key, step.scope) { quote!(Some(#value)) } else { value };
                    (quote!(#name), vec![(*key, value)])
                }
                _ => (quote!(_), Vec::new()),
            },
            None => self.exported(&step.inside, step),
        };
        let gives: Gives = step
            .gives
            .iter()
            .map(|key| found.iter().find(|(found, _)| found == key).map_or_else(|| quote!(None), |(_, value)| value.clone()))
            .collect();
        let is_same = gives.len() == found.len() && tuple(gives.clone()).to_string() == pattern.to_string();
        if is_same && !gives.is_empty() && self.plan.scopes[step.scope].view.is_empty() && !self.is_done_inline(id) {
            let after = format_ident!("after_{}", step.snake);
            return quote!(#after);
        }
        let after = self.after(id, &quote!(at), gives);
        let at = used(&after, &format_ident!("at"));
        let fx = used(&after, &format_ident!("fx"));
        quote!(|#at, #pattern, #fx| #after)
    }

    /// Whether a key is the step's own result, not that of a step in one of its catches.
    fn is_own(&self, key: Key<'a>, id: StepId) -> bool {
        self.plan.owner_id(key) == Some(id)
    }

    /// The pattern of what `scopes` give to `step` (a tuple of tuples), and the values for the keys that it passes on.
    fn exported(&self, scopes: &[ScopeId], step: &Step<'a>) -> (TokenStream, Vec<(Key<'a>, TokenStream)>) {
        let mut found = Vec::new();
        let mut patterns = Vec::new();
        for scope in scopes {
            let names = self.plan.scopes[*scope].exports.iter().map(|key| {
                let name = self.plan.field(*key);
                if !step.gives.contains(key) {
                    return quote!(_);
                }
                let wrap = self.plan.is_optional(*key, step.scope) && !self.plan.is_export_optional(*key, *scope);
                found.push((*key, if wrap { quote!(Some(#name)) } else { quote!(#name) }));
                quote!(#name)
            });
            let names: Vec<_> = names.collect();
            patterns.push(if names.is_empty() { quote!(()) } else { tuple(names) });
        }
        if found.is_empty() { (quote!(_), found) } else { (tuple(patterns), found) }
    }

    /// Going on after the step with what it gives, `at` being its live values.
    fn after(&self, id: StepId, at: &TokenStream, gives: Gives) -> TokenStream {
        let step = &self.plan.steps[id];
        if self.is_done_inline(id) {
            return self.done(id, at, &gives);
        }
        let (after, up) = (format_ident!("after_{}", step.snake), self.up_arg(step.scope));
        if gives.is_empty() {
            return quote!(#after(#up #at, fx));
        }
        let gives = tuple(gives);
        quote!(#after(#up #at, #gives, fx))
    }

    /// Whether nothing comes after the step but the end of a scope that gives results of steps: no function is needed for that.
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
    fn done(&self, id: StepId, at: &TokenStream, gives: &[TokenStream]) -> TokenStream {
        let step = &self.plan.steps[id];
        let scope = &self.plan.scopes[step.scope];
        let results = scope.exports.iter().map(|key| {
            let given = step.gives.iter().position(|given| given == key).and_then(|index| gives.get(index));
            let field = self.plan.field(*key);
            let value = match given {
                Some(value) => value.clone(),
                None if step.live.contains(key) => quote!(#at.#field),
                // Of another case of the switch.
                None => return quote!(None),
            };
            let wrap = scope.kind == ScopeKind::Switch && !self.plan.is_optional(*key, step.scope);
            if wrap { quote!(Some(#value)) } else { value }
        });
        let results = tuple(results.collect());
        quote!(Flow::Done(#results))
    }

    fn after_function(&self, id: StepId) -> Option<TokenStream> {
        let step = &self.plan.steps[id];
        if self.is_done_inline(id) || super::plan::is_end(step.node) {
            return None;
        }
        let after = format_ident!("after_{}", step.snake);
        let names: Vec<TokenStream> = step.gives.iter().map(|key| self.plan.field(*key)).map(|name| quote!(#name)).collect();
        let types = step.gives.iter().map(|key| live_type(self.plan, self.module, *key, self.plan.is_optional(*key, step.scope)));
        let types: Vec<TokenStream> = types.collect();
        let body = match step.next {
            Some(next) => {
                let next = &self.plan.steps[next];
                let (enter, up) = (format_ident!("enter_{}", next.snake), self.up_arg(step.scope));
                let at = self.at_value(&next.at_name, &next.live, step);
                quote!(#enter(#up #at, fx))
            }
            None => {
                let scope = &self.plan.scopes[step.scope];
                let (end, up) = (format_ident!("end_{}", scope.snake), self.up_arg(step.scope));
                let at = self.at_value(&scope.end_name, &scope.end, step);
                quote!(#end(#up #at, fx))
            }
        };
        let mut params = vec![("at", self.at_type(step))];
        let pattern = tuple(names).to_string();
        let result = self.gives_type(step, types);
        if !step.gives.is_empty() {
            params.push((pattern.as_str(), result));
        }
        Some(self.step_function(step, &after, &params, self.flow(step.scope), body))
    }

    /// The type of what a step gives; where that is several, by the name of the tuple of what is inside it, if it is the same.
    fn gives_type(&self, step: &Step<'a>, types: Vec<TokenStream>) -> TokenStream {
        let alias = match step.inside.as_slice() {
            [inside] => self.plan.scopes[*inside].out_name.as_str(),
            _ => step.join_out_name.as_str(),
        };
        let exported: Vec<(Key<'a>, ScopeId)> =
            step.inside.iter().flat_map(|scope| self.plan.scopes[*scope].exports.iter().map(|key| (*key, *scope))).collect();
        let is_flat = step.inside.len() == 1 || step.inside.iter().all(|scope| self.plan.scopes[*scope].exports.len() == 1);
        let is_same = is_flat
            && exported.iter().map(|(key, _)| *key).eq(step.gives.iter().copied())
            && exported.iter().all(|(key, scope)| self.plan.is_export_optional(*key, *scope) == self.plan.is_optional(*key, step.scope));
        if is_same && types.len() > 1 && !alias.is_empty() {
            let alias = ident(alias);
            quote!(#alias)
        } else {
            tuple(types)
        }
    }

    fn catch_function(&self, id: StepId, variants: &mut Vec<Variant>) -> Option<TokenStream> {
        let step = &self.plan.steps[id];
        if step.node.catch.is_empty() {
            return None;
        }
        let mut arms = Vec::new();
        let mut any = None;
        for (catch, scope) in step.node.catch.iter().zip(&step.catches) {
            let body = match scope {
                None => self.after(id, &quote!(at), step.gives.iter().map(|_| quote!(None)).collect()),
                Some(scope) => self.handler(id, *scope, variants),
            };
            match &catch.error {
                Some(error) => arms.push(quote!(#error => #body)),
                None => {
                    any = Some(body);
                    break;
                }
            }
        }
        let other = any.unwrap_or_else(|| quote!(Flow::Failed(failure)));
        let body = if arms.is_empty() { other } else { quote!(match failure.name.as_ref() { #(#arms,)* _ => #other }) };
        let catch = format_ident!("catch_{}", step.snake);
        let params = [("at", self.at_type(step)), ("failure", quote!(Failure))];
        Some(self.step_function(step, &catch, &params, self.flow(step.scope), body))
    }

    /// Entering the steps of a catch, and going on after them.
    fn handler(&self, id: StepId, scope: ScopeId, variants: &mut Vec<Variant>) -> TokenStream {
        let step = &self.plan.steps[id];
        let next = self.next(id, Some(scope));
        if self.plan.scopes[scope].is_instant {
            let view = self.view_inline_with(scope, &quote!(&at), &quote!(&failure));
            let enter = self.enter_scope(scope, 0, view);
            return quote!(#enter.then(at, machine::never_stays, fx, #next));
        }
        let (around, name) = (self.state(step.scope), ident(&self.plan.scopes[scope].name));
        let view = self.view_inline(scope, &quote!(&at));
        let (enter, apply) = (self.enter_scope(scope, 0, view.clone()), self.apply_scope(scope, view));
        let error = format_ident!("error");
        let (enter_error, apply_error, enter_fx) = (used(&enter, &error), used(&apply, &error), used_fx(&enter));
        variants.push(Variant {
            name: name.clone(),
            at: step.at_name.clone(),
            part: quote!(Handler<#name>),
            arm: quote!(part.apply(fx, |#apply_error, inside, fx| #apply).then(at, #around::#name, fx, #next)),
            place: None,
        });
        quote!(Handler::start(failure, fx, |#enter_error, #enter_fx| #enter).then(at, #around::#name, fx, #next))
    }

    /// Entering the first step of a sequence of a scope; `view`: what its steps see of what is around them, with a comma.
    pub(super) fn enter_scope(&self, scope: ScopeId, sequence: usize, view: Option<TokenStream>) -> TokenStream {
        let inner = &self.plan.scopes[scope];
        match inner.sequences.get(sequence).and_then(|steps| steps.first()) {
            Some(first) => {
                let first = &self.plan.steps[*first];
                let (enter, first_at) = (format_ident!("enter_{}", first.snake), ident(&first.at_name));
                quote!(#enter(#view #first_at, fx))
            }
            None if self.has_end(inner) => {
                let (end, end_at) = (format_ident!("end_{}", inner.snake), ident(&inner.end_name));
                quote!(#end(#view #end_at, fx))
            }
            None => {
                let nothing = tuple(inner.exports.iter().map(|_| quote!(None)).collect());
                quote!(Flow::Done(#nothing))
            }
        }
    }

    /// `apply_ship(view, inside, event, fx)`.
    pub(super) fn apply_scope(&self, scope: ScopeId, view: Option<TokenStream>) -> TokenStream {
        let inner = &self.plan.scopes[scope];
        if inner.is_instant {
            let out = self.out(scope);
            return quote!(machine::never::<#out>(inside));
        }
        let apply = format_ident!("apply_{}", inner.snake);
        quote!(#apply(#view inside, event, fx))
    }

    /// The struct `name` of the live values `keys`, made after `step`.
    pub(super) fn at_value(&self, name: &str, keys: &[Key<'a>], step: &Step<'a>) -> TokenStream {
        let name = ident(name);
        if keys.is_empty() {
            return quote!(#name);
        }
        let fields = keys.iter().map(|key| {
            let field = self.plan.field(*key);
            let value = if step.gives.contains(key) { quote!(#field) } else { quote!(at.#field) };
            field_value(&field, value)
        });
        quote!(#name { #(#fields),* })
    }

    fn at_type(&self, step: &Step<'a>) -> TokenStream {
        let at = ident(&step.at_name);
        quote!(#at)
    }

    pub(super) fn at_ref(&self, step: &Step<'a>) -> TokenStream {
        let at = ident(&step.at_name);
        quote!(&#at)
    }
}

/// What the closure of `until` gets.
fn round_pattern<'a>(generator: &Generator<'_, 'a>, scope: &Scope<'a>, function: &Function) -> TokenStream {
    let names = scope.exports.iter().map(|key| {
        let name = generator.plan.field(*key);
        if function.takes(&name.to_string()) { quote!(#name) } else { quote!(_) }
    });
    tuple_or_any(names.collect())
}

/// Results that may be absent are passed as `Option<&T>`.
fn pass_round<'a>(generator: &Generator<'_, 'a>, scope: ScopeId, function: &Function, call: TokenStream) -> TokenStream {
    let optional: Vec<Ident> = generator.plan.scopes[scope]
        .exports
        .iter()
        .filter(|key| generator.plan.is_optional(**key, scope))
        .map(|key| generator.plan.field(*key))
        .filter(|name| function.takes(&name.to_string()))
        .collect();
    if optional.is_empty() { call } else { quote!({ #(let #optional = #optional.as_deref();)* #call }) }
}

/// Nothing, one, or a tuple.
pub(super) fn tuple(parts: Vec<TokenStream>) -> TokenStream {
    match parts.as_slice() {
        [one] => quote!(#one),
        all => quote!((#(#all),*)),
    }
}

fn tuple_or_any(parts: Vec<TokenStream>) -> TokenStream {
    if parts.is_empty() { quote!(_) } else { tuple(parts) }
}

/// `name` if the tokens read a variable of that name, else `_`.
pub(super) fn used(tokens: &TokenStream, name: &Ident) -> TokenStream {
    if mentions(tokens, &name.to_string()) { quote!(#name) } else { quote!(_) }
}

pub(super) fn used_fx(tokens: &TokenStream) -> TokenStream {
    used(tokens, &format_ident!("fx"))
}

fn number(step: &Step<'_>) -> TokenStream {
    count(step.node.no.into())
}

fn option(ms: Option<u64>) -> TokenStream {
    match ms {
        Some(ms) => {
            let ms = count(ms);
            quote!(Some(#ms))
        }
        None => quote!(None),
    }
}
