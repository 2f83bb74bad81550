//! The table of routing keys: what is published and consumed, and what for.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{Contract, Node, Route, Runs, TriggerSource, Verb, Workflow};

pub(super) fn routes(workflows: &[Workflow], contracts: &[Contract]) -> Vec<Route> {
    let mut meanings: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut published: BTreeSet<String> = BTreeSet::new();
    let mut add = |key: &str, meaning: String| {
        meanings.entry(key.to_owned()).or_default().insert(meaning);
    };
    for contract in contracts {
        if let Runs::Service { routing_key } = &contract.runs {
            add(routing_key, format!("task of {}", contract.name));
        }
    }
    for workflow in workflows {
        for hook in
            [&workflow.hooks.on_start, &workflow.hooks.on_complete, &workflow.hooks.on_failure]
                .into_iter()
                .flatten()
        {
            add(hook, format!("hook of {}", workflow.name));
            published.insert(hook.clone());
        }
        for trigger in &workflow.triggers {
            if let TriggerSource::Event { name } = &trigger.source {
                add(name, format!("starts {}", workflow.name));
            }
        }
        let mut todo: Vec<&Node> = workflow.steps.iter().collect();
        while let Some(node) = todo.pop() {
            match &node.verb {
                Verb::Emit { routing_key, .. } => {
                    add(routing_key, format!("emitted by {}", workflow.name));
                    published.insert(routing_key.clone());
                }
                Verb::Wait { event, .. } => add(event, format!("awaited by {}", workflow.name)),
                _ => {}
            }
            todo.extend(node.children());
        }
    }
    let joined = |meanings: BTreeSet<String>| meanings.into_iter().collect::<Vec<_>>().join(", ");
    let route = |(key, meanings)| Route {
        is_published: published.contains(&key),
        meaning: joined(meanings),
        key,
    };
    meanings.into_iter().map(route).collect()
}
