//! Small pure functions of the live values: an expression each.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};

use super::expr::{Code, Writer};
use super::names::{ident, variable};
use super::paths::Module;
use super::plan::{Found, Key, Outer, Plan, ScopeId, ScopeKind};
use crate::ir::{Expr, Type, Value};

/// Where an expression stands: its scope, and the values at hand there.
#[derive(Clone, Copy)]
pub(super) struct Site<'s, 'a> {
    pub(super) plan: &'s Plan<'a>,
    pub(super) module: Module<'s>,
    pub(super) scope: ScopeId,
    pub(super) live: &'s [Key<'a>],
    /// Of the struct of the live values; empty: they are variables.
    pub(super) at: &'s str,
}

/// A generated function and how it is called.
pub(super) struct Function {
    pub(super) item: TokenStream,
    name: Ident,
    params: Vec<String>,
    pub(super) fallible: bool,
}

impl Function {
    /// As [`Self::call`], where the surroundings are variables.
    pub(super) fn direct(&self, at: &TokenStream) -> TokenStream {
        self.with(|param| if param == "at" { at.clone() } else { ident(param).into_token_stream() })
    }

    fn with(&self, arg: impl Fn(&str) -> TokenStream) -> TokenStream {
        let (name, args) = (&self.name, self.params.iter().map(|param| arg(param)));
        quote!(#name(#(#args),*))
    }

    /// A call, where `up` is what is around and `at` a reference to the live values. What else it takes is called as in it.
    pub(super) fn call(&self, up: &TokenStream, at: &TokenStream) -> TokenStream {
        self.with(|param| match param {
            "up" => up.clone(),
            "at" => at.clone(),
            "env" => quote!(fx.env()),
            "now" => quote!(fx.now()),
            other => ident(other).into_token_stream(),
        })
    }

    /// Whether it has a parameter of that name.
    pub(super) fn takes(&self, param: &str) -> bool {
        self.params.iter().any(|name| name == param)
    }

    /// A call that gives a `Result`.
    pub(super) fn result(&self, up: &TokenStream, at: &TokenStream) -> TokenStream {
        let call = self.call(up, at);
        if self.fallible { call } else { quote!(Ok(#call)) }
    }
}

impl<'a> Site<'_, 'a> {
    /// A value of the state, as it is seen from here.
    pub(super) fn code(&self, value: &Value) -> Option<Code> {
        Some(match self.plan.find(value, self.scope, self.live)? {
            Found::Here(key) if self.at.is_empty() => {
                let name = self.plan.field(key);
                let optional = self.plan.is_optional(key, self.scope);
                if optional { Code::option_of_refs(quote!(#name)) } else { Code::reference(quote!(#name)) }
            }
            Found::Here(key) => {
                let field = self.plan.field(key);
                shared(quote!(at.#field), self.plan.is_optional(key, self.scope))
            }
            Found::Around(step, key) => {
                let (around, field) = (outer_field(self.plan, Outer::At(step)), self.plan.field(key));
                shared(quote!(up.#around.#field), self.plan.is_optional(key, self.plan.steps[step].scope))
            }
            Found::Item(name) => {
                let item = outer_field(self.plan, Outer::Item(name));
                Code::reference(quote!(up.#item))
            }
            Found::Error => Code::reference(quote!(up.error)),
        })
    }

    /// The function `<prefix>_<snake>` that gives the value of `expr`.
    pub(super) fn value(&self, prefix: &str, snake: &str, expr: &Expr) -> Function {
        let ty = self.module.ty(&expr.ty);
        self.function(prefix, snake, None, ty, |writer| writer.owned_code(expr))
    }

    /// The same for whatever `body` writes, which is of the type `ty`. `event`: the type of what is called so.
    pub(super) fn function(
        &self,
        prefix: &str,
        snake: &str,
        event: Option<TokenStream>,
        ty: TokenStream,
        body: impl FnOnce(&mut Writer<'_>) -> Code,
    ) -> Function {
        let find = |value: &Value| self.code(value);
        let mut writer = Writer::new(self.module, &find);
        let body = body(&mut writer);
        let fallible = writer.fallible;
        let up = ident_or_none(&self.plan.scopes[self.scope].view_name).map(|view| quote!(#view<'_>));
        let mut known: Vec<(String, Option<TokenStream>)> = vec![("up".into(), up), ("event".into(), event)];
        if self.at.is_empty() {
            known.extend(self.live.iter().map(|key| {
                let optional = self.plan.is_optional(*key, self.scope);
                let ty = result_type(self.plan, self.module, *key);
                (self.plan.field(*key).to_string(), Some(if optional { quote!(Option<&#ty>) } else { quote!(&#ty) }))
            }));
        } else {
            let at = ident(self.at);
            known.insert(1, ("at".into(), Some(quote!(&#at))));
        }
        build(&format!("{prefix}_{snake}"), body, fallible, ty, known)
    }
}

fn ident_or_none(name: &str) -> Option<Ident> {
    (!name.is_empty()).then(|| ident(name))
}

/// A function whose parameters are those of `known` that `body` names, and of the surroundings.
pub(super) fn build(name: &str, body: Code, fallible: bool, ty: TokenStream, mut known: Vec<(String, Option<TokenStream>)>) -> Function {
    known.extend([("env".to_owned(), Some(quote!(&Env))), ("now".to_owned(), Some(quote!(Time)))]);
    let mut params = Vec::new();
    let mut declared = Vec::new();
    // An owned value is what it is, whatever its type.
    let body = if fallible { body.in_ok(&Type::Json) } else { body.tokens };
    for (param, ty) in known {
        if let Some(ty) = ty
            && mentions(&body, &param)
        {
            let name = ident(&param);
            declared.push(quote!(#name: #ty));
            params.push(param);
        }
    }
    let name = ident(name);
    let ty = if fallible { quote!(Result<#ty, Failure>) } else { ty };
    // A person would not do that; but then, they would not read eight results at once.
    let many =
        (params.len() > 7).then(|| quote!(#[allow(clippy::too_many_arguments, reason = "one for each value that the expression reads")]));
    let item = quote!(#many fn #name(#(#declared),*) -> #ty { #body });
    Function { item, name, params, fallible }
}

fn shared(tokens: TokenStream, optional: bool) -> Code {
    let code = Code::shared(tokens);
    if optional { code.optional() } else { code }
}

/// What a scope's view calls something around it.
pub(super) fn outer_field(plan: &Plan<'_>, outer: Outer<'_>) -> Ident {
    match outer {
        Outer::At(step) => format_ident!("at_{}", plan.steps[step].snake),
        Outer::Item(name) if name.starts_with("at_") => format_ident!("item_{name}"),
        Outer::Item(name) => variable(name),
        Outer::Error => format_ident!("error"),
    }
}

/// Whether tokens read a variable of that name: not as a field (`x.at`), nor as the name of one (`at: x`), nor in a path.
pub(super) fn mentions(tokens: &TokenStream, name: &str) -> bool {
    let trees: Vec<TokenTree> = tokens.clone().into_iter().collect();
    let is = |tree: Option<&TokenTree>, wanted: char| matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted);
    trees.iter().enumerate().any(|(at, tree)| match tree {
        TokenTree::Group(group) => mentions(&group.stream(), name),
        TokenTree::Ident(ident) if *ident == name => {
            let before = |distance: usize| at.checked_sub(distance).and_then(|before| trees.get(before));
            // `0..at` is no field, and `x: at` is no path.
            let is_field = is(before(1), '.') && !is(before(2), '.');
            let is_path = is(before(1), ':') && is(before(2), ':');
            let is_name = is(trees.get(at + 1), ':') && !is(trees.get(at + 2), ':');
            !is_field && !is_path && !is_name
        }
        _ => false,
    })
}

/// The type of a value among live values.
pub(super) fn live_type(plan: &Plan<'_>, module: Module<'_>, key: Key<'_>, optional: bool) -> TokenStream {
    let ty = result_type(plan, module, key);
    if optional { quote!(Option<Arc<#ty>>) } else { quote!(Arc<#ty>) }
}

fn result_type(plan: &Plan<'_>, module: Module<'_>, key: Key<'_>) -> TokenStream {
    match key {
        Key::Input => module.path(&plan.workflow.input.name),
        Key::Step(..) => match plan.owner(key).and_then(|step| step.node.result.as_ref()) {
            Some(ty) => module.ty(ty.present()),
            None => quote!(()),
        },
    }
}

/// The type of an element variable, where it is read in `scope`.
pub(super) fn item<'a>(plan: &Plan<'a>, name: &str, scope: ScopeId) -> Option<&'a Type> {
    let mut next = Some(scope);
    while let Some(id) = next {
        match plan.scopes[id].kind {
            ScopeKind::Each { item, item_type, .. } if item == name => return Some(item_type),
            _ => next = plan.scopes[id].around.map(|step| plan.steps[step].scope),
        }
    }
    None
}

pub(super) fn item_type(plan: &Plan<'_>, module: Module<'_>, name: &str, scope: ScopeId) -> TokenStream {
    module.ty(item(plan, name, scope).unwrap_or(&Type::Json))
}
