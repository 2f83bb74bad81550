//! One module per step type: its input, its result, its errors, and its contract as the runtime
//! sees it.

use proc_macro2::TokenStream;
use quote::quote;

use super::names::variant;
use super::paths::Module;
use super::text::Items;
use super::types::SeenBy;
use super::{schema, types};
use crate::ir::{Contract, EffectKind, Program, Runs};
use crate::names;

/// The modules inside `steps`.
pub(super) fn modules(program: &Program) -> Items {
    let mut items = Items::new();
    for contract in &program.contracts {
        let path = format!("steps::{}", contract.name);
        let module = Module(&path);
        let seen_by = match contract.runs {
            Runs::Class(_) => SeenBy::People,
            Runs::Service { .. } => SeenBy::Machines,
        };
        let mut inner = Items::new();
        for def in program.types.iter().filter(|def| def.name.module == path) {
            inner.push(types::item(def, module, seen_by));
        }
        inner.push(self::items(contract, program, module));
        let mut with_imports = Items::new();
        with_imports.uses(module.imports(inner.tokens(), &program.contracts, false));
        with_imports.append(inner);
        let mut before: Vec<String> = contract
            .description
            .iter()
            .flat_map(|text| text.lines())
            .map(|line| format!("/// {line}\n///"))
            .collect();
        before.push(format!("/// `{}`", types::place(&contract.place)));
        items.module(&before, &names::module(&contract.name), with_imports);
    }
    items
}

fn items(contract: &Contract, program: &Program, module: Module<'_>) -> TokenStream {
    let declared = |name: &str| {
        program.types.iter().any(|def| def.name.module == module.0 && def.name.name == name)
    };
    let input = module.path(&contract.takes.name);
    // A contract may take or return a named type; its own names stand for it.
    let input_alias = (!declared("Input")).then(|| quote!(pub type Input = #input;));
    let output_alias = match &contract.returns {
        Some(record) if !declared("Output") => {
            let output = module.path(&record.name);
            Some(quote!(pub type Output = #output;))
        }
        Some(_) => None,
        None => Some(quote!(
            /// It has no result.
            pub type Output = ();
        )),
    };
    let nothing = contract.returns.is_none().then(|| {
        quote! {
            fn decode_result(_: &RawValue) -> Result<(), String> {
                Ok(())
            }
        }
    });
    let errors = self::errors(contract);
    let name = &contract.name;
    let runs = match &contract.runs {
        Runs::Class(class) => quote!(Runs::Class(#class)),
        Runs::Service { routing_key } => {
            let route = super::routes::constant(routing_key);
            quote!(Runs::Service { routing_key: routes::#route })
        }
    };
    let effect = match contract.effect {
        EffectKind::None => quote!(EffectKind::None),
        EffectKind::Idempotent => quote!(EffectKind::Idempotent),
        EffectKind::Once => quote!(EffectKind::Once),
    };
    let (reports_started, payload, raises) =
        (contract.reports_started, contract.payload, &contract.raises);
    let check_result = if contract.returns.is_some() {
        quote!(machine::json::check::<Output>)
    } else {
        quote!(machine::json::check_nothing)
    };
    let input_schema = schema::raw(&schema::record(&contract.takes));
    let output_schema = schema::raw(
        &contract.returns.as_ref().map_or_else(schema::anything, |record| schema::record(record)),
    );
    let type_doc = format!(" The step type `{name}`, for `#[workflow(step = {name})]`.");
    quote! {
        #input_alias
        #output_alias
        #errors

        #[doc = #type_doc]
        pub enum Type {}

        impl StepType for Type {
            const CONTRACT: &'static Contract = &CONTRACT;
            type Input = Input;
            type Output = Output;
            type Error = Error;
            #nothing
        }

        pub static CONTRACT: Contract = Contract {
            step_type: #name,
            runs: #runs,
            effect: #effect,
            reports_started: #reports_started,
            payload: #payload,
            raises: &[#(#raises),*],
            check_input: machine::json::check::<Input>,
            check_result: #check_result,
            input_schema: #input_schema,
            output_schema: #output_schema,
        };
    }
}

fn errors(contract: &Contract) -> TokenStream {
    if contract.raises.is_empty() {
        return match contract.runs {
            Runs::Service { .. } => quote! {
                /// It raises no named errors.
                pub type Error = ::std::convert::Infallible;
            },
            // A compile error about an unknown variant points at this type.
            Runs::Class(_) => quote! {
                /// It raises no named errors.
                #[derive(Debug, Clone)]
                pub enum Error {}

                impl machine::Raised for Error {
                    fn into_failure(self) -> Failure {
                        match self {}
                    }
                }
            },
        };
    }
    let names: Vec<_> = contract.raises.iter().map(|name| variant(name)).collect();
    let texts = &contract.raises;
    quote! {
        /// The errors that it raises, each with a text for people.
        #[derive(Debug, Clone)]
        pub enum Error {
            #(#names(String)),*
        }

        impl machine::Raised for Error {
            fn into_failure(self) -> Failure {
                match self {
                    #(Error::#names(message) => Failure::new(#texts, message)),*
                }
            }
        }

        impl From<Error> for ::crux_runtime::StepError<Error> {
            fn from(error: Error) -> Self {
                Self::raised(error)
            }
        }
    }
}
