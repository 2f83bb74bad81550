//! Triggers: from what arrives to the workflow's input.

use std::cell::Cell;

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::body::Reads;
use super::expr::{Code, Writer};
use super::paths::Module;
use super::text::Items;
use crate::ir::{Program, Trigger, TriggerSource, Type, Value, Workflow};

/// One function per trigger.
pub(super) fn items(workflow: &Workflow, program: &Program, module: Module<'_>) -> Items {
    let mut items = Items::new();
    for (index, trigger) in
        workflow.triggers.iter().enumerate().filter(|(_, trigger)| !is_plain(trigger))
    {
        items.heading(&format!(
            "trigger `{}`, {}",
            source_text(&trigger.source),
            super::types::place(&trigger.place)
        ));
        items.push(functions(index, trigger, workflow, program, module));
    }
    items
}

/// Whether what arrives is the input, and nothing else is asked of it.
fn is_plain(trigger: &Trigger) -> bool {
    trigger.with.is_none() && trigger.when.is_none() && trigger.key.is_none()
}

fn name(index: usize) -> Ident {
    format_ident!("arrived_{}", index + 1)
}

/// The function for starts that bring the input themselves, past the trigger's `with`.
fn direct_name(index: usize) -> Ident {
    format_ident!("direct_{}", index + 1)
}

/// What a trigger asks of the input: `when` and `key`.
fn asked_name(index: usize) -> Ident {
    format_ident!("asked_{}", index + 1)
}

/// The trigger, as the table has it.
pub(super) fn row(
    index: usize,
    trigger: &Trigger,
    workflow: &Workflow,
    module: Module<'_>,
) -> TokenStream {
    let input = module.path(&workflow.input.name);
    let plain = quote!(Arrived::input::<#input>);
    let name = name(index);
    let function = if is_plain(trigger) { plain.clone() } else { quote!(#name) };
    let row = match &trigger.source {
        TriggerSource::Http { path } => quote!(Trigger::http(#path, #function)),
        TriggerSource::Event { name } => quote!(Trigger::event(#name, #function)),
    };
    let direct_name = direct_name(index);
    match &trigger.with {
        None => row,
        Some(_) if asks(trigger) => quote!(#row.direct(#direct_name)),
        Some(_) => quote!(#row.direct(#plain)),
    }
}

fn asks(trigger: &Trigger) -> bool {
    trigger.when.is_some() || trigger.key.is_some()
}

fn source_text(source: &TriggerSource) -> String {
    match source {
        TriggerSource::Http { path } => format!("POST {path}"),
        TriggerSource::Event { name } => format!("event {name}"),
    }
}

fn functions(
    index: usize,
    trigger: &Trigger,
    workflow: &Workflow,
    program: &Program,
    module: Module<'_>,
) -> TokenStream {
    let input = module.path(&workflow.input.name);
    let name = name(index);
    let Some(with) = &trigger.with else {
        let Asked { wanted, key, reads_input } = asked(trigger, module);
        let bound = reads_input.then(|| quote!(let input =));
        return quote! {
            fn #name(raw: &RawValue) -> Result<Arrived, Refusal> {
                #bound machine::json::arrived::<#input>(raw)?;
                #wanted
                Ok(Arrived { input: raw.to_owned(), key: #key })
            }
        };
    };
    let find = |_: &Value| None;
    let mut writer = Writer::new(module, &find);
    let value = writer.owned(with);
    let event = if writer.reads.has(Reads::EVENT) {
        let ty = event_type(trigger, program, module);
        // Expressions read the event through a reference.
        quote!(let event = &machine::json::arrived::<#ty>(raw)?;)
    } else {
        quote!(machine::json::arrived::<Json>(raw)?;)
    };
    if !asks(trigger) {
        return quote! {
            fn #name(raw: &RawValue) -> Result<Arrived, Refusal> {
                #event
                let input = #value;
                Ok(Arrived { input: machine::json::encode(&input)?, key: None })
            }
        };
    }
    // A start that brings the input itself is asked the same.
    let Asked { wanted, key, reads_input } = asked(trigger, module);
    let parameter = if reads_input { quote!(input) } else { quote!(_) };
    let (direct_name, asked_name) = (direct_name(index), asked_name(index));
    quote! {
        fn #name(raw: &RawValue) -> Result<Arrived, Refusal> {
            #event
            let input = #value;
            let key = #asked_name(&input)?;
            Ok(Arrived { input: machine::json::encode(&input)?, key })
        }

        fn #direct_name(raw: &RawValue) -> Result<Arrived, Refusal> {
            let key = #asked_name(&machine::json::arrived::<#input>(raw)?)?;
            Ok(Arrived { input: raw.to_owned(), key })
        }

        fn #asked_name(#parameter: &#input) -> Result<Option<String>, Refusal> {
            #wanted
            Ok(#key)
        }
    }
}

/// What a trigger asks of `input`.
struct Asked {
    /// The statement that refuses an input for which `when` does not hold.
    wanted: TokenStream,
    key: TokenStream,
    reads_input: bool,
}

fn asked(trigger: &Trigger, module: Module<'_>) -> Asked {
    let reads_input = Cell::new(false);
    let find = |value: &Value| {
        (*value == Value::Input).then(|| {
            reads_input.set(true);
            Code::place(quote!(input))
        })
    };
    let mut writer = Writer::new(module, &find);
    let wanted = trigger.when.as_ref().map(|when| {
        let holds = writer.negated(when);
        quote!(if #holds { return Err(Refusal::NotWanted); })
    });
    let key = trigger.key.as_ref().map(|key| writer.owned(key));
    let key = key.map_or_else(|| quote!(None), |key| quote!(Some(#key)));
    Asked { wanted: quote!(#wanted), key, reads_input: reads_input.get() }
}

/// The type of what arrives: declared with the event, or json.
fn event_type(trigger: &Trigger, program: &Program, module: Module<'_>) -> TokenStream {
    let declared = match &trigger.source {
        TriggerSource::Event { name } => program.events.iter().find(|event| event.name == *name),
        TriggerSource::Http { .. } => None,
    };
    declared.map_or_else(|| module.ty(&Type::Json), |event| module.path(&event.ty.name))
}
