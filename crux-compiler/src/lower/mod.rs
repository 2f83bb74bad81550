//! From checked names to the intermediate representation: a walk over each workflow's steps that
//! types every expression where it stands, numbers the nodes and fills in defaults. Errors leave
//! holes, never wrong nodes; with any error there is no program.

mod branches;
mod hash;
mod loops;
mod routes;
mod secrecy;
mod simple;
mod standing;
mod triggers;
mod wait;
mod walk;
mod work;

#[cfg(test)]
mod tests;

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::{EventDecl, Hooks, OnExhausted, Program, Shape, Type, TypeName, Workflow};
use crate::model;
use crate::resolve::Folder;
use crate::secrets;
use crate::typing::{Checker, NewTypes, Scope};

use walk::Walk;

/// How long an ended instance is kept where nothing is said: 7 days.
const RETAIN_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Lowers all workflows. `None` if the sink holds errors by then.
pub fn lower(folder: &mut Folder<'_>, sink: &mut Sink) -> Option<Program> {
    let sources = folder.sources;
    let workflows: Vec<Option<Workflow>> = sources
        .iter()
        .filter_map(|file| Some((file, file.workflow.as_ref()?)))
        .map(|(file, written)| workflow(folder, file, written, sink))
        .collect();
    if sink.has_errors() {
        return None;
    }
    let mut workflows = workflows.into_iter().collect::<Option<Vec<_>>>()?;
    workflows.sort_by(|a, b| a.name.cmp(&b.name).then(b.version.cmp(&a.version)));
    let contracts = folder
        .contracts
        .iter()
        .map(|(name, contract)| contract.finished(name, &folder.types))
        .collect::<Option<Vec<_>>>()?;
    for workflow in &mut workflows {
        hash::hash(workflow, &contracts);
    }
    let mut types: Vec<_> = folder.types.defs.iter().map(|(def, _)| def.clone()).collect();
    types.sort_by(|a, b| a.name.cmp(&b.name));
    let event = |(name, event): (&String, &crate::resolve::Event)| {
        Some(EventDecl {
            name: name.clone(),
            place: folder.types.place(event.span),
            ty: event.ty.clone()?,
            correlate: event.correlate.as_ref().map(|(field, _)| field.clone()),
        })
    };
    let events = folder.events.iter().map(event).collect::<Option<Vec<_>>>()?;
    let routes = routes::routes(&workflows, &contracts);
    Some(Program { workflows, contracts, types, events, routes })
}

fn workflow<'a>(
    folder: &mut Folder<'a>,
    file: &'a model::File,
    written: &'a model::Workflow,
    sink: &mut Sink,
) -> Option<Workflow> {
    let name = &written.name.value;
    let input = folder.inputs.get(name.as_str()).cloned().flatten();
    let triggers = triggers::triggers(folder, written, input.as_ref(), sink);
    let scope = Scope::steps(input.clone().map(Type::Record));
    let mut walk = Walk::new(folder, sink, scope, written)?;
    let steps = walk.steps(&written.steps, "");
    let output = match &written.output {
        None => Some(None),
        Some(output) => walk.output(name, output).map(Some),
    };
    let (config, nodes) = (walk.config(), walk.nodes());
    let place = folder.types.place(written.name.span);
    let hook = |hook: &Option<model::Name>| hook.as_ref().map(|key| key.value.clone());
    Some(Workflow {
        name: name.clone(),
        module: crate::resolve::workflow_types(name),
        version: written.version.value,
        retired: file.retired_version.is_some(),
        place,
        description: written.description.as_ref().map(|text| text.value.clone()),
        // Taken once the whole program is known.
        replay_hash: String::new(),
        policy_hash: String::new(),
        input: input?,
        triggers: triggers?,
        hooks: Hooks {
            on_start: hook(&written.hooks.on_start),
            on_complete: hook(&written.hooks.on_complete),
            on_failure: hook(&written.hooks.on_failure),
        },
        deadline_ms: written.deadline_ms.map(|deadline| deadline.value),
        on_exhausted: match written.on_exhausted.map(|choice| choice.value) {
            Some(model::OnExhausted::Park) => OnExhausted::Park,
            Some(model::OnExhausted::Undo) | None => OnExhausted::Undo,
        },
        retain_ms: written.retain_ms.map_or(RETAIN_MS, |retain| retain.value),
        config,
        steps: steps?,
        nodes,
        output: output?,
    })
}

impl Walk<'_, '_> {
    /// The record that a workflow ends with.
    fn output(&mut self, workflow: &str, written: &model::Output) -> Option<crate::ir::Expr> {
        let mut new =
            NewTypes { module: crate::resolve::workflow_types(workflow), made: Vec::new() };
        let mut checker = Checker { scope: &mut self.scope, sink: self.sink };
        let built = checker.record_of_any_type(&written.entries, written.key, "Output", &mut new);
        self.define(new);
        if let Some(crate::ir::ExprKind::Record(fields)) = built.as_ref().map(|built| &built.kind) {
            for (name, _) in
                fields.iter().filter(|(_, field)| secrets::of(field, &self.scope.secrets).any())
            {
                let span = written
                    .entries
                    .iter()
                    .find(|entry| entry.name.value == *name)
                    .map_or(written.key, |entry| entry.value.span);
                let message = format!("the output `{name}` is secret: its readers get `***`");
                let diagnostic = Diagnostic::warning(codes::SECRET_OUTPUT, span, message)
                    .label("made of a field with `$secret`");
                self.sink.push(
                    diagnostic.help("leave it out; a step that needs it is given it by `with`"),
                );
            }
        }
        built
    }

    /// Makes inferred records types of the folder.
    fn define(&mut self, new: NewTypes) {
        for (record, span) in new.made {
            let name =
                TypeName { module: record.name.module.clone(), name: record.name.name.clone() };
            self.folder.types.define(name, None, span, Shape::Record(record));
        }
    }
}
