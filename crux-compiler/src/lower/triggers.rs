//! Triggers: where an instance comes from, and how what arrives becomes its input.

use std::sync::Arc;

use super::secrecy;
use crate::diagnostic::Sink;
use crate::ir::{Record, Trigger, TriggerSource, Type};
use crate::model;
use crate::resolve::Folder;
use crate::typing::{Checker, Scope};

pub(super) fn triggers(
    folder: &Folder<'_>,
    workflow: &model::Workflow,
    input: Option<&Arc<Record>>,
    sink: &mut Sink,
) -> Option<Vec<Trigger>> {
    let triggers: Vec<Option<Trigger>> = workflow
        .triggers
        .iter()
        .map(|trigger| lower(folder, &workflow.name.value, trigger, input, sink))
        .collect();
    triggers.into_iter().collect()
}

fn lower(
    folder: &Folder<'_>,
    workflow: &str,
    trigger: &model::Trigger,
    input: Option<&Arc<Record>>,
    sink: &mut Sink,
) -> Option<Trigger> {
    let (source, event) = match &trigger.source {
        model::TriggerSource::Http(path) => {
            (TriggerSource::Http { path: path.value.clone() }, Some(Type::Json))
        }
        model::TriggerSource::Event(name) => {
            let ty = folder.events.get(&name.value).and_then(|event| event.ty.clone());
            (TriggerSource::Event { name: name.value.clone() }, ty.map(Type::Record))
        }
        // Refused by name, before anything is lowered.
        model::TriggerSource::Kafka(_) | model::TriggerSource::Cron(_) => return None,
    };
    let with = match &trigger.with {
        None => Some(None),
        Some(with) => input.and_then(|input| {
            let mut scope = Scope::trigger_with(event);
            let owner = format!("the input of `{workflow}`");
            let built = Checker { scope: &mut scope, sink }.record(
                &with.entries,
                with.key,
                input,
                &owner,
            )?;
            secrecy::unmarked(&scope.secrets, sink, &built, input, &with.entries, &owner);
            Some(Some(built))
        }),
    };
    let mut scope = Scope::trigger(input.cloned().map(Type::Record));
    let mut checker = Checker { scope: &mut scope, sink };
    let when = match &trigger.when {
        None => Some(None),
        Some(when) => checker.condition(when).map(Some),
    };
    let key = match &trigger.key {
        None => Some(None),
        Some(key) => checker.expression(key, &Type::String).and_then(|lowered| {
            secrecy::refuse(
                checker.scope,
                checker.sink,
                &lowered,
                key.span,
                "the `key` of a trigger, which is kept",
            )?;
            Some(Some(lowered))
        }),
    };
    Some(Trigger {
        place: folder.types.place(trigger.span),
        source,
        with: with?,
        when: when?,
        key: key?,
        is_closed: trigger.is_closed,
    })
}
