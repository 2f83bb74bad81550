//! Two names of YAML that would be one name in Rust: fields, words, types, steps, branches, step
//! types, workflows and routing keys.

use std::collections::BTreeMap;

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::{Runs, Shape};
use crate::model::{Step, Verb};
use crate::names;
use crate::resolve::Folder;
use crate::resolve::uses::each_step;
use crate::source::Span;

/// Modules of the generated code beside those of the workflows.
const MODULES: [&str; 4] = ["events", "routes", "steps", "types"];

pub fn check(folder: &Folder<'_>, sink: &mut Sink) {
    types(folder, sink);
    let mut modules = Names::new("workflows", names::module);
    for workflow in folder.sources.iter().filter_map(|file| file.workflow.as_ref()) {
        let module = names::module(&workflow.name.value);
        if MODULES.contains(&module.as_str()) {
            let message = format!(
                "a workflow cannot be called `{}`: generated code has a module `{module}`",
                workflow.name.value
            );
            sink.push(
                Diagnostic::error(codes::NAME_TAKEN, workflow.name.span, message)
                    .help("rename the workflow and its file"),
            );
        }
        modules.add(&workflow.name.value, workflow.name.span, sink);
        steps(&workflow.steps, sink);
    }
    let (mut as_module, mut as_type) =
        (Names::new("step types", names::module), Names::new("step types", names::type_name));
    for (name, contract) in &folder.contracts {
        let _ = as_module.add(name, contract.span, sink) && as_type.add(name, contract.span, sink);
    }
    let mut event_types = Names::new("events", names::type_name);
    let mut constants = Names::new("routing keys", names::constant);
    for (name, event) in &folder.events {
        let _ = event_types.add(name, event.span, sink) && constants.add(name, event.span, sink);
    }
    for contract in folder.contracts.values() {
        if let Runs::Service { routing_key } = &contract.runs {
            constants.add(routing_key, contract.runs_span, sink);
        }
    }
    for workflow in folder.sources.iter().filter_map(|file| file.workflow.as_ref()) {
        for hook in
            [&workflow.hooks.on_start, &workflow.hooks.on_complete, &workflow.hooks.on_failure]
                .into_iter()
                .flatten()
        {
            constants.add(&hook.value, hook.span, sink);
        }
    }
}

fn types(folder: &Folder<'_>, sink: &mut Sink) {
    let mut modules: BTreeMap<&str, BTreeMap<String, Span>> = BTreeMap::new();
    for (def, span) in &folder.types.defs {
        let rust = names::declared_type(&def.name.name);
        // Also two of one name: an inferred type may be called like another.
        if let Some(first) =
            modules.entry(&def.name.module).or_default().insert(rust.clone(), *span)
        {
            collide(&format!("two types are both `{rust}` in Rust"), *span, first, sink);
        }
        match &def.shape {
            Shape::Record(record) => {
                let mut fields = Names::new("fields", names::field);
                for field in &record.fields {
                    fields.add(&field.name, *span, sink);
                }
            }
            Shape::Enum(words) => {
                let mut variants = Names::new("words", names::type_name);
                for word in &words.words {
                    variants.add(word, *span, sink);
                }
            }
            Shape::Alias(_) => {}
        }
    }
}

fn steps(steps: &[Step], sink: &mut Sink) {
    let (mut as_module, mut as_type) =
        (Names::new("steps", names::module), Names::new("steps", names::type_name));
    each_step(steps, &mut |step| {
        let named = match (&step.id, &step.verb) {
            (Some(id), _) => Some(id),
            (None, Verb::Work(work)) => Some(&work.type_name),
            _ => None,
        };
        if let Some(id) = named {
            let _ =
                as_module.add(&id.value, id.span, sink) && as_type.add(&id.value, id.span, sink);
        }
        if let Verb::Parallel { branches, .. } = &step.verb {
            let (mut as_field, mut as_type) =
                (Names::new("branches", names::field), Names::new("branches", names::type_name));
            for branch in branches {
                let _ = as_field.add(&branch.name.value, branch.name.span, sink)
                    && as_type.add(&branch.name.value, branch.name.span, sink);
            }
        }
    });
}

/// Names of one kind in one place, by what they become.
struct Names {
    what: &'static str,
    rust: fn(&str) -> String,
    known: BTreeMap<String, (String, Span)>,
}

impl Names {
    fn new(what: &'static str, rust: fn(&str) -> String) -> Self {
        Self { what, rust, known: BTreeMap::new() }
    }

    /// Whether the name is the first of its kind, or the same again.
    fn add(&mut self, name: &str, span: Span, sink: &mut Sink) -> bool {
        let rust = (self.rust)(name);
        if let Some((other, first)) = self.known.get(&rust) {
            if other == name {
                return true;
            }
            collide(
                &format!("the {} `{other}` and `{name}` are both `{rust}` in Rust", self.what),
                span,
                *first,
                sink,
            );
            return false;
        }
        self.known.insert(rust, (name.to_owned(), span));
        true
    }
}

fn collide(message: &str, span: Span, first: Span, sink: &mut Sink) {
    let diagnostic = Diagnostic::error(codes::RUST_COLLISION, span, message);
    let diagnostic =
        if first == span { diagnostic } else { diagnostic.other(first, "the other one") };
    sink.push(diagnostic.help("rename one of them"));
}
