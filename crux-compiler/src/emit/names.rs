//! The names of generated items, each used once per module.

use std::collections::BTreeSet;

use proc_macro2::Ident;

use crate::names;
pub(super) use crate::names::declared_type;

/// What generated modules import by name; nothing in them may be called so.
pub(super) const IMPORTED: &[&str] = &[
    "Applied",
    "Arc",
    "Arrived",
    "Branch",
    "Caught",
    "Composite",
    "Contract",
    "Definition",
    "Duration",
    "Each",
    "EffectKind",
    "Env",
    "EventType",
    "Failure",
    "Flow",
    "Fx",
    "Handler",
    "Hooks",
    "IndexMap",
    "Inside",
    "Join",
    "Json",
    "Kind",
    "Machine",
    "Never",
    "NoUndo",
    "Node",
    "OnExhausted",
    "Open",
    "Part",
    "Policy",
    "RawValue",
    "Refusal",
    "Refused",
    "Repeat",
    "Rounds",
    "Rules",
    "Runs",
    "Sleep",
    "StepEvent",
    "StepType",
    "Task",
    "TaskStep",
    "Then",
    "Time",
    "Timestamp",
    "Trigger",
    "TriggerSource",
    "Wait",
    "RejectReason",
];

/// Names of Rust's prelude that generated code writes; and those that the generator itself gives.
const PRELUDE: &[&str] = &[
    "Box",
    "Clone",
    "Copy",
    "Debug",
    "Err",
    "FnMut",
    "None",
    "Ok",
    "Option",
    "PartialEq",
    "Result",
    "Self",
    "Some",
    "String",
    "Vec",
];

/// Local variables and fields of generated functions.
const VARIABLES: &[&str] = &[
    "at", "data", "each", "env", "error", "event", "failure", "fx", "input", "inside", "now",
    "part", "repeat", "all", "applied", "failed", "view", "raw", "state", "up", "value", "visit",
    "key", "until", "list", "message", "undo", "result", "next", "given",
];

/// The names that a module has used.
#[derive(Debug)]
pub(super) struct Names {
    types: BTreeSet<String>,
    steps: BTreeSet<String>,
    scopes: BTreeSet<String>,
    variants: BTreeSet<String>,
}

impl Names {
    /// For a module in which the types `taken` stand.
    pub(super) fn new<'a>(taken: impl IntoIterator<Item = &'a str>) -> Self {
        let mut types: BTreeSet<String> =
            IMPORTED.iter().chain(PRELUDE).map(|name| (*name).to_owned()).collect();
        types.extend(taken.into_iter().map(declared_type));
        Self {
            types,
            steps: VARIABLES.iter().map(|name| (*name).to_owned()).collect(),
            scopes: BTreeSet::new(),
            variants: BTreeSet::new(),
        }
    }

    /// A type of that name, or with a number after it.
    pub(super) fn take_type(&mut self, wanted: &str) -> String {
        take(&mut self.types, wanted, "")
    }

    /// What a step's functions and its variant are called.
    pub(super) fn take_step(&mut self, id: &str) -> (String, String) {
        let snake = take(&mut self.steps, bare(&names::module(id)), "_");
        let camel = names::type_name(&snake);
        let camel = if is_reserved(&camel) {
            format!("{}Step", camel.trim_end_matches('_'))
        } else {
            camel
        };
        (snake, take(&mut self.variants, &camel, ""))
    }

    /// The scope of a catch is a variant beside those of the steps.
    pub(super) fn take_catch(&mut self, wanted: &str) -> String {
        let mut name = self.take_type(wanted);
        while !self.variants.insert(name.clone()) {
            name = self.take_type(wanted);
        }
        name
    }

    /// What a scope's functions are called.
    pub(super) fn take_scope(&mut self, wanted: &str) -> String {
        take(&mut self.scopes, wanted, "_")
    }
}

fn take(taken: &mut BTreeSet<String>, wanted: &str, between: &str) -> String {
    let mut name = wanted.to_owned();
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{wanted}{between}{number}");
        number += 1;
    }
    name
}

fn is_reserved(name: &str) -> bool {
    IMPORTED.contains(&name) || PRELUDE.contains(&name) || name == "Self_"
}

/// The variant of a word or of an error's name, as it is called in YAML: behind its enum's name it
/// is like no other.
pub(super) fn variant(word: &str) -> Ident {
    names::ident(&names::type_name(word))
}

/// Without `r#`, to be part of a longer name.
pub(super) fn bare(name: &str) -> &str {
    name.strip_prefix("r#").unwrap_or(name)
}

/// A field or variable of that name, also where it is a keyword.
pub(super) fn variable(snake: &str) -> Ident {
    names::ident(&names::module(snake))
}

/// A variable of that name, or with `_` at its end where generated functions call another one
/// so, or `is_taken` says that another does. No name of YAML ends so in Rust.
pub(super) fn local(yaml: &str, is_taken: impl Fn(&Ident) -> bool) -> Ident {
    let name = variable(yaml);
    let text = name.to_string();
    let plain = bare(&text);
    if VARIABLES.contains(&plain) || plain.starts_with("at_") || is_taken(&name) {
        ident(&format!("{plain}_"))
    } else {
        name
    }
}

pub(super) fn ident(name: &str) -> Ident {
    names::ident(name)
}
