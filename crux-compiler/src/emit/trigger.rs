//! Triggers: from what arrives to the workflow's input.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::expr::{Code, Writer};
use super::paths::Module;
use super::text::Items;
use crate::ir::{Program, Trigger, TriggerSource, Type, Value, Workflow};

/// One function per trigger.
pub(super) fn items(workflow: &Workflow, program: &Program, module: Module<'_>) -> Items {
    let mut items = Items::new();
    for (index, trigger) in workflow.triggers.iter().enumerate().filter(|(_, trigger)| !is_plain(trigger)) {
        items.heading(&format!("trigger `{}`, {}", source_text(&trigger.source), super::types::place(&trigger.place)));
        items.push(function(index, trigger, workflow, program, module));
    }
    items
}

/// Whether what arrives is the input, and nothing else is asked of it.
fn is_plain(trigger: &Trigger) -> bool {
    trigger.with.is_none() && trigger.when.is_none() && trigger.key.is_none()
}

fn name(index: usize) -> proc_macro2::Ident {
    format_ident!("arrived_{}", index + 1)
}

/// The function that the table names.
pub(super) fn function_name(index: usize, trigger: &Trigger, workflow: &Workflow, module: Module<'_>) -> TokenStream {
    if is_plain(trigger) {
        let input = module.path(&workflow.input.name);
        return quote!(Arrived::input::<#input>);
    }
    let name = name(index);
    quote!(#name)
}

fn source_text(source: &TriggerSource) -> String {
    match source {
        TriggerSource::Http { path } => format!("POST {path}"),
        TriggerSource::Event { name } => format!("event {name}"),
    }
}

fn function(index: usize, trigger: &Trigger, workflow: &Workflow, program: &Program, module: Module<'_>) -> TokenStream {
    let input = module.path(&workflow.input.name);
    let name = name(index);
    let find = |value: &Value| (*value == Value::Input).then(|| Code::place(quote!(input)));
    let mut writer = Writer::new(module, &find);
    let mut body = TokenStream::new();
    let recorded = match &trigger.with {
        Some(with) => {
            let value = writer.owned(with);
            if writer.uses.event {
                let ty = event_type(trigger, program, module);
                // Expressions read the event through a reference.
                body.extend(quote!(let event = &machine::json::arrived::<#ty>(raw)?;));
            } else {
                body.extend(quote!(machine::json::arrived::<Json>(raw)?;));
            }
            body.extend(quote!(let input = #value;));
            quote!(machine::json::encode(&input)?)
        }
        None => {
            body.extend(quote!(let input = machine::json::arrived::<#input>(raw)?;));
            quote!(raw.to_owned())
        }
    };
    if let Some(when) = &trigger.when {
        let holds = writer.negated(when);
        body.extend(quote!(if #holds { return Err(Refusal::NotWanted); }));
    }
    let key = match &trigger.key {
        Some(key) => {
            let key = writer.owned(key);
            quote!(Some(#key))
        }
        None => quote!(None),
    };
    quote! {
        fn #name(raw: &RawValue) -> Result<Arrived, Refusal> {
            #body
            Ok(Arrived { input: #recorded, key: #key })
        }
    }
}

/// The type of what arrives: declared with the event, or json.
fn event_type(trigger: &Trigger, program: &Program, module: Module<'_>) -> TokenStream {
    let declared = match &trigger.source {
        TriggerSource::Event { name } => program.events.iter().find(|event| event.name == *name),
        TriggerSource::Http { .. } => None,
    };
    declared.map_or_else(|| module.ty(&Type::Json), |event| module.path(&event.ty.name))
}
