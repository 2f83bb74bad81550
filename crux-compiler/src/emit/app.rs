//! The root of the generated file: the step structs that the pipelines need, and the app that they
//! make.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::names::{declared_type, ident, variable};
use super::paths::module_path;
use super::text::Items;
use super::{routes, types};
use crate::ir::{Contract, EventDecl, Program, Runs};
use crate::names;

pub(super) fn items(program: &Program) -> Items {
    let classes: Vec<(&Contract, &str)> = program
        .contracts
        .iter()
        .filter_map(|contract| match &contract.runs {
            Runs::Class(class) => Some((contract, class.as_str())),
            Runs::Service { .. } => None,
        })
        .collect();
    let fields: Vec<_> = classes.iter().map(|(contract, _)| variable(&contract.name)).collect();
    let declared = classes.iter().zip(&fields).map(|((contract, class), field)| {
        let (doc, class) = (
            types::doc(contract.description.as_deref(), &contract.place),
            ident(&names::type_name(class)),
        );
        quote!(#doc pub #field: crate::steps::#class)
    });
    let workflows = program.workflows.iter().map(|workflow| {
        let module = module_path(&workflow.module);
        quote!(::crux_runtime::app::Workflow::of::<#module::Workflow>())
    });
    let contracts = program.contracts.iter().map(|contract| {
        let module = module_path(&format!("steps::{}", contract.name));
        quote!(&#module::CONTRACT)
    });
    let mut items = Items::new();
    items.push(quote! {
        /// The step structs that the pipelines name, one per class.
        pub struct Steps {
            #(#declared),*
        }
    });
    let steps = if classes.is_empty() { quote!(_) } else { quote!(steps) };
    items.push(quote! {
        /// Everything that the pipelines have become, for `crux_runtime::main`.
        pub fn app(#steps: Steps) -> ::crux_runtime::App {
            ::crux_runtime::App {
                workflows: WORKFLOWS,
                contracts: CONTRACTS,
                events: EVENTS,
                routes: ROUTES,
                steps: vec![#(::crux_runtime::executor::step::any_step(steps.#fields)),*],
                package: ::crux_runtime::this_package!(),
            }
        }
    });
    for (contract, class) in &classes {
        items.push(assertion(contract, class));
    }
    items.push(quote!(static WORKFLOWS: &[::crux_runtime::app::Workflow] = &[#(#workflows),*];));
    items.push(
        quote!(static CONTRACTS: &[&::crux_runtime::machine::Contract] = &[#(#contracts),*];),
    );
    let events = program.events.iter().map(event);
    items.push(quote!(static EVENTS: &[::crux_runtime::machine::EventType] = &[#(#events),*];));
    items.push(routes::table(program));
    items
}

/// That the class is a step struct of its step type; the message names the place in YAML.
fn assertion(contract: &Contract, class: &str) -> TokenStream {
    let step_type = &contract.name;
    let marker = format_ident!("Is{}", declared_type(step_type));
    let (module, class_ident) =
        (module_path(&format!("steps::{step_type}")), ident(&names::type_name(class)));
    let place = types::place(&contract.place);
    let message = format!("`{class}` is a step struct of another step type than `{step_type}`");
    let label = format!("{place} has `type: {step_type}` with `class: {class}`");
    let note = format!(
        "write `#[workflow(step = {step_type})]` above `struct {class}`, or name the right class in {place}"
    );
    quote! {
        const _: () = {
            #[diagnostic::on_unimplemented(message = #message, label = #label, note = #note)]
            trait #marker {}
            impl #marker for #module::Type {}
            fn check<S: ::crux_runtime::Step>() where S::Type: #marker {}
            let _ = check::<crate::steps::#class_ident>;
        };
    }
}

fn event(event: &EventDecl) -> TokenStream {
    let name = &event.name;
    let ty = super::paths::Module("").path(&event.ty.name);
    let correlate = match &event.correlate {
        Some(field) => quote!(Some(#field)),
        None => quote!(None),
    };
    let schema = super::schema::raw(&super::schema::record(&event.ty));
    quote! {
        ::crux_runtime::machine::EventType {
            name: #name,
            correlate: #correlate,
            check: ::crux_runtime::machine::json::check::<#ty>,
            schema: #schema,
        }
    }
}
