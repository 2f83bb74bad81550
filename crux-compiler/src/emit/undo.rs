//! Undo: what is kept of a dispatched step to undo it, and the input that is made of it.

use std::cell::Cell;

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::body::{Body, Reads};
use super::expr::{Code, is_copy};
use super::function::{Inline, Site};
use super::names::ident;
use super::paths::live_type;
use super::plan::{Key, Outer, Step, ValueLocation};
use super::reads;
use super::view::{outer_name, outer_value};
use super::workflow::Generator;
use crate::ir::{Undo, Value};

/// One value that an undo keeps.
pub(super) struct Captured {
    pub(super) field: Ident,
    ty: TokenStream,
    /// Taken where the step is dispatched.
    pub(super) value: Body,
    /// Whether it is not there yet: the step's own result.
    is_later: bool,
    /// As the undo's expression reads it.
    code: Code,
}

/// What is generated for one undo.
pub(super) struct Written {
    pub(super) variant: TokenStream,
    /// The arm that keeps the step's result, where the undo reads it.
    pub(super) completed: Option<TokenStream>,
    pub(super) input: Body,
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
    let of_key = |key: Key<'a>, value: Body, optional: bool| {
        let field = plan.field(key);
        let code = Code::shared(quote!(at.#field));
        let code = if optional { code.optional() } else { code };
        let ty = live_type(plan, generator.module, key, optional);
        Captured { ty, value, code, field, is_later: false }
    };
    if let Some(key) = plan.key(value)
        && is_own(generator, step, key)
    {
        let none = Body::constant(quote!(None));
        return Some(Captured { is_later: true, ..of_key(key, none, true) });
    }
    Some(match plan.find(value, site.scope, site.live)? {
        ValueLocation::Here(key) => {
            let field = plan.field(key);
            let value = Body::new(quote!(at.#field.clone()), Reads::AT);
            of_key(key, value, plan.is_optional(key, site.scope))
        }
        ValueLocation::Around(around, key) => {
            let (view, field) = (outer_value(plan, site.scope, Outer::At(around)), plan.field(key));
            let value = Body::new(quote!(#view.#field.clone()), Reads::UP);
            of_key(key, value, plan.is_optional(key, plan.steps[around].scope))
        }
        ValueLocation::Item(name) => {
            let (field, item) = (
                outer_name(plan, Outer::Item(name)),
                outer_value(plan, site.scope, Outer::Item(name)),
            );
            let ty = super::paths::item_type(plan, generator.module, name, site.scope);
            let copy = super::paths::item(plan, name, site.scope).is_some_and(is_copy);
            let value = if copy { quote!(*#item) } else { quote!(#item.clone()) };
            let value = Body::new(value, Reads::UP);
            Captured { ty, value, code: Code::place(quote!(at.#field)), field, is_later: false }
        }
        ValueLocation::Kept(key) => {
            let kept = super::function::kept(plan, generator.module, key)?;
            of_key(key, Body::new(kept, Reads::FX), true)
        }
        ValueLocation::Error => {
            let error = outer_value(plan, site.scope, Outer::Error);
            Captured {
                field: ident("error"),
                ty: quote!(Failure),
                value: Body::new(quote!(#error.clone()), Reads::UP),
                code: Code::place(quote!(at.error)),
                is_later: false,
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
    let reads_own = captured.iter().any(|captured| captured.is_later);
    let completed = own
        .filter(|_| reads_own)
        .map(|field| quote!(Undo::#variant(at) => at.#field = machine::json::decode(result).ok()));

    let state = Cell::new(Reads::NOTHING);
    let find = |value: &Value| {
        let own_key = generator
            .plan
            .key(value)
            .filter(|key| is_own(generator, step, *key))
            .map(|key| generator.plan.field(key));
        let field = match own_key {
            Some(field) => field,
            None => match generator.plan.find(value, site.scope, site.live)? {
                ValueLocation::Here(key)
                | ValueLocation::Around(_, key)
                | ValueLocation::Kept(key) => generator.plan.field(key),
                ValueLocation::Item(name) => outer_name(generator.plan, Outer::Item(name)),
                ValueLocation::Error => ident("error"),
            },
        };
        let captured = captured.iter().find(|captured| captured.field == field)?;
        state.set(Reads::AT);
        Some(captured.code.clone())
    };
    let mut writer = super::expr::Writer::new(generator.module, &find);
    let body = writer.owned_code(&undo.with);
    let input = Inline::new(body, &writer, state.get());
    let tokens = input.tokens();
    let encoded = if input.fallible {
        quote!(#tokens.and_then(|input| machine::json::encode_shared(&input)))
    } else {
        quote!(machine::json::encode_shared(&input))
    };
    let let_input = (!input.fallible).then(|| quote!(let input = #tokens;));
    let number = generator.plan.node(undo.no);
    let at = input.reads.param(Reads::AT);
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
        input: Body::new(
            quote!(Undo::#variant(#at) => { #let_input (#number, #encoded) }),
            input.reads,
        ),
        items: declared,
    }
}
