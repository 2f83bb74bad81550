//! Scopes: their enum, what is open in it, its `apply`, and the view of what is around it. A `parallel` has a struct of its branches
//! besides.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::expr::field_value;
use super::function::{item_type, live_type, mentions, outer_field};
use super::names::{ident, is_variable, variable};
use super::plan::{Key, Outer, ScopeId, ScopeKind, Step, StepId};
use super::step::{Variant, tuple};
use super::text::Items;
use super::workflow::Generator;
use crate::ir::Verb;

impl<'a> Generator<'_, 'a> {
    /// A scope, its steps, and the scopes inside them.
    pub(super) fn scope(&self, id: ScopeId, items: &mut Items) {
        let scope = &self.plan.scopes[id];
        let mut steps = Vec::new();
        let mut variants = Vec::new();
        for step in scope.sequences.iter().flatten() {
            let written = self.step(*step);
            variants.extend(written.variants);
            steps.push((*step, written.items));
        }
        let name = ident(&scope.name);
        if id == 0 {
            items.push(self.scope_enum(&name, &variants));
            items.push(self.machine(&variants));
        } else {
            if !scope.is_instant {
                items.push(self.scope_enum(&name, &variants));
                items.push(self.apply_function(id, &variants));
            }
            items.push(self.view_struct(id));
            let is_used = !steps.is_empty() || self.has_end(scope) || scope.kind == ScopeKind::Switch;
            if !is_used {
                return;
            }
            let (flow_name, out) = (ident(&scope.flow_name), self.out(id));
            let state = self.state(id);
            items.push(quote!(type #flow_name = Flow<#state, #out>;));
        }
        items.push(self.out_alias(id));
        for (step, tokens) in steps {
            let step = &self.plan.steps[step];
            items.heading(&format!("`{}`, {}", step.node.path, super::types::place(&step.node.place)));
            items.push(tokens);
            for inner in step.inside.iter().copied().chain(step.catches.iter().copied().flatten()) {
                self.scope(inner, items);
            }
        }
        items.push(self.end_function(id));
    }

    fn scope_enum(&self, name: &Ident, variants: &[Variant]) -> TokenStream {
        let declared = variants.iter().map(|variant| {
            let (variant_name, at, part) = (&variant.name, ident(&variant.at), &variant.part);
            let doc = variant.place.as_ref().map(|place| format!(" `{place}`")).into_iter();
            quote!(#(#[doc = #doc])* #variant_name(#at, #part))
        });
        quote! {
            #[derive(Part)]
            pub enum #name {
                #(#declared),*
            }
        }
    }

    /// The enum of a scope.
    pub(super) fn state(&self, id: ScopeId) -> TokenStream {
        let scope = &self.plan.scopes[id];
        let name = ident(if scope.is_instant { "Never" } else { &scope.name });
        quote!(#name)
    }

    pub(super) fn arms(&self, name: &Ident, variants: &[Variant]) -> TokenStream {
        if variants.is_empty() {
            return quote!(match state {});
        }
        let arms = variants.iter().map(|variant| {
            let (variant_name, arm) = (&variant.name, &variant.arm);
            quote!(#name::#variant_name(at, part) => #arm)
        });
        quote!(match state { #(#arms),* })
    }

    fn apply_function(&self, id: ScopeId, variants: &[Variant]) -> TokenStream {
        let scope = &self.plan.scopes[id];
        let (name, out) = (ident(&scope.name), self.out(id));
        let body = self.arms(&name, variants);
        let up = self.up_param(id, &body);
        let apply = format_ident!("apply_{}", scope.snake);
        let (event, fx) = (param("event", &body), param("fx", &body));
        quote! {
            fn #apply(#up state: #name, #event: &StepEvent, #fx: &mut Fx<'_>) -> Applied<#name, #out> {
                #body
            }
        }
    }

    /// What the steps of the scope see of what is around it.
    fn view_struct(&self, id: ScopeId) -> TokenStream {
        let scope = &self.plan.scopes[id];
        if scope.view.is_empty() {
            return TokenStream::new();
        }
        let name = ident(&scope.view_name);
        let fields = scope.view.iter().map(|outer| {
            let field = outer_field(self.plan, *outer);
            let ty = match outer {
                Outer::At(step) => {
                    let at = ident(&self.plan.steps[*step].at_name);
                    quote!(#at)
                }
                Outer::Item(item) => item_type(self.plan, self.module, item, id),
                Outer::Error => quote!(Failure),
            };
            quote!(#field: &'a #ty)
        });
        quote! {
            #[derive(Clone, Copy)]
            struct #name<'a> {
                #(#fields),*
            }
        }
    }

    /// The view of a scope, made in the scope around it beside the live values `at` (a reference) of the step around it.
    fn view_value(&self, id: ScopeId, at: &TokenStream) -> TokenStream {
        self.view_with(id, at, &quote!(error))
    }

    fn view_with(&self, id: ScopeId, at: &TokenStream, error: &TokenStream) -> TokenStream {
        let scope = &self.plan.scopes[id];
        let name = ident(&scope.view_name);
        let fields = scope.view.iter().map(|outer| {
            let field = outer_field(self.plan, *outer);
            let value = match outer {
                _ if !self.plan.provides(id, *outer) => quote!(up.#field),
                Outer::At(_) => at.clone(),
                Outer::Item(_) => {
                    let item = self.item_name(id);
                    quote!(#item)
                }
                Outer::Error => error.clone(),
            };
            field_value(&field, value)
        });
        quote!(#name { #(#fields),* })
    }

    /// The variable of the element of an `each`.
    pub(super) fn item_name(&self, id: ScopeId) -> Ident {
        match self.plan.scopes[id].kind {
            ScopeKind::Each { item, .. } if is_variable(item) => format_ident!("each_{item}"),
            ScopeKind::Each { item, .. } => variable(item),
            _ => format_ident!("item"),
        }
    }

    /// `let view = InShip { … };`, or nothing where the scope's steps see nothing around them.
    pub(super) fn let_view(&self, id: ScopeId, at: &TokenStream) -> Option<TokenStream> {
        (!self.plan.scopes[id].view.is_empty()).then(|| {
            let view = self.view_value(id, at);
            quote!(let view = #view;)
        })
    }

    /// The view itself and a comma, likewise.
    pub(super) fn view_inline(&self, id: ScopeId, at: &TokenStream) -> Option<TokenStream> {
        self.view_inline_with(id, at, &quote!(error))
    }

    /// The same where the failure that it may hold is `error`.
    pub(super) fn view_inline_with(&self, id: ScopeId, at: &TokenStream, error: &TokenStream) -> Option<TokenStream> {
        (!self.plan.scopes[id].view.is_empty()).then(|| {
            let view = self.view_with(id, at, error);
            quote!(#view,)
        })
    }

    /// `view,`, likewise.
    pub(super) fn view_arg(&self, id: ScopeId) -> Option<TokenStream> {
        (!self.plan.scopes[id].view.is_empty()).then(|| quote!(view,))
    }

    /// `up,` for the functions of a scope that sees something around it.
    pub(super) fn up_arg(&self, id: ScopeId) -> Option<TokenStream> {
        (!self.plan.scopes[id].view.is_empty()).then(|| quote!(up,))
    }

    pub(super) fn up_param(&self, id: ScopeId, body: &TokenStream) -> Option<TokenStream> {
        let scope = &self.plan.scopes[id];
        (!scope.view.is_empty()).then(|| {
            let (up, view) = (param("up", body), ident(&scope.view_name));
            quote!(#up: #view<'_>,)
        })
    }

    /// The type of what a scope gives.
    pub(super) fn out(&self, id: ScopeId) -> TokenStream {
        let scope = &self.plan.scopes[id];
        match scope.kind {
            ScopeKind::Root if self.plan.workflow.output.is_none() => quote!(()),
            ScopeKind::Root => quote!(Output),
            ScopeKind::Each { yields, .. } => yields.map_or_else(|| quote!(()), |yields| self.module.ty(&yields.ty)),
            _ if !scope.out_name.is_empty() => {
                let name = ident(&scope.out_name);
                quote!(#name)
            }
            _ => tuple(scope.exports.iter().map(|key| self.export_type(*key, id)).collect()),
        }
    }

    fn export_type(&self, key: Key<'a>, scope: ScopeId) -> TokenStream {
        live_type(self.plan, self.module, key, self.plan.is_export_optional(key, scope))
    }

    pub(super) fn flow(&self, id: ScopeId) -> TokenStream {
        match self.plan.scopes[id].flow_name.as_str() {
            "" => {
                let (name, out) = (self.state(id), self.out(id));
                quote!(Flow<#name, #out>)
            }
            name => {
                let name = ident(name);
                quote!(#name)
            }
        }
    }

    fn out_alias(&self, id: ScopeId) -> TokenStream {
        let scope = &self.plan.scopes[id];
        if scope.out_name.is_empty() {
            return TokenStream::new();
        }
        let (name, types) = (ident(&scope.out_name), scope.exports.iter().map(|key| self.export_type(*key, id)));
        quote!(type #name = (#(#types),*);)
    }

    /// The live values of a step, or of the end of a scope.
    pub(super) fn at_struct(&self, name: &str, keys: &[Key<'a>], scope: ScopeId) -> TokenStream {
        let name = ident(name);
        if keys.is_empty() {
            return quote!(pub struct #name;);
        }
        let fields = keys.iter().map(|key| {
            let (field, ty) = (self.plan.field(*key), live_type(self.plan, self.module, *key, self.plan.is_optional(*key, scope)));
            quote!(#field: #ty)
        });
        quote!(pub struct #name { #(#fields),* })
    }

    /// What ends a scope with an expression: `output` or `yield`.
    fn end_function(&self, id: ScopeId) -> TokenStream {
        let scope = &self.plan.scopes[id];
        let expr = match scope.kind {
            ScopeKind::Root => self.plan.workflow.output.as_ref(),
            ScopeKind::Each { yields, .. } => yields,
            _ => None,
        };
        // After a `fail` there is no end.
        let is_reached =
            scope.sequences.iter().any(|steps| steps.last().is_none_or(|last| !super::plan::is_end(self.plan.steps[*last].node)));
        let Some(expr) = expr.filter(|_| is_reached) else { return TokenStream::new() };
        let at_struct = self.at_struct(&scope.end_name, &scope.end, id);
        let site = super::function::Site { plan: self.plan, module: self.module, scope: id, live: &scope.end, at: &scope.end_name };
        let is_root = scope.kind == ScopeKind::Root;
        let function = if is_root { site.value("output", "value", expr) } else { site.value("yield", &scope.snake, expr) };
        let call = function.call(&quote!(up), &quote!(&at));
        let failed = if is_root { quote!(failure.output()) } else { quote!(failure) };
        let body = if function.fallible {
            quote! {
                match #call {
                    Ok(value) => Flow::Done(value),
                    Err(failure) => Flow::Failed(#failed),
                }
            }
        } else {
            quote!(Flow::Done(#call))
        };
        let (end, end_at, flow) = (format_ident!("end_{}", scope.snake), ident(&scope.end_name), self.flow(id));
        let (up, at, fx) = (self.up_param(id, &body), param("at", &body), param("fx", &body));
        let item = function.item;
        quote! {
            #at_struct

            fn #end(#up #at: #end_at, #fx: &mut Fx<'_>) -> #flow {
                #body
            }

            #item
        }
    }

    /// A `parallel`: how it is started, how an event reaches its branches, and the items for both.
    pub(super) fn parallel(&self, id: StepId) -> (TokenStream, TokenStream, TokenStream) {
        let step = &self.plan.steps[id];
        let name = ident(&step.join_name);
        let Verb::Parallel { branches, .. } = &step.node.verb else { return Default::default() };
        let outs: Vec<_> = step.inside.iter().map(|scope| self.out(*scope)).collect();
        let (alias, out) = match step.join_out_name.as_str() {
            "" => (None, tuple(outs.clone())),
            alias => {
                let alias = ident(alias);
                (Some(quote!(type #alias = (#(#outs),*);)), quote!(#alias))
            }
        };
        let fields: Vec<Ident> = branches.iter().map(|branch| self.branch_name(&branch.name)).collect();
        let states = step.inside.iter().map(|scope| self.state(*scope));
        let views =
            step.inside.iter().zip(&fields).filter(|(scope, _)| !self.plan.scopes[**scope].view.is_empty()).map(|(scope, field)| {
                let view = self.view_value(*scope, &quote!(at));
                quote!(let #field = #view;)
            });
        let starts = step.inside.iter().zip(&fields).map(|(scope, field)| {
            let view = (!self.plan.scopes[*scope].view.is_empty()).then(|| quote!(#field,));
            let enter = self.enter_scope(*scope, 0, view);
            let fx = super::step::used_fx(&enter);
            quote!(#field: Branch::start(&mut failed, fx, |#fx| #enter))
        });
        let applies = step.inside.iter().zip(&fields).zip(branches).map(|((scope, field), branch)| {
            let apply = self.apply_scope(*scope, self.view_arg(*scope));
            let view = self.let_view(*scope, &quote!(at)).filter(|_| mentions(&apply, "view"));
            let range = range(branch.steps.iter().map(|node| (node.no, node.end)));
            let apply = if self.plan.scopes[*scope].is_instant {
                quote!(branches.#field.apply(&mut failed, machine::never))
            } else {
                quote!(branches.#field.apply(&mut failed, |inside| #apply))
            };
            if view.is_some() { quote!(#range => { #view #apply }) } else { quote!(#range => #apply) }
        });
        let start_body = quote! {
            let mut failed = None;
            #(#views)*
            let branches = #name { #(#starts),* };
            machine::joined(branches, failed)
        };
        let advance_body = quote! {
            let mut failed = None;
            let applied = match event.path.node {
                #(#applies,)*
                _ => Err(Why::NotOpen),
            };
            machine::advanced(branches, applied, failed)
        };
        let (start, advance) = (format_ident!("start_{}", step.snake), format_ident!("advance_{}", step.snake));
        let at = ident(&step.at_name);
        let (start_up, start_at) = (self.up_param(step.scope, &start_body), param("at", &start_body));
        let (advance_up, advance_at) = (self.up_param(step.scope, &advance_body), param("at", &advance_body));
        let advance_fx = param("fx", &advance_body);
        let items = quote! {
            #[derive(Part, Join)]
            pub struct #name {
                #(#fields: Branch<#states, #outs>),*
            }

            #alias

            fn #start(#start_up #start_at: &#at, fx: &mut Fx<'_>) -> Inside<#name, #out> {
                #start_body
            }

            fn #advance(
                #advance_up #advance_at: &#at, mut branches: #name, event: &StepEvent, #advance_fx: &mut Fx<'_>
            ) -> Result<Inside<#name, #out>, Refused<#name>> {
                #advance_body
            }
        };
        let up = self.up_arg(step.scope);
        (quote!(#start(#up &at, fx)), quote!(#advance(#up &at, inside, event, fx)), items)
    }

    /// The field of a branch, which is a variable too where the parallel is started.
    fn branch_name(&self, name: &str) -> Ident {
        if is_variable(name) { format_ident!("branch_{name}") } else { variable(name) }
    }

    /// A function of a step: `up`, `params`, `fx`; what the body does not read is called `_`.
    pub(super) fn step_function(
        &self,
        step: &Step<'a>,
        name: &Ident,
        params: &[(&str, TokenStream)],
        ty: TokenStream,
        body: TokenStream,
    ) -> TokenStream {
        let up = self.up_param(step.scope, &body);
        let params = params.iter().map(|(name, ty)| {
            let pattern: TokenStream = name.parse().unwrap_or_default();
            let pattern = if name.starts_with('(') { pattern } else { super::step::used(&body, &ident(&pattern.to_string())) };
            quote!(#pattern: #ty)
        });
        let fx = param("fx", &body);
        quote! {
            fn #name(#up #(#params,)* #fx: &mut Fx<'_>) -> #ty {
                #body
            }
        }
    }
}

/// `name`, or `_` where the body does not read it.
pub(super) fn param(name: &str, body: &TokenStream) -> TokenStream {
    if mentions(body, name) {
        let name = ident(name);
        quote!(#name)
    } else {
        quote!(_)
    }
}

/// The numbers of the nodes of a branch, as a pattern.
fn range(nodes: impl Iterator<Item = (u16, u16)>) -> TokenStream {
    let bounds = nodes.fold(None, |bounds: Option<(u16, u16)>, (no, end)| Some(bounds.map_or((no, end), |(first, _)| (first, end))));
    match bounds {
        Some((first, end)) if end == first + 1 => super::expr::count(first.into()),
        Some((first, end)) => {
            let (first, end) = (super::expr::count(first.into()), super::expr::count(end.into()));
            quote!(#first..#end)
        }
        // An empty branch gets no events.
        None => quote!(u16::MAX),
    }
}
