//! Scopes: their enum, its `apply`, the types of what they give, and what ends them.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::body::{Body, Reads};
use super::names::ident;
use super::paths::live_type;
use super::plan::{Key, ScopeId, ScopeKind};
use super::text::Items;
use super::tokens::{Variant, tuple};
use super::workflow::Generator;

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
            let is_used =
                !steps.is_empty() || self.has_end(scope) || scope.kind == ScopeKind::Switch;
            if !is_used {
                return;
            }
            if !self.plan.is_failure(id) {
                items.push(self.flow_alias(id));
            }
        }
        items.push(self.out_alias(id));
        for (step, tokens) in steps {
            let step = &self.plan.steps[step];
            items.heading(&format!(
                "`{}`, {}",
                step.node.path,
                super::types::place(&step.node.place)
            ));
            items.push(tokens);
            for inner in step.inside.iter().copied().chain(step.catches.iter().copied().flatten()) {
                self.scope(inner, items);
            }
        }
        items.push(self.end_function(id));
    }

    fn scope_enum(&self, name: &Ident, variants: &[Variant]) -> TokenStream {
        let declared = variants.iter().map(|variant| {
            let (variant_name, part) = (&variant.name, &variant.part);
            let at = variant.at.as_deref().map(ident).map(|at| quote!(#at,));
            let doc = variant.place.as_ref().map(|place| format!(" `{place}`")).into_iter();
            quote!(#(#[doc = #doc])* #variant_name(#at #part))
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

    pub(super) fn arms(&self, name: &Ident, variants: &[Variant]) -> Body {
        if variants.is_empty() {
            return Body::constant(quote!(match state {}));
        }
        let arms = variants.iter().map(|variant| {
            let (variant_name, arm) = (&variant.name, &variant.arm);
            let at = variant.at.is_some().then(|| quote!(at,));
            quote!(#name::#variant_name(#at part) => #arm)
        });
        let reads = Body::reads_of(variants.iter().map(|variant| &variant.arm));
        Body::new(quote!(match state { #(#arms),* }), reads)
    }

    fn apply_function(&self, id: ScopeId, variants: &[Variant]) -> TokenStream {
        let scope = &self.plan.scopes[id];
        let (name, out) = (ident(&scope.name), self.out(id));
        let body = self.arms(&name, variants);
        let up = self.up_param(id, body.reads, self.plan.apply_needs_view(id));
        let apply = format_ident!("apply_{}", scope.snake);
        let (event, fx) = (body.param(Reads::EVENT), body.param(Reads::FX));
        quote! {
            fn #apply(#up state: #name, #event: &StepEvent, #fx: &mut Fx<'_>) -> Applied<#name, #out> {
                #body
            }
        }
    }

    /// The type of what a scope gives.
    pub(super) fn out(&self, id: ScopeId) -> TokenStream {
        let scope = &self.plan.scopes[id];
        match scope.kind {
            ScopeKind::Root if self.plan.workflow.output.is_none() => quote!(()),
            ScopeKind::Root => quote!(Output),
            ScopeKind::Each { yields, .. } => {
                yields.map_or_else(|| quote!(()), |yields| self.module.ty(&yields.ty))
            }
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

    /// What entering a step of the scope gives.
    pub(super) fn flow(&self, id: ScopeId) -> TokenStream {
        if self.plan.is_failure(id) {
            return quote!(Failure);
        }
        let name = ident(&self.plan.scopes[id].flow_name);
        quote!(#name)
    }

    pub(super) fn flow_alias(&self, id: ScopeId) -> TokenStream {
        let (name, state, out) = (self.flow(id), self.state(id), self.out(id));
        quote!(type #name = Flow<#state, #out>;)
    }

    fn out_alias(&self, id: ScopeId) -> TokenStream {
        let scope = &self.plan.scopes[id];
        if scope.out_name.is_empty() {
            return TokenStream::new();
        }
        let (name, types) =
            (ident(&scope.out_name), scope.exports.iter().map(|key| self.export_type(*key, id)));
        quote!(type #name = (#(#types),*);)
    }

    /// The live values of a step, or of the end of a scope.
    pub(super) fn at_struct(&self, name: &str, keys: &[Key<'a>], scope: ScopeId) -> TokenStream {
        let name = ident(name);
        let fields = keys.iter().map(|key| {
            let (field, ty) = (
                self.plan.field(*key),
                live_type(self.plan, self.module, *key, self.plan.is_optional(*key, scope)),
            );
            quote!(#field: #ty)
        });
        quote!(pub struct #name { #(#fields),* })
    }
}
