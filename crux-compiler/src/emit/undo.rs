//! Undo: what is kept of a dispatched step to undo it, and the input that is made of it.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::expr::{Code, is_copy};
use super::function::{Inline, Site};
use super::names::ident;
use super::paths::live_type;
use super::plan::{Found, Key, Outer, Step};
use super::reads;
use super::tokens::param;
use super::view::{outer_name, outer_value};
use super::workflow::Generator;
use crate::ir::{Undo, Value};

/// One value that an undo keeps.
pub(super) struct Captured {
    pub(super) field: Ident,
    ty: TokenStream,
    /// Taken where the step is dispatched.
    pub(super) value: TokenStream,
    /// As the undo's expression reads it.
    code: Code,
}

/// What is generated for one undo.
pub(super) struct Written {
    pub(super) variant: TokenStream,
    /// The arm that keeps the step's result, where the undo reads it.
    pub(super) completed: Option<TokenStream>,
    pub(super) input: TokenStream,
    pub(super) items: TokenStream,
}

/// What the undo of a step reads, each once, in the order in which it reads it.
pub(super) fn captured<'a>(
    generator: &Generator<'_, 'a>,
    step: &Step<'a>,
    undo: &'a Undo,
    site: &Site<'_, 'a>,
) -> Vec<Captured> {
    let mut read: Vec<&'a Value> = Vec::new();
    reads::of_expr(&undo.with, &mut |value| {
        if !read.contains(&value) {
            read.push(value);
        }
    });
    read.into_iter().filter_map(|value| one(generator, step, value, site)).collect()
}

fn one<'a>(
    generator: &Generator<'_, 'a>,
    step: &Step<'a>,
    value: &'a Value,
    site: &Site<'_, 'a>,
) -> Option<Captured> {
    let plan = generator.plan;
    let of_key = |key: Key<'a>, value: TokenStream, optional: bool| {
        let field = plan.field(key);
        let code = Code::shared(quote!(at.#field));
        let code = if optional { code.optional() } else { code };
        Captured { ty: live_type(plan, generator.module, key, optional), value, code, field }
    };
    if let Some(key) = plan.key(value)
        && is_own(generator, step, key)
    {
        return Some(of_key(key, quote!(None), true));
    }
    Some(match plan.find(value, site.scope, site.live)? {
        Found::Here(key) => {
            let field = plan.field(key);
            of_key(key, quote!(at.#field.clone()), plan.is_optional(key, site.scope))
        }
        Found::Around(around, key) => {
            let (view, field) = (outer_value(plan, site.scope, Outer::At(around)), plan.field(key));
            of_key(
                key,
                quote!(#view.#field.clone()),
                plan.is_optional(key, plan.steps[around].scope),
            )
        }
        Found::Item(name) => {
            let (field, item) = (
                outer_name(plan, Outer::Item(name)),
                outer_value(plan, site.scope, Outer::Item(name)),
            );
            let ty = super::paths::item_type(plan, generator.module, name, site.scope);
            let copy = super::paths::item(plan, name, site.scope).is_some_and(is_copy);
            let value = if copy { quote!(*#item) } else { quote!(#item.clone()) };
            Captured { ty, value, code: Code::place(quote!(at.#field)), field }
        }
        Found::Kept(key) => of_key(key, super::function::kept(plan, generator.module, key)?, true),
        Found::Error => {
            let error = outer_value(plan, site.scope, Outer::Error);
            Captured {
                field: ident("error"),
                ty: quote!(Failure),
                value: quote!(#error.clone()),
                code: Code::place(quote!(at.error)),
            }
        }
    })
}

/// Whether a key is the result of the step that is undone.
fn is_own<'a>(generator: &Generator<'_, 'a>, step: &Step<'a>, key: Key<'a>) -> bool {
    generator.plan.owner(key).is_some_and(|owner| std::ptr::eq(owner, step))
}

pub(super) fn items<'a>(generator: &Generator<'_, 'a>, step: &Step<'a>, undo: &'a Undo) -> Written {
    let site = Site {
        plan: generator.plan,
        module: generator.module,
        scope: step.scope,
        live: &step.live,
        given: &[],
        at: &step.at_name,
    };
    let captured = captured(generator, step, undo, &site);
    let (variant, name) = (ident(&step.camel), ident(&step.undo_name));
    let own =
        generator.plan.key(&Value::Step(step.node.id.clone())).map(|key| generator.plan.field(key));
    let reads_own = captured.iter().any(|captured| captured.value.to_string() == "None");
    let completed = own
        .filter(|_| reads_own)
        .map(|field| quote!(Undo::#variant(at) => at.#field = machine::json::decode(result).ok()));

    let find = |value: &Value| {
        let own_key = generator
            .plan
            .key(value)
            .filter(|key| is_own(generator, step, *key))
            .map(|key| generator.plan.field(key));
        let field = match own_key {
            Some(field) => field,
            None => match generator.plan.find(value, site.scope, site.live)? {
                Found::Here(key) | Found::Around(_, key) | Found::Kept(key) => {
                    generator.plan.field(key)
                }
                Found::Item(name) => outer_name(generator.plan, Outer::Item(name)),
                Found::Error => ident("error"),
            },
        };
        captured
            .iter()
            .find(|captured| captured.field == field)
            .map(|captured| captured.code.clone())
    };
    let mut writer = super::expr::Writer::new(generator.module, &find);
    let body = writer.owned_code(&undo.with);
    let input = Inline::new(body, writer.fallible);
    let tokens = input.tokens();
    let encoded = if input.fallible {
        quote!(#tokens.and_then(|input| machine::json::encode_shared(&input)))
    } else {
        quote!(machine::json::encode_shared(&input))
    };
    let let_input = (!input.fallible).then(|| quote!(let input = #tokens;));
    let number = generator.plan.node(undo.no);
    let at = param("at", tokens);
    let fields: Vec<_> = captured
        .iter()
        .map(|captured| (&captured.field, &captured.ty))
        .map(|(field, ty)| quote!(#field: #ty))
        .collect();
    let declared = if fields.is_empty() {
        quote!(pub struct #name;)
    } else {
        quote!(pub struct #name { #(#fields),* })
    };
    let doc = format!(" `{}`", super::types::place(&step.node.place));
    Written {
        variant: quote!(#[doc = #doc] #variant(#name)),
        completed,
        input: quote!(Undo::#variant(#at) => { #let_input (#number, #encoded) }),
        items: declared,
    }
}
