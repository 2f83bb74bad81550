//! Values of `with`, `data`, `output` and `$default`: what the author hands on, with `${…}` still
//! as text.

use super::scalar;
use super::tree::{BROKEN_KEY, Kind, Node, Pair};
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{Entry, Value, With};
use crate::names;
use crate::source::Spanned;

pub fn with(pair: &Pair, sink: &mut Sink) -> Option<With> {
    Some(With { key: pair.key.span, entries: entries(pair, sink)? })
}

/// A mapping from names of fields to values.
pub fn entries(pair: &Pair, sink: &mut Sink) -> Option<Vec<Entry>> {
    let Kind::Mapping(pairs) = &pair.value.kind else {
        if !matches!(pair.value.kind, Kind::Broken) {
            let described = pair.value.describe();
            let message = format!(
                "`{}` must be a record of names to values, not {described}",
                pair.key.value
            );
            let diagnostic = Diagnostic::error(codes::WRONG_KIND, pair.value.span, message)
                .label(format!("this is {described}"));
            sink.push(
                diagnostic.help(format!("write `{}: {{ name: \"${{…}}\" }}`", pair.key.value)),
            );
        }
        return None;
    };
    let mut entries = Vec::new();
    for pair in pairs.iter().filter(|pair| pair.key.value != BROKEN_KEY) {
        if !pair.key.value.contains("${") {
            scalar::check_name(pair.key.clone(), names::Kind::Field, "the name of a field", sink);
        }
        entries.extend(entry(pair, sink));
    }
    Some(entries)
}

fn entry(pair: &Pair, sink: &mut Sink) -> Option<Entry> {
    if pair.key.value.contains("${") {
        sink.push(
            Diagnostic::error(codes::BAD_NAME, pair.key.span, "a name cannot be computed")
                .label("`${…}` stands for a value, and this is a name")
                .help("if a comma in `{ }` has cut a string in two, put the string in quotes"),
        );
        return None;
    }
    if matches!(pair.value.kind, Kind::Absent) {
        sink.push(
            Diagnostic::error(codes::VALUE_MISSING, pair.key.span, format!("`{}` has no value", pair.key.value))
                .label("nothing follows it")
                .help("write `null` for an absent value; in `{ }` a comma ends a string, so a string with a comma needs quotes"),
        );
        return None;
    }
    Some(Entry { name: pair.key.clone(), value: value(&pair.value, sink)? })
}

/// Any value.
pub fn value(node: &Node, sink: &mut Sink) -> Option<Spanned<Value>> {
    let value = match &node.kind {
        Kind::Absent => {
            let diagnostic = Diagnostic::error(
                codes::VALUE_MISSING,
                node.span,
                "an element of this list is empty",
            );
            sink.push(
                diagnostic
                    .label("nothing is written here")
                    .help("write `null` for an absent value"),
            );
            return None;
        }
        Kind::Null => Value::Null,
        Kind::Boolean(value, _) => Value::Boolean(*value),
        Kind::Integer(value, _) => Value::Integer(*value),
        Kind::Number(_, text)
            if text.value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+')) =>
        {
            sink.push(
                Diagnostic::error(
                    codes::INTEGER_TOO_LARGE,
                    node.span,
                    "this integer does not fit into 64 bits",
                )
                .label("too large")
                .help("write it as a string in quotes, or as a number with a point"),
            );
            return None;
        }
        Kind::Number(value, _) => Value::Number(*value),
        Kind::Text(text) => Value::Text(text.clone()),
        Kind::List(nodes) => {
            Value::List(nodes.iter().filter_map(|node| value(node, sink)).collect())
        }
        Kind::Mapping(pairs) => {
            let pairs = pairs.iter().filter(|pair| pair.key.value != BROKEN_KEY);
            Value::Record(pairs.filter_map(|pair| entry(pair, sink)).collect())
        }
        Kind::Broken => return None,
    };
    Some(Spanned::new(value, node.span))
}
