//! Routing keys, events and routes: what AMQP accepts, what Crux keeps for itself, what two claim,
//! and what nobody receives.

use std::collections::BTreeMap;

use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::ir::Runs;
use crate::model::{Hooks, Name, Step, TriggerSource, Verb, Workflow};
use crate::resolve::Folder;
use crate::resolve::uses::each_step;
use crate::source::Span;

/// Longest routing key, in bytes: AMQP's short string.
const MAX_BYTES: usize = 255;

/// Published by hooks and by nothing else.
const HOOKS_ONLY: [&str; 3] = ["workflow.start", "workflow.completed", "workflow.failed"];
/// Consumed or published by Crux itself.
const RESERVED: [&str; 5] =
    ["step.completed", "step.started", "step.heartbeat", "worker.#", "crux.#"];

/// Routes that are built in. `*` stands for one word.
const RESERVED_ROUTES: [&str; 23] = [
    "/api/v1/workflow/status",
    "/api/v1/workflow/list",
    "/api/v1/workflow/step-completed",
    "/api/v1/workflow/step-started",
    "/api/v1/workflow/step-heartbeat",
    "/api/v1/workflow/*/history",
    "/api/v1/workflow/*/events",
    "/api/v1/workflow/*/cancel",
    "/api/v1/workflow/*/retry",
    "/api/v1/workflow/*/undo",
    "/api/v1/workflow/*/fail",
    "/api/v1/workflow/*/pause",
    "/api/v1/workflow/*/resume",
    "/api/v1/workflow/*/restart",
    "/api/v1/events",
    "/api/v1/workers",
    "/api/v1/auth/*",
    "/ws",
    "/health",
    "/health/*",
    "/metrics",
    "/openapi.json",
    "/asyncapi.json",
];

pub fn check(folder: &Folder<'_>, sink: &mut Sink) {
    let workflows: Vec<&Workflow> =
        folder.sources.iter().filter_map(|file| file.workflow.as_ref()).collect();
    step_types(folder, sink);
    routes(&workflows, sink);
    for pattern in folder.sources.iter().flat_map(|file| &file.external) {
        if let Some(reason) = syntax(&pattern.value, true) {
            let diagnostic = Diagnostic::error(
                codes::PATTERN_SYNTAX,
                pattern.span,
                format!("`{}` is not a valid pattern of routing keys", pattern.value),
            );
            sink.push(diagnostic.note(reason).help("words are joined with dots; `*` stands for one word, `#` for any number: `billing.#`"));
        }
    }
    for decl in folder.sources.iter().flat_map(|file| &file.events) {
        key(&decl.name, "an event", sink);
    }
    for workflow in &workflows {
        for hook in hooks(&workflow.hooks).filter(|hook| !hook.value.starts_with("webhook:")) {
            if !HOOKS_ONLY.contains(&hook.value.as_str()) {
                key(hook, "a hook", sink);
            }
        }
        for trigger in &workflow.triggers {
            if let TriggerSource::Event(name) = &trigger.source {
                key(name, "an event", sink);
            }
        }
        each_step(&workflow.steps, &mut |step| match &step.verb {
            Verb::Wait { event, .. } | Verb::Emit { event, .. } => key(event, "an event", sink),
            _ => {}
        });
    }
    if !sink.has_errors() {
        unheard(folder, &workflows, sink);
        task_keys(folder, &workflows, sink);
        for workflow in &workflows {
            starts_itself(workflow, &workflow.steps, sink);
        }
    }
}

/// What is published under the routing key of a step type reaches a service that waits for tasks.
fn task_keys(folder: &Folder<'_>, workflows: &[&Workflow], sink: &mut Sink) {
    let tasks: BTreeMap<String, (&str, Span)> = folder
        .contracts
        .iter()
        .map(|(name, contract)| match &contract.runs {
            Runs::Service { routing_key } => (routing_key.clone(), (*name, contract.runs_span)),
            // Where a worker or service does it instead.
            Runs::Class(_) => (format!("step.{name}"), (*name, contract.runs_span)),
        })
        .collect();
    let mut check = |key: &Name, what: &str| {
        let Some((step_type, place)) = tasks.get(&key.value) else { return };
        let message = format!(
            "`{}` is the routing key of the step type `{step_type}`: its service takes {what} for a task",
            key.value
        );
        let diagnostic = Diagnostic::warning(codes::TASK_KEY_PUBLISHED, key.span, message)
            .other(*place, "its tasks go there");
        sink.push(
            diagnostic.help("publish under another name; work is handed out by a step with `type`"),
        );
    };
    for workflow in workflows {
        hooks(&workflow.hooks).for_each(|hook| check(hook, "this hook"));
        each_step(&workflow.steps, &mut |step| {
            if let Verb::Emit { event, .. } = &step.verb {
                check(event, "this event");
            }
        });
    }
}

/// Each instance that comes to such an `emit` starts the next one, without end. Behind a condition,
/// or with a trigger that chooses, it may be meant.
fn starts_itself(workflow: &Workflow, steps: &[Step], sink: &mut Sink) {
    for step in steps.iter().filter(|step| step.when.is_none()) {
        match &step.verb {
            Verb::Emit { event, .. } => {
                let starts = |source: &TriggerSource| matches!(source, TriggerSource::Event(name) if name.value == event.value);
                let trigger = workflow.triggers.iter().find(|trigger| starts(&trigger.source));
                let Some(trigger) =
                    trigger.filter(|trigger| trigger.when.is_none() && trigger.key.is_none())
                else {
                    continue;
                };
                let message = format!(
                    "`{}` starts this workflow again: every instance starts another, without end",
                    event.value
                );
                let diagnostic = Diagnostic::warning(codes::STARTS_ITSELF, event.span, message)
                    .other(trigger.span, "started here");
                sink.push(diagnostic.help(
                    "emit another event, or say when with `when` on the `emit` or on the trigger",
                ));
            }
            Verb::Group { steps, .. } => starts_itself(workflow, steps, sink),
            Verb::Work(work) => {
                starts_itself(workflow, work.steps.as_deref().unwrap_or_default(), sink)
            }
            Verb::Parallel { branches, .. } => {
                branches.iter().for_each(|branch| starts_itself(workflow, &branch.steps, sink))
            }
            Verb::Each(each) => starts_itself(workflow, &each.steps, sink),
            Verb::Repeat(repeat) => starts_itself(workflow, &repeat.steps, sink),
            _ => {}
        }
    }
}

fn hooks(hooks: &Hooks) -> impl Iterator<Item = &Name> {
    [&hooks.on_start, &hooks.on_complete, &hooks.on_failure].into_iter().flatten()
}

/// One contract per routing key and per step struct.
fn step_types(folder: &Folder<'_>, sink: &mut Sink) {
    let mut taken: BTreeMap<&str, (&str, Span)> = BTreeMap::new();
    for (name, contract) in &folder.contracts {
        let (key_or_class, code, what) = match &contract.runs {
            Runs::Class(class) => (class.as_str(), codes::CLASS_TAKEN, "step struct"),
            Runs::Service { routing_key } => {
                key(&Name::new(routing_key.clone(), contract.runs_span), "a service", sink);
                (routing_key.as_str(), codes::ROUTING_KEY_TAKEN, "routing key")
            }
        };
        if let Some(known) = taken.get(key_or_class) {
            let own = (*name, contract.runs_span);
            // What stands first in the files has it; the other one is the mistake.
            let ((other, first), (name, place)) =
                if known.1 < own.1 { (*known, own) } else { (own, *known) };
            let message =
                format!("two step types, `{other}` and `{name}`, with the {what} `{key_or_class}`");
            let diagnostic =
                Diagnostic::error(code, place, message).other(first, format!("`{other}` has it"));
            sink.push(diagnostic.help(match &contract.runs {
                Runs::Class(_) => "a step struct has one contract: write a second struct, or use one step type for both",
                Runs::Service { .. } => "give one of them another `routing_key`, or use one step type for both",
            }));
        }
        taken.entry(key_or_class).or_insert((name, contract.runs_span));
    }
}

fn routes(workflows: &[&Workflow], sink: &mut Sink) {
    let mut claimed: BTreeMap<&str, (Span, &str)> = BTreeMap::new();
    for workflow in workflows {
        for trigger in &workflow.triggers {
            let TriggerSource::Http(path) = &trigger.source else { continue };
            if let Some(built_in) =
                RESERVED_ROUTES.iter().chain(&["/docs"]).find(|route| is_route(route, &path.value))
            {
                let diagnostic = Diagnostic::error(
                    codes::ROUTE_RESERVED,
                    path.span,
                    format!("the route `{}` is built in", path.value),
                );
                let diagnostic = if *built_in == path.value {
                    diagnostic
                } else {
                    diagnostic.note(format!("`{built_in}` is reserved"))
                };
                sink.push(diagnostic.help(format!(
                    "choose another path, such as `/api/v1/workflow/{}`",
                    workflow.name.value
                )));
            } else if let Some((first, owner)) = claimed.get(path.value.as_str()) {
                let message = format!("the route `{}` starts `{owner}` already", path.value);
                let diagnostic = Diagnostic::error(codes::ROUTE_TAKEN, path.span, message)
                    .other(*first, "claimed here");
                sink.push(diagnostic.help(
                    "a route starts one workflow: choose another path, or start both with an event",
                ));
            }
            claimed.entry(&path.value).or_insert((path.span, &workflow.name.value));
        }
    }
}

fn is_route(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) =
        (pattern.split('/').collect(), path.split('/').collect());
    pattern.len() == path.len()
        && pattern.iter().zip(&path).all(|(wanted, word)| *wanted == "*" || wanted == word)
}

/// A key that is published or consumed as it stands.
fn key(key: &Name, what: &str, sink: &mut Sink) {
    if let Some(reason) = syntax(&key.value, false) {
        let diagnostic = Diagnostic::error(
            codes::ROUTING_KEY_SYNTAX,
            key.span,
            format!("`{}` is not a valid routing key", key.value),
        );
        sink.push(diagnostic.note(reason).help("a routing key is words of letters, digits, `_` and `-`, joined with dots: `order.paid`"));
        return;
    }
    let reserved = HOOKS_ONLY.contains(&key.value.as_str())
        || RESERVED.iter().any(|pattern| matches(pattern, &key.value));
    if reserved {
        let message = format!("the routing key `{}` is reserved: {what} cannot have it", key.value);
        let diagnostic = Diagnostic::error(codes::ROUTING_KEY_RESERVED, key.span, message);
        let kept = if HOOKS_ONLY.contains(&key.value.as_str()) {
            "hooks publish under it"
        } else {
            "reserved are `step.completed`, `step.started`, `step.heartbeat`, `worker.#` and `crux.#`"
        };
        sink.push(diagnostic.note(kept).help(match what {
            "a service" => "choose another step type, or give it a `routing_key`",
            _ => "choose another name",
        }));
    }
}

/// Why a string is not a valid routing key or pattern.
fn syntax(key: &str, pattern: bool) -> Option<String> {
    if key.len() > MAX_BYTES {
        return Some(format!("it has {} bytes; AMQP allows {MAX_BYTES}", key.len()));
    }
    for word in key.split('.') {
        if word.is_empty() {
            return Some("there is nothing between two dots, or at an end".into());
        }
        if pattern && matches!(word, "*" | "#") {
            continue;
        }
        if let Some(c) =
            word.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
        {
            let wildcard = matches!(c, '*' | '#');
            let reason = if wildcard && !pattern {
                "wildcards are allowed in patterns only"
            } else {
                "it is not allowed in a word"
            };
            return Some(format!("`{}`: {reason}", c.escape_debug()));
        }
    }
    None
}

/// Keys that are published and that nothing known receives.
fn unheard(folder: &Folder<'_>, workflows: &[&Workflow], sink: &mut Sink) {
    let mut published: Vec<(&Name, &str)> = Vec::new();
    let mut consumed: Vec<&str> = Vec::new();
    for workflow in workflows {
        published.extend(hooks(&workflow.hooks).map(|hook| (hook, "this hook")));
        consumed.extend(workflow.triggers.iter().filter_map(|trigger| match &trigger.source {
            TriggerSource::Event(name) => Some(name.value.as_str()),
            _ => None,
        }));
        each_step(&workflow.steps, &mut |step| match &step.verb {
            Verb::Emit { event, .. } => published.push((event, "this event")),
            Verb::Wait { event, .. } => consumed.push(&event.value),
            _ => {}
        });
    }
    consumed.extend(folder.contracts.values().filter_map(|contract| match &contract.runs {
        Runs::Service { routing_key } => Some(routing_key.as_str()),
        Runs::Class(_) => None,
    }));
    let external =
        folder.sources.iter().flat_map(|file| &file.external).map(|pattern| pattern.value.as_str());
    let patterns: Vec<&str> = external.chain(["workflow.#"]).collect();
    for (key, what) in published {
        if consumed.contains(&key.value.as_str())
            || patterns.iter().any(|pattern| matches(pattern, &key.value))
        {
            continue;
        }
        let message = format!("nothing receives `{}`: {what} is published and lost", key.value);
        let help = format!("if others consume it, say so: `external: [{}]`", key.value);
        sink.push(Diagnostic::warning(codes::ROUTING_KEY_UNHEARD, key.span, message).help(help));
    }
}

/// Whether a pattern of AMQP's topic exchange matches a key: `*` is one word, `#` any number of
/// words.
fn matches(pattern: &str, key: &str) -> bool {
    let key: Vec<&str> = key.split('.').collect();
    // Which suffixes of the key the rest of the pattern would match; built from its end, so that
    // `#` costs no recursion.
    let mut rest = vec![false; key.len() + 1];
    if let Some(end) = rest.last_mut() {
        *end = true;
    }
    for word in pattern.rsplit('.') {
        let mut with = vec![false; key.len() + 1];
        for at in (0..=key.len()).rev() {
            let (here, next) = (
                rest.get(at).copied().unwrap_or(false),
                rest.get(at + 1).copied().unwrap_or(false),
            );
            let holds = match word {
                "#" => here || with.get(at + 1).copied().unwrap_or(false),
                _ => next && key.get(at).is_some_and(|found| word == "*" || word == *found),
            };
            if let Some(slot) = with.get_mut(at) {
                *slot = holds;
            }
        }
        rest = with;
    }
    rest.first().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::{is_route, matches, syntax};

    #[test]
    fn patterns_match_as_the_broker_does() {
        for (pattern, key, expected) in [
            ("workflow.#", "workflow.start", true),
            ("workflow.#", "workflow", true),
            ("workflow.#", "workflows.start", false),
            ("#", "a.b.c", true),
            ("*.b", "a.b", true),
            ("*.b", "b", false),
            ("#.b.#", "a.b.c.d", true),
            ("#.b", "a.b.c", false),
            ("a.*.c", "a.b.c", true),
            ("a.*", "a", false),
            ("a.b", "a.b", true),
            ("a.#.d", "a.d", true),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn keys_and_routes() {
        assert_eq!(syntax("order.paid-2", false), None);
        for wrong in ["", "a..b", ".a", "a.", "a b", "a.*", "ä.b", "a.#", &"a".repeat(256)] {
            assert!(syntax(wrong, false).is_some(), "{wrong}");
        }
        assert_eq!(syntax("a.*.#", true), None);
        assert!(syntax("a*", true).is_some());
        assert!(is_route("/api/v1/workflow/*/cancel", "/api/v1/workflow/x/cancel"));
        assert!(!is_route("/health", "/health/live"));
    }
}
