//! What starts an instance, and the hooks that tell of it.

use super::mapping::{Mapping, Shape, nowhere};
use super::scalar;
use super::tree::{Kind, Node, Pair};
use super::value;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{Hooks, Name, Trigger, TriggerSource};

pub static TRIGGER: Shape = Shape {
    what: "a trigger",
    schema: "Trigger",
    keys: &["http", "event", "kafka", "cron", "with", "when", "key", "additional"],
};

pub static HOOKS: Shape =
    Shape { what: "`hooks`", schema: "Hooks", keys: &["on_start", "on_complete", "on_failure"] };

const SOURCES: [&str; 4] = ["http", "event", "kafka", "cron"];

pub fn triggers(pair: &Pair, sink: &mut Sink) -> Vec<Trigger> {
    scalar::elements(pair, sink)
        .unwrap_or_default()
        .iter()
        .filter_map(|node| trigger(node, sink))
        .collect()
}

fn trigger(node: &Node, sink: &mut Sink) -> Option<Trigger> {
    if let Kind::Text(text) = &node.kind {
        let source = if text.value.contains('/') { "http" } else { "event" };
        let diagnostic = Diagnostic::error(
            codes::WRONG_KIND,
            node.span,
            "a trigger must be a record, not a string",
        )
        .label("this is a string");
        sink.push(diagnostic.help(format!("write `- {source}: {}`", text.value)));
        return None;
    }
    let mapping = Mapping::open(node, &TRIGGER, nowhere, sink)?;
    let given: Vec<&str> = SOURCES.into_iter().filter(|source| mapping.has(source)).collect();
    // A source of another system has been reported with ours beside it.
    if given.len() > 1
        || (given.is_empty() && !SOURCES.into_iter().any(|source| mapping.means(source)))
    {
        let message = if given.is_empty() {
            "this trigger does not say what starts an instance"
        } else {
            "a trigger has one source"
        };
        sink.push(
            Diagnostic::error(codes::TRIGGER_SOURCE, mapping.span, message)
                .label(if given.is_empty() { "no source" } else { "two sources" })
                .help("write one of `http`, `event`, `kafka` and `cron`; several triggers are several elements of the list"),
        );
    }
    let source = given.first().and_then(|source| {
        let pair = mapping.get(source)?;
        Some(match *source {
            "http" => TriggerSource::Http(http(pair, sink)?),
            "event" => TriggerSource::Event(scalar::filled(pair, sink)?),
            "kafka" => TriggerSource::Kafka(scalar::filled(pair, sink)?),
            _ => TriggerSource::Cron(scalar::filled(pair, sink)?),
        })
    });
    let with = mapping.get("with").and_then(|pair| value::with(pair, sink));
    let when = mapping.get("when").and_then(|pair| scalar::expression(pair, sink));
    let key = mapping.get("key").and_then(|pair| scalar::expression(pair, sink));
    let additional = mapping.get("additional").and_then(|pair| scalar::boolean(pair, sink));
    if let Some(additional) = &additional {
        let why = match &source {
            Some(TriggerSource::Http(_)) if with.is_none() => None,
            Some(TriggerSource::Http(_)) => {
                Some("with `with` the body is not the input, and may be anything")
            }
            _ => Some(
                "only bodies of `http` can be refused; what an event carries beyond the input is kept",
            ),
        };
        if let Some(why) = why {
            let message = "`additional` has no place in this trigger";
            sink.push(Diagnostic::error(codes::MISPLACED_KEY, additional.span, message).label(why));
        }
    }
    let is_closed = additional.is_some_and(|additional| !additional.value);
    Some(Trigger { span: mapping.span, source: source?, with, when, key, is_closed })
}

/// The path of `POST /path`.
fn http(pair: &Pair, sink: &mut Sink) -> Option<Name> {
    if let Kind::Mapping(_) = &pair.value.kind {
        let diagnostic = Diagnostic::error(
            codes::WRONG_KIND,
            pair.value.span,
            "`http` must be a string, not a record",
        );
        sink.push(diagnostic.label("this is a record").help("write `http: POST /path`"));
        return None;
    }
    let text = scalar::text(pair, sink)?;
    let (method, path) = text.value.split_once(' ').unwrap_or(("", &text.value));
    let word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "._~-".contains(c))
    };
    let plain = path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(word));
    if method == "POST" && plain {
        return Some(Name::new(
            path.to_owned(),
            text.at(text.value.len() - path.len()..text.value.len()),
        ));
    }
    let diagnostic =
        Diagnostic::error(codes::BAD_HTTP, text.span, "an HTTP trigger is written `POST /path`");
    sink.push(if method != "POST" && plain {
        diagnostic
            .label(if method.is_empty() { "the method is missing" } else { "another method" })
            .help(format!("write `POST {path}`"))
    } else {
        diagnostic
            .label("not a path of plain words")
            .help("a path has no parameters and no `/` at its end; what varies belongs in the body")
    });
    None
}

pub fn hooks(pair: &Pair, sink: &mut Sink) -> Option<Hooks> {
    let mapping = Mapping::under(pair, &HOOKS, nowhere, sink)?;
    let mut hook = |key: &str| mapping.get(key).and_then(|pair| scalar::filled(pair, sink));
    Some(Hooks {
        on_start: hook("on_start"),
        on_complete: hook("on_complete"),
        on_failure: hook("on_failure"),
    })
}
