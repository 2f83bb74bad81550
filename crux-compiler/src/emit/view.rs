//! What the steps of a scope see of what is around them: nothing, one thing that is passed as it
//! is, or a struct of several, `up`.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens as _, format_ident, quote};

use super::body::{Body, Reads, used};
use super::expr::field_value;
use super::names::{ident, local};
use super::paths::item_type;
use super::plan::{Outer, Plan, ScopeId, ScopeKind};
use super::workflow::Generator;

/// How a scope's steps are given what is around them, where they are entered or offered an event.
#[derive(Default)]
pub(super) struct View {
    /// `let view = InShip { … };`, where the view is a struct and used more than once.
    before: Option<Body>,
    /// With a comma, as the first argument.
    pub(super) arg: Option<Body>,
}

impl View {
    /// The code, after the `let` where it reads that.
    pub(super) fn before(&self, code: Body) -> Body {
        match self.before.as_ref().filter(|_| code.has(Reads::VIEW)) {
            Some(before) => {
                Body::new(quote!(#before #code), before.reads | code.reads.without(Reads::VIEW))
            }
            None => code,
        }
    }

    /// The same as the arm of a `match`.
    pub(super) fn before_arm(&self, code: Body) -> Body {
        let has_let = self.before.is_some() && code.has(Reads::VIEW);
        let code = self.before(code);
        if has_let { Body::new(quote!({ #code }), code.reads) } else { code }
    }
}

/// The form of a scope's view.
enum Form<'a> {
    /// Nothing is seen.
    Nothing,
    /// One thing, passed as it is.
    One(Outer<'a>),
    /// What the scope around sees.
    Same(ScopeId),
    /// A struct: what the step around provides and, as `up`, the view of the scope around where
    /// that is needed too.
    Struct { own: Vec<Outer<'a>>, up: Option<ScopeId> },
}

impl<'a> Form<'a> {
    fn of(plan: &Plan<'a>, id: ScopeId) -> Self {
        let scope = &plan.scopes[id];
        let (own, further): (Vec<_>, Vec<_>) =
            scope.view.iter().copied().partition(|outer| plan.provides(id, *outer));
        match (own.as_slice(), further.as_slice(), plan.around(id)) {
            ([], [], _) => Form::Nothing,
            ([one], [], _) | ([], [one], _) => Form::One(*one),
            ([], _, Some(around)) => Form::Same(around),
            (_, further, around) => {
                Form::Struct { own, up: around.filter(|_| !further.is_empty()) }
            }
        }
    }
}

/// What something around a scope is called in its functions, and where an undo keeps it.
pub(super) fn outer_name(plan: &Plan<'_>, outer: Outer<'_>) -> Ident {
    match outer {
        Outer::At(step) => format_ident!("at_{}", plan.steps[step].snake),
        Outer::Item(name) => item_variable(name),
        Outer::Error => format_ident!("error"),
    }
}

/// The field for it in the view of the scope that it is provided to: there is one `at` for each.
fn own_field(plan: &Plan<'_>, outer: Outer<'_>) -> Ident {
    if let Outer::At(_) = outer { format_ident!("at") } else { outer_name(plan, outer) }
}

/// The element of an `each`.
fn item_variable(name: &str) -> Ident {
    local(name, |_| false)
}

/// The parameter that holds a scope's view: called as the one thing that is in it, if nothing else
/// is called so, else `up`.
pub(super) fn view_name(plan: &Plan<'_>, scope: ScopeId) -> Ident {
    match Form::of(plan, scope) {
        Form::One(outer) => {
            let name = outer_name(plan, outer);
            if plan.is_field(&name) { format_ident!("up") } else { name }
        }
        _ => format_ident!("up"),
    }
}

/// Something around a scope, as its functions read it.
pub(super) fn outer_value<'a>(plan: &Plan<'a>, scope: ScopeId, outer: Outer<'a>) -> TokenStream {
    let view = view_name(plan, scope);
    outer_in(plan, scope, outer, view.into_token_stream())
}

/// Something around a scope, where `view` is the scope's.
fn outer_in<'a>(
    plan: &Plan<'a>,
    scope: ScopeId,
    outer: Outer<'a>,
    view: TokenStream,
) -> TokenStream {
    match Form::of(plan, scope) {
        Form::Nothing | Form::One(_) => view,
        Form::Same(around) => outer_in(plan, around, outer, view),
        Form::Struct { up: Some(around), .. } if !plan.provides(scope, outer) => {
            outer_in(plan, around, outer, quote!(#view.up))
        }
        Form::Struct { .. } => {
            let field = own_field(plan, outer);
            quote!(#view.#field)
        }
    }
}

impl<'a> Generator<'_, 'a> {
    fn outer_type(&self, scope: ScopeId, outer: Outer<'a>) -> TokenStream {
        match outer {
            Outer::At(step) => {
                let at = ident(&self.plan.steps[step].at_name);
                quote!(#at)
            }
            Outer::Item(item) => item_type(self.plan, self.module, item, scope),
            Outer::Error => quote!(Failure),
        }
    }

    /// The struct of a view, where it has a separate one.
    pub(super) fn view_struct(&self, id: ScopeId) -> TokenStream {
        let Form::Struct { own, up } = Form::of(self.plan, id) else { return TokenStream::new() };
        let name = ident(&self.plan.scopes[id].view_name);
        let up = up
            .and_then(|around| self.view_type_with(around, &quote!('a)))
            .map(|ty| quote!(up: #ty));
        let own = own.iter().map(|outer| {
            let (field, ty) = (own_field(self.plan, *outer), self.outer_type(id, *outer));
            quote!(#field: &'a #ty)
        });
        let fields = up.into_iter().chain(own);
        quote! {
            #[derive(Clone, Copy)]
            struct #name<'a> {
                #(#fields),*
            }
        }
    }

    /// The type of the parameter that holds the view; `None`: there is none.
    pub(super) fn view_type(&self, id: ScopeId) -> Option<TokenStream> {
        self.view_type_with(id, &quote!('_))
    }

    fn view_type_with(&self, id: ScopeId, lifetime: &TokenStream) -> Option<TokenStream> {
        match Form::of(self.plan, id) {
            Form::Nothing => None,
            Form::One(outer) => {
                let (ty, lifetime) = (
                    self.outer_type(id, outer),
                    Some(lifetime).filter(|lifetime| lifetime.to_string() != "'_"),
                );
                Some(quote!(& #lifetime #ty))
            }
            Form::Same(around) => self.view_type_with(around, lifetime),
            Form::Struct { .. } => {
                let name = ident(&self.plan.scopes[id].view_name);
                Some(quote!(#name<#lifetime>))
            }
        }
    }

    /// The view of a scope, as it is made in the scope around it beside the live values `at` (a
    /// reference) of the step around it. `error`: the failure that a catch has taken, likewise.
    pub(super) fn view(&self, id: ScopeId, at: &TokenStream, error: &Body) -> View {
        match (Form::of(self.plan, id), self.view_value(id, at, error)) {
            (Form::Struct { .. }, Some(value)) => View {
                before: Some(Body::new(quote!(let view = #value;), value.reads)),
                arg: Some(Body::new(quote!(view,), Reads::VIEW)),
            },
            (_, value) => View { before: None, arg: value.map(with_comma) },
        }
    }

    /// The view itself and a comma, where there is no room for a `let`.
    pub(super) fn view_inline(&self, id: ScopeId, at: &TokenStream, error: &Body) -> Option<Body> {
        self.view_value(id, at, error).map(with_comma)
    }

    fn view_value(&self, id: ScopeId, at: &TokenStream, error: &Body) -> Option<Body> {
        let around = self.plan.around(id)?;
        let value = |outer: Outer<'a>| match outer {
            _ if !self.plan.provides(id, outer) => {
                Body::new(outer_value(self.plan, around, outer), Reads::UP)
            }
            Outer::At(_) => Body::new(at.clone(), Reads::AT),
            Outer::Item(name) => Body::new(item_variable(name).into_token_stream(), Reads::ITEM),
            Outer::Error => error.clone(),
        };
        let up_of = |around: ScopeId| {
            Body::new(view_name(self.plan, around).into_token_stream(), Reads::UP)
        };
        match Form::of(self.plan, id) {
            Form::Nothing => None,
            Form::One(outer) => Some(value(outer)),
            Form::Same(around) => Some(up_of(around)),
            Form::Struct { own, up } => {
                let name = ident(&self.plan.scopes[id].view_name);
                let up = up.map(|around| (format_ident!("up"), up_of(around)));
                let own = own.iter().map(|outer| (own_field(self.plan, *outer), value(*outer)));
                let (names, values): (Vec<_>, Vec<_>) = up.into_iter().chain(own).unzip();
                let fields = names
                    .iter()
                    .zip(&values)
                    .map(|(name, value)| field_value(name, value.to_token_stream()));
                Some(Body::new(quote!(#name { #(#fields),* }), Body::reads_of(&values)))
            }
        }
    }

    /// The variable of the element of an `each`.
    pub(super) fn item_name(&self, id: ScopeId) -> Ident {
        match self.plan.scopes[id].kind {
            ScopeKind::Each { item, .. } => item_variable(item),
            _ => format_ident!("item"),
        }
    }

    /// The view of the scope in which something stands, with a comma, for those of its functions
    /// that need it.
    pub(super) fn up_arg(&self, id: ScopeId, is_needed: bool) -> Option<Body> {
        (is_needed && !self.plan.scopes[id].view.is_empty()).then(|| {
            let view = view_name(self.plan, id);
            Body::new(quote!(#view,), Reads::UP)
        })
    }

    /// The parameter for it, called `_` where the body does not read it.
    pub(super) fn up_param(
        &self,
        id: ScopeId,
        reads: Reads,
        is_needed: bool,
    ) -> Option<TokenStream> {
        let ty = self.view_type(id).filter(|_| is_needed)?;
        let up = used(reads.has(Reads::UP), &view_name(self.plan, id));
        Some(quote!(#up: #ty,))
    }
}

fn with_comma(value: Body) -> Body {
    Body::new(quote!(#value,), value.reads)
}
