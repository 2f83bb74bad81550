//! Routing keys that are not in the pipelines, on whichever broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use crate::app::App;
use crate::machine::{Contract, Kind, Runs, TriggerSource};

/// Reports of services.
pub const COMPLETED: &str = "step.completed";
pub const STARTED: &str = "step.started";
pub const HEARTBEAT: &str = "step.heartbeat";
/// Heartbeats of worker processes, for every node.
pub const WORKERS: &str = "crux.workers";
/// Cancelled attempts, for every worker process.
pub const CANCELLED: &str = "crux.cancelled";

/// Whether it is a broadcast to all current subscribers, with delivery not required: such messages
/// are not counted.
pub(in crate::bus) fn is_to_all(routing_key: &str) -> bool {
    [WORKERS, CANCELLED].contains(&routing_key)
}

/// Of the tasks of a step struct that runs in another process: `crux.work.<type>`.
pub(in crate::bus) fn work_key(step_type: &'static str) -> &'static str {
    // Keys live as long as the process, as those that are in the generated code: there is one for
    // each step type.
    static KEYS: Mutex<BTreeMap<&'static str, &'static str>> = Mutex::new(BTreeMap::new());
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    keys.entry(step_type)
        .or_insert_with(|| Box::leak(format!("crux.work.{step_type}").into_boxed_str()))
}

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

/// The step types that are done by step structs.
pub(crate) fn class_types(app: &App) -> Vec<&'static str> {
    app.contracts
        .iter()
        .filter(|contract| matches!(contract.runs, Runs::Class(_)))
        .map(|contract| contract.step_type)
        .collect()
}

/// Of the tasks for services.
pub(in crate::bus) fn task_keys(app: &App) -> Vec<&'static str> {
    let key = |contract: &&'static Contract| match contract.runs {
        Runs::Service { routing_key } => Some(routing_key),
        Runs::Class(_) => None,
    };
    app.contracts.iter().filter_map(key).collect()
}
