//! Names: what each one of the folder means, before any step is looked at. Types, inputs, events
//! and contracts are known afterwards; only what a step takes may still have to be inferred by the
//! walk in `lower`.

pub mod contracts;
pub mod errors;
pub mod events;
pub mod policy;
pub mod types;
pub mod uses;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::Sink;
use crate::ir::{Record, TypeName};
use crate::model;
use crate::source::Files;

pub use contracts::{Contract, Contracts, Returns, Takes};
pub use events::{Event, Events};
pub use types::Types;

/// What the names of a folder mean.
pub struct Folder<'a> {
    pub files: &'a Files,
    pub sources: &'a [model::File],
    pub types: Types<'a>,
    pub events: Events,
    pub contracts: Contracts<'a>,
    /// By workflow; `None`: its error has been reported.
    pub inputs: BTreeMap<&'a str, Option<Arc<Record>>>,
}

pub fn resolve<'a>(files: &'a Files, sources: &'a [model::File], sink: &mut Sink) -> Folder<'a> {
    let mut types = Types::declare(files, sources, sink);
    let mut inputs = BTreeMap::new();
    for workflow in sources.iter().filter_map(|file| file.workflow.as_ref()) {
        let name = TypeName { module: workflow_types(&workflow.name.value), name: "Input".into() };
        let input = match &workflow.input {
            Some(input) => types.record(input, name, "the input of a workflow", sink),
            None => Some(types.empty_record(name, workflow.name.span)),
        };
        inputs.insert(workflow.name.value.as_str(), input);
    }
    let mut events = events::declare(sources, &mut types, sink);
    events::from_triggers(sources, &inputs, &mut events, sink);
    let contracts = contracts::collect(files, sources, &mut types, sink);
    types.report_unknown(sink);
    Folder { files, sources, types, events, contracts, inputs }
}

/// The module of the types that are only this workflow's.
pub fn workflow_types(workflow: &str) -> String {
    workflow.to_owned()
}
