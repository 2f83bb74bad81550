//! Events: each name has one type in the whole folder. It is declared under `events`; an event that
//! only triggers name has the type of the input that it starts, and one that only an `emit` names
//! has the type of its data.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::types::Types;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::{Record, Type, TypeName};
use crate::model::{self, TriggerSource};
use crate::names;
use crate::source::Span;
use crate::types::fits;

/// One event of the folder.
pub struct Event {
    pub span: Span,
    /// `None`: its error has been reported.
    pub ty: Option<Arc<Record>>,
    /// Whether it stands under `events`.
    pub declared: bool,
    /// The field by which waits find it, and the wait that says so.
    pub correlate: Option<(String, Span)>,
    /// Whether a trigger, wait or `emit` names it.
    pub used: bool,
}

pub type Events = BTreeMap<String, Event>;

/// The events that stand under `events`.
pub fn declare<'a>(sources: &'a [model::File], types: &mut Types<'a>, sink: &mut Sink) -> Events {
    let mut events = Events::new();
    for decl in sources.iter().flat_map(|file| &file.events) {
        if let Some(first) = events.get(&decl.name.value) {
            let message = format!("the event `{}` is declared twice", decl.name.value);
            let diagnostic = Diagnostic::error(codes::EVENT_TWICE, decl.name.span, message)
                .other(first.span, "first here");
            sink.push(diagnostic.help("an event has one type in the whole folder: keep one"));
            continue;
        }
        let ty = types.record(&decl.ty, type_name(&decl.name.value), "an event", sink);
        events.insert(
            decl.name.value.clone(),
            Event { span: decl.name.span, ty, declared: true, correlate: None, used: false },
        );
    }
    events
}

/// The name of the type of an event's data where it stands in place.
pub fn type_name(event: &str) -> TypeName {
    TypeName { module: "events".into(), name: names::type_name(event) }
}

/// Gives events that only triggers name the type of the input that they start. `inputs` is by
/// workflow.
pub fn from_triggers(
    sources: &[model::File],
    inputs: &BTreeMap<&str, Option<Arc<Record>>>,
    events: &mut Events,
    sink: &mut Sink,
) {
    for workflow in sources.iter().filter_map(|file| file.workflow.as_ref()) {
        let Some(input) = inputs.get(workflow.name.value.as_str()) else { continue };
        for trigger in &workflow.triggers {
            let TriggerSource::Event(name) = &trigger.source else { continue };
            let Some(event) = events.get_mut(&name.value) else {
                if trigger.with.is_some() {
                    let message = format!(
                        "the event `{}` is not declared, so `with` cannot read it",
                        name.value
                    );
                    let help = format!("declare it: `events: {{ {}: {{ … }} }}`", name.value);
                    sink.push(
                        Diagnostic::error(codes::UNKNOWN_EVENT, name.span, message).help(help),
                    );
                }
                let ty = input.clone().filter(|_| trigger.with.is_none());
                let event =
                    Event { span: name.span, ty, declared: false, correlate: None, used: true };
                events.insert(name.value.clone(), event);
                continue;
            };
            event.used = true;
            if trigger.with.is_none()
                && let (Some(event_type), Some(input)) = (&event.ty, input)
                && let Err(misfit) =
                    fits(&Type::Record(event_type.clone()), &Type::Record(input.clone()))
            {
                let message = format!(
                    "the event `{}` does not fit the input of `{}`",
                    name.value, workflow.name.value
                );
                let what =
                    if event.declared { "its type" } else { "another trigger gives it its type" };
                let mut diagnostic = Diagnostic::error(codes::EVENT_TYPE, name.span, message)
                    .other(event.span, what);
                diagnostic.notes.extend(misfit.reason());
                sink.push(diagnostic.help(if event.declared {
                    "map it: `with: { field: ${event.field} }` on the trigger"
                } else {
                    "declare the event under `events`, and map it with `with` where it differs"
                }));
            }
        }
    }
}
