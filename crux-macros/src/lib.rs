//! `#[workflow]`, which ties a step struct to its step type; and the derives of generated code.
//!
//! Everything here sees Rust tokens only and opens no file: what stands in YAML meets what stands
//! in Rust in rustc's type checker.

mod open;
mod value;
mod workflow;

use proc_macro::TokenStream;

/// `#[workflow(step = send_notification)]` on a step struct makes it the struct of that step type:
/// `Input<Self>`, `Output<Self>` and `Error<Self>` are then known, and `impl Step` says what it
/// does.
///
/// | argument | meaning |
/// |---|---|
/// | `step = NAME` | the `type` in pipelines/*.yaml |
/// | `blocking` | `run` blocks its thread; it gets its own |
/// | `routing_key = "a.b"` | a literal, or a constant of `pipelines::routes`: checked against the contract's |
/// | `crate = path` | where the generated module is, if not `crate::pipelines` |
#[proc_macro_attribute]
pub fn workflow(arguments: TokenStream, item: TokenStream) -> TokenStream {
    workflow::expand(arguments.into(), item.into()).into()
}

/// Of the enum of a scope, and of the struct of the branches of a `parallel`: asks the part of the
/// variant that it is, or of each branch.
#[proc_macro_derive(Part)]
pub fn part(item: TokenStream) -> TokenStream {
    open::part(item.into()).into()
}

/// Of the struct of the branches of a `parallel`: done when all are.
#[proc_macro_derive(Join)]
pub fn join(item: TokenStream) -> TokenStream {
    open::join(item.into()).into()
}

/// Of a generated record: read from and written as a JSON object. `#[json(name = "…", rules =
/// Rules::…, default = function)]` on a field.
#[proc_macro_derive(Record, attributes(json))]
pub fn record(item: TokenStream) -> TokenStream {
    value::record(item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Of a generated enum of words. `#[json(name = "…")]` on a variant.
#[proc_macro_derive(Enum, attributes(json))]
pub fn words(item: TokenStream) -> TokenStream {
    value::words(item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Of generated records and enums that step structs see: serde's `Serialize` and `Deserialize`.
/// Nothing in Crux needs them.
#[proc_macro_derive(Serde)]
pub fn serde(item: TokenStream) -> TokenStream {
    value::serde(item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}
