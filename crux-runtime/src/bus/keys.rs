//! Routing keys of what comes in, on whichever broker.

use std::collections::BTreeSet;

use crate::app::App;
use crate::machine::{Contract, Kind, Runs, TriggerSource};

/// What services report, under the keys of the reference.
pub const COMPLETED: &str = "step.completed";
pub const STARTED: &str = "step.started";
pub const HEARTBEAT: &str = "step.heartbeat";

/// Events that start an instance or wake one, in any version that still runs.
pub(in crate::bus) fn consumed_events(app: &App) -> BTreeSet<&'static str> {
    let mut names = BTreeSet::new();
    for definition in app.workflows.iter().map(|workflow| workflow.definition) {
        names.extend(definition.nodes.iter().filter_map(|node| match node.kind {
            Kind::Wait { event } => Some(event),
            _ => None,
        }));
        names.extend(definition.triggers.iter().filter_map(|trigger| match trigger.source {
            TriggerSource::Event { name } if !definition.retired => Some(name),
            _ => None,
        }));
    }
    names
}

/// Of the tasks for services.
pub(in crate::bus) fn task_keys(app: &App) -> Vec<&'static str> {
    let key = |contract: &&'static Contract| match contract.runs {
        Runs::Service { routing_key } => Some(routing_key),
        Runs::Class(_) => None,
    };
    app.contracts.iter().filter_map(key).collect()
}
