//! A step: which verb it has, what every step may have, and the work of `type`. The other verbs are
//! in `flow`.

use super::flow;
use super::mapping::{Mapping, Shape, list, nowhere, with_contract, wrong_kind};
use super::policy;
use super::scalar;
use super::synonyms;
use super::tree::{BROKEN_KEY, Kind, Node, Pair};
use super::value;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{Catch, Caught, Child, Name, Step, Undo, UndoWork, Verb, Work};
use crate::names;
use crate::source::Spanned;
use crate::suggest;

pub static WORK: Shape = Shape {
    what: "a `type` step",
    schema: "WorkStep",
    keys: with_contract!(
        ["id", "description", "type"],
        ["with", "when", "retry", "timeout", "catch", "undo", "key", "steps"]
    ),
};

pub static CHILD: Shape = Shape {
    what: "a `child` step",
    schema: "ChildStep",
    keys: &["id", "description", "child", "with", "when", "retry", "timeout", "catch", "undo"],
};

pub static UNDO: Shape = Shape {
    what: "`undo`",
    schema: "UndoWork",
    keys: with_contract!(["type"], ["with", "retry", "timeout"]),
};

pub static CATCH: Shape =
    Shape { what: "an element of `catch`", schema: "Catch", keys: &["error", "steps"] };

/// Each verb's key and the shape of its step. `class` and `routing_key` alone are work too, `steps`
/// alone is a group.
static VERBS: &[(&str, &Shape)] = &[
    ("type", &WORK),
    ("parallel", &flow::PARALLEL),
    ("switch", &flow::SWITCH),
    ("each", &flow::EACH),
    ("repeat", &flow::REPEAT),
    ("wait", &flow::WAIT),
    ("sleep", &flow::SLEEP),
    ("child", &CHILD),
    ("emit", &flow::EMIT),
    ("fail", &flow::FAIL),
    ("class", &WORK),
    ("routing_key", &WORK),
    ("steps", &flow::GROUP),
];

/// The steps of a list that must have some.
pub fn some_steps(pair: &Pair, sink: &mut Sink) -> Option<Vec<Step>> {
    let nodes = scalar::some_elements(pair, sink)?;
    Some(nodes.iter().filter_map(|node| step(node, sink)).collect())
}

/// The steps of a branch, which may be empty.
pub fn steps(pair: &Pair, sink: &mut Sink) -> Option<Vec<Step>> {
    let nodes = scalar::elements(pair, sink)?;
    Some(nodes.iter().filter_map(|node| step(node, sink)).collect())
}

fn step(node: &Node, sink: &mut Sink) -> Option<Step> {
    let Kind::Mapping(pairs) = &node.kind else {
        wrong_kind("a step", node, "a record", sink);
        return None;
    };
    let (verb_key, shape) = verb(pairs, node, sink)?;
    let mapping = Mapping::open(node, shape, elsewhere, sink)?;
    let id = mapping
        .get("id")
        .and_then(|pair| scalar::name(&pair.value, names::Kind::Id, "the id of a step", sink));
    if !matches!(verb_key.value.as_str(), "type" | "emit" | "fail" | "sleep") {
        mapping.need("id", "id: some_name", sink);
    }
    let description = mapping.get("description").and_then(|pair| scalar::text(pair, sink));
    let when = mapping.get("when").and_then(|pair| scalar::expression(pair, sink));
    let catch = mapping.get("catch").and_then(|pair| catches(pair, sink));
    let verb = match verb_key.value.as_str() {
        "type" | "class" | "routing_key" => {
            work(&mapping, id.as_ref(), sink).map(|work| Verb::Work(Box::new(work)))
        }
        "child" => child(&mapping, sink).map(|child| Verb::Child(Box::new(child))),
        other => flow::verb(other, &mapping, sink),
    };
    Some(Step {
        span: node.span,
        id,
        description,
        when,
        verb_key: verb_key.span,
        verb: verb?,
        catch,
    })
}

/// The key that says what a step does, and the shape that follows from it.
fn verb<'a>(pairs: &'a [Pair], node: &Node, sink: &mut Sink) -> Option<(&'a Name, &'static Shape)> {
    let found = |verb: &str| pairs.iter().find(|pair| pair.key.value == verb);
    let mut verbs: Vec<(&Name, &'static Shape)> = Vec::new();
    for (verb, shape) in VERBS {
        let Some(pair) = found(verb) else { continue };
        // Nested steps follow the work that they stand in; `class` and `routing_key` belong to the
        // `type` beside them.
        let belongs = verbs.first().is_some_and(|(_, first)| {
            std::ptr::eq(*first, *shape) || (*verb == "steps" && std::ptr::eq(*first, &WORK))
        });
        if !belongs {
            verbs.push((&pair.key, shape));
        }
    }
    match verbs[..] {
        [only] => Some(only),
        [] => {
            sink.push(no_verb(pairs, node));
            None
        }
        [(first, _), (second, _), ..] => {
            let (first, second) =
                if first.span < second.span { (first, second) } else { (second, first) };
            let holder = [first, second].into_iter().find(|verb| {
                matches!(verb.value.as_str(), "each" | "repeat" | "parallel" | "switch")
            });
            let steps = [first, second].into_iter().any(|verb| verb.value == "steps");
            let help = match holder.filter(|_| steps).map(|verb| verb.value.as_str()) {
                Some("each") => "the steps belong inside: `each: { item: line, in: input.lines, steps: [...] }`".to_owned(),
                Some("repeat") => "the steps belong inside: `repeat: { until: steps.poll.done, max: 10, steps: [...] }`".to_owned(),
                Some(verb) => format!("the steps belong inside the branches of `{verb}`"),
                None => "make them two steps, one after the other".to_owned(),
            };
            sink.push(
                Diagnostic::error(
                    codes::TWO_VERBS,
                    second.span,
                    format!("a step cannot have both `{}` and `{}`", first.value, second.value),
                )
                .label("does this as well")
                .other(first.span, "does this")
                .help(help),
            );
            None
        }
    }
}

/// Whether a key says what a step does.
pub fn is_verb(key: &str) -> bool {
    VERBS.iter().any(|(verb, _)| *verb == key)
}

fn no_verb(pairs: &[Pair], node: &Node) -> Diagnostic {
    let verbs = || VERBS.iter().map(|(verb, _)| *verb);
    let unknown = |pair: &Pair| {
        Diagnostic::error(
            codes::UNKNOWN_KEY,
            pair.key.span,
            format!("unknown key `{}` in step", pair.key.value),
        )
        .label("unknown key")
    };
    let misspelt = || {
        pairs.iter().filter(|pair| {
            !WORK.keys.contains(&pair.key.value.as_str()) && pair.key.value != BROKEN_KEY
        })
    };
    for pair in misspelt() {
        if let Some(ours) = synonyms::ours(&pair.key.value, is_verb) {
            let help = format!("it is called `{ours}` here");
            let what = "the name of work that a Rust struct (`class`) or a service does; a pipeline runs no commands";
            return unknown(pair).help(if ours == "type" {
                format!("{help}: {what}")
            } else {
                help
            });
        }
    }
    for pair in misspelt() {
        if let Some(near) = suggest::nearest(&pair.key.value, verbs()) {
            return unknown(pair).help(format!("did you mean `{near}`?"));
        }
    }
    for pair in misspelt() {
        if let Some(instead) = synonyms::otherwise(&pair.key.value) {
            return unknown(pair).help(instead);
        }
    }
    let span = pairs.first().map_or(node.span, |pair| pair.key.span);
    Diagnostic::error(codes::NO_VERB, span, "this step does not say what it does")
        .label("no verb in this step")
        .help(format!("write one of {}", list(verbs()).replace(" and ", " or ")))
}

/// Where a key belongs that has no place in this step.
pub fn elsewhere(key: &str) -> Option<String> {
    let on = match key {
        "with" => "`type` and `child` steps and on triggers",
        "retry" | "undo" => "`type` and `child` steps",
        "timeout" => "`type`, `steps`, `parallel`, `each`, `repeat`, `wait` and `child` steps",
        "class" | "routing_key" | "takes" | "returns" | "raises" | "effect" | "reports"
        | "payload" | "key" => "`type` steps",
        "steps" => "`type` steps and groups; branches have their own steps",
        _ => return None,
    };
    Some(format!("`{key}` is allowed on {on}"))
}

fn work(mapping: &Mapping<'_>, id: Option<&Name>, sink: &mut Sink) -> Option<Work> {
    let type_name = match mapping.get("type") {
        Some(pair) => step_type_name(pair, sink),
        None => id.cloned(),
    };
    let contract = policy::contract(mapping, sink);
    let with = mapping.get("with").and_then(|pair| value::with(pair, sink));
    let retry = mapping.get("retry").and_then(|pair| policy::retry(pair, sink));
    let timeout = mapping.get("timeout").and_then(|pair| policy::timeout(pair, sink));
    let key = mapping.get("key").and_then(|pair| scalar::text(pair, sink));
    let undo = mapping.get("undo").and_then(|pair| undo(pair, sink));
    let steps = mapping.get("steps").and_then(|pair| some_steps(pair, sink));
    Some(Work { type_name: type_name?, contract, with, retry, timeout, key, undo, steps })
}

fn step_type_name(pair: &Pair, sink: &mut Sink) -> Option<Name> {
    scalar::name(&pair.value, names::Kind::Id, "the name of a step type", sink)
}

fn child(mapping: &Mapping<'_>, sink: &mut Sink) -> Option<Child> {
    let workflow = mapping.get("child").and_then(|pair| {
        scalar::name(&pair.value, names::Kind::Id, "the name of a workflow", sink)
    });
    let with = mapping.get("with").and_then(|pair| value::with(pair, sink));
    let retry = mapping.get("retry").and_then(|pair| policy::retry(pair, sink));
    let timeout_ms = flow::timeout(mapping, sink);
    let undo = mapping.get("undo").and_then(|pair| undo(pair, sink));
    Some(Child { workflow: workflow?, with, retry, timeout_ms, undo })
}

/// `none`, or a step type with its input.
fn undo(pair: &Pair, sink: &mut Sink) -> Option<Undo> {
    if let Kind::Text(text) = &pair.value.kind {
        if text.value == "none" {
            return Some(Undo::NotNeeded(text.span));
        }
        sink.push(
            Diagnostic::error(
                codes::WRONG_KIND,
                text.span,
                "`undo` must be `none` or a record with a `type`, not a string",
            )
            .label("this is a string")
            .help(format!("write `undo: {{ type: {} }}`, with its `with`", text.value)),
        );
        return None;
    }
    let mapping = Mapping::under(pair, &UNDO, undo_elsewhere, sink)?;
    let type_name = mapping
        .need("type", "type: cancel_order", sink)
        .and_then(|pair| step_type_name(pair, sink));
    let contract = policy::contract(&mapping, sink);
    let with = mapping.get("with").and_then(|pair| value::with(pair, sink));
    let retry = mapping.get("retry").and_then(|pair| policy::retry(pair, sink));
    let timeout = mapping.get("timeout").and_then(|pair| policy::timeout(pair, sink));
    Some(Undo::By(Box::new(UndoWork {
        span: mapping.span,
        type_name: type_name?,
        contract,
        with,
        retry,
        timeout,
    })))
}

fn undo_elsewhere(key: &str) -> Option<String> {
    matches!(key, "id" | "when" | "catch" | "undo" | "key" | "steps")
        .then(|| format!("`{key}` belongs to steps; an undo is one step type with its `with`"))
}

fn catches(pair: &Pair, sink: &mut Sink) -> Option<Vec<Catch>> {
    let error = match &pair.value.kind {
        Kind::Text(text) => Some(text.value.as_str()),
        Kind::Mapping(_) => Some("any"),
        _ => None,
    };
    if let Some(error) = error {
        let message = format!("`catch` must be a list, not {}", pair.value.describe());
        let diagnostic = Diagnostic::error(codes::WRONG_KIND, pair.value.span, message)
            .label(format!("this is {}", pair.value.describe()));
        sink.push(diagnostic.help(format!("write `catch: [{{ error: {error}, steps: [...] }}]`")));
        return None;
    }
    let nodes = scalar::some_elements(pair, sink)?;
    Some(nodes.iter().filter_map(|node| catch(node, sink)).collect())
}

fn catch(node: &Node, sink: &mut Sink) -> Option<Catch> {
    let mapping = Mapping::open(node, &CATCH, nowhere, sink)?;
    let error = mapping.need("error", "error: Timeout", sink).and_then(|pair| caught(pair, sink));
    let steps = mapping.need("steps", "steps: []", sink).and_then(|pair| steps(pair, sink));
    Some(Catch { error: error?, steps: steps? })
}

fn caught(pair: &Pair, sink: &mut Sink) -> Option<Spanned<Caught>> {
    if let Kind::Text(text) = &pair.value.kind
        && text.value == "any"
    {
        return Some(Spanned::new(Caught::Any, text.span));
    }
    if let Kind::Text(text) = &pair.value.kind
        && matches!(
            text.value.as_str(),
            "*" | "all" | "ALL" | "Any" | "ANY" | "States.ALL" | "Exception"
        )
    {
        let diagnostic = Diagnostic::error(
            codes::BAD_NAME,
            text.span,
            format!("`{}` cannot be the name of an error", text.value),
        );
        sink.push(
            diagnostic
                .label("not allowed as a name")
                .help("every failure is taken by `error: any`"),
        );
        return None;
    }
    let name = scalar::name(&pair.value, names::Kind::Type, "the name of an error", sink)?;
    Some(Spanned::new(Caught::Named(name.value), name.span))
}
