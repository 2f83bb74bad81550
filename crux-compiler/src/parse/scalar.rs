//! Single values: names, texts, words, numbers, durations. Each function reports what does not fit
//! and then gives nothing.

use std::ops::RangeInclusive;

use super::mapping::{list, wrong_kind};
use super::tree::{Kind, Node, Pair};
use crate::bound::Bound;
use crate::codes;
use crate::diagnostic::{Diagnostic, Sink};
use crate::model::{Expression, Name};
use crate::names;
use crate::source::{Span, Spanned};
use crate::suggest;
use crate::text::Text;
use crate::units;

/// A text; numbers and booleans need quotes to be one.
pub fn text(pair: &Pair, sink: &mut Sink) -> Option<Text> {
    text_node(&format!("`{}`", pair.key.value), &pair.value, sink)
}

fn text_node(what: &str, node: &Node, sink: &mut Sink) -> Option<Text> {
    match &node.kind {
        Kind::Text(text) => Some(text.clone()),
        Kind::Boolean(_, text) | Kind::Integer(_, text) | Kind::Number(_, text) => {
            sink.push(
                Diagnostic::error(
                    codes::WRONG_KIND,
                    node.span,
                    format!("{what} must be a string, not {}", node.describe()),
                )
                .label(format!("to YAML this is {}", node.describe()))
                .help(format!("put it in quotes: `\"{}\"`", text.value)),
            );
            None
        }
        _ => {
            wrong_kind(what, node, "a string", sink);
            None
        }
    }
}

/// A text that is not empty.
pub fn filled(pair: &Pair, sink: &mut Sink) -> Option<Name> {
    filled_node(&format!("`{}`", pair.key.value), &pair.value, sink)
}

/// A text of a list that is not empty.
pub fn filled_node(what: &str, node: &Node, sink: &mut Sink) -> Option<Name> {
    let text = text_node(what, node, sink)?;
    if text.value.trim().is_empty() {
        sink.push(
            Diagnostic::error(codes::BAD_NAME, node.span, format!("{what} is empty"))
                .label("nothing in it"),
        );
        return None;
    }
    Some(Name::new(text.value, text.span))
}

/// An identifier; `what` says of what, with its article: "the id of a step".
pub fn name(node: &Node, kind: names::Kind, what: &str, sink: &mut Sink) -> Option<Name> {
    let text = text_node(what, node, sink)?;
    check_name(Name::new(text.value, text.span), kind, what, sink)
}

/// A key that must be an identifier.
pub fn check_name(name: Name, kind: names::Kind, what: &str, sink: &mut Sink) -> Option<Name> {
    if kind.accepts(&name.value) {
        return Some(name);
    }
    let long = name.value.len() > names::LENGTH_MAX;
    let shown = if long { "this".to_owned() } else { format!("`{}`", name.value) };
    let diagnostic =
        Diagnostic::error(codes::BAD_NAME, name.span, format!("{shown} cannot be {what}"))
            .label(if long {
                format!("longer than {} bytes", names::LENGTH_MAX)
            } else {
                "not allowed as a name".into()
            })
            .note(format!("it consists of {}", kind.rule()));
    sink.push(match kind.fix(&name.value).filter(|_| !long) {
        Some(fixed) => diagnostic.help(format!("write `{fixed}`")),
        None => diagnostic,
    });
    None
}

/// The text of a bare expression: any scalar, as written.
pub fn expression(pair: &Pair, sink: &mut Sink) -> Option<Expression> {
    match &pair.value.kind {
        Kind::Text(text)
        | Kind::Boolean(_, text)
        | Kind::Integer(_, text)
        | Kind::Number(_, text) => Some(text.clone()),
        Kind::List(_) | Kind::Mapping(_) => {
            sink.push(
                Diagnostic::error(
                    codes::WRONG_KIND,
                    pair.value.span,
                    format!(
                        "`{}` must be an expression, not {}",
                        pair.key.value,
                        pair.value.describe()
                    ),
                )
                .label(format!("to YAML this is {}", pair.value.describe()))
                .help(
                    if pair.key.value == "where" && matches!(pair.value.kind, Kind::Mapping(_)) {
                        "write a comparison, as in `where: event.orderId == input.orderId`"
                    } else {
                        "put the expression in quotes"
                    },
                ),
            );
            None
        }
        Kind::Absent | Kind::Null | Kind::Broken => None,
    }
}

/// One of a few words.
pub fn word<T: Copy>(
    pair: &Pair,
    words: &[(&'static str, T)],
    sink: &mut Sink,
) -> Option<Spanned<T>> {
    let text = text(pair, sink)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
        return Some(Spanned::new(*value, text.span));
    }
    let known = || words.iter().map(|(word, _)| *word);
    let diagnostic = Diagnostic::error(
        codes::UNKNOWN_WORD,
        text.span,
        format!("`{}` cannot be `{}`", pair.key.value, text.value),
    )
    .label("unknown value");
    sink.push(match suggest::nearest(&text.value, known()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic.help(format!("it is {}", list(known()).replace(" and ", " or "))),
    });
    None
}

pub fn boolean(pair: &Pair, sink: &mut Sink) -> Option<Spanned<bool>> {
    match &pair.value.kind {
        Kind::Boolean(value, text) => Some(Spanned::new(*value, text.span)),
        _ => {
            wrong_kind(&format!("`{}`", pair.key.value), &pair.value, "`true` or `false`", sink);
            None
        }
    }
}

/// A whole number of the given range.
pub fn integer(pair: &Pair, range: RangeInclusive<u32>, sink: &mut Sink) -> Option<Spanned<u32>> {
    match &pair.value.kind {
        Kind::Integer(value, text) => {
            match u32::try_from(*value).ok().filter(|value| range.contains(value)) {
                Some(value) => Some(Spanned::new(value, text.span)),
                None => {
                    out_of_range(pair, &format!("from {} to {}", range.start(), range.end()), sink);
                    None
                }
            }
        }
        Kind::Text(_) | Kind::Number(..) => {
            let described = pair.value.describe();
            let message = format!("`{}` must be a whole number, not {described}", pair.key.value);
            let diagnostic = Diagnostic::error(codes::WRONG_KIND, pair.value.span, message)
                .label(format!("this is {described}"));
            sink.push(diagnostic.help(format!(
                "write digits without quotes: `{}: {}`",
                pair.key.value,
                range.start()
            )));
            None
        }
        _ => {
            wrong_kind(&format!("`{}`", pair.key.value), &pair.value, "a whole number", sink);
            None
        }
    }
}

/// A number, whole or not.
#[allow(
    clippy::cast_precision_loss,
    reason = "limits are compared as doubles, like the values that they limit"
)]
pub fn bound(pair: &Pair, sink: &mut Sink) -> Option<Spanned<Bound>> {
    match &pair.value.kind {
        Kind::Integer(value, text) => Some(Spanned::new(Bound::Whole(*value), text.span)),
        Kind::Number(value, text) => Some(Spanned::new(Bound::Number(*value), text.span)),
        _ => {
            wrong_kind(&format!("`{}`", pair.key.value), &pair.value, "a number", sink);
            None
        }
    }
}

pub fn out_of_range(pair: &Pair, range: &str, sink: &mut Sink) {
    sink.push(
        Diagnostic::error(
            codes::OUT_OF_RANGE,
            pair.value.span,
            format!("`{}` is out of range", pair.key.value),
        )
        .label(format!("must be {range}")),
    );
}

/// Whether zero is a duration that makes sense.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    Allowed,
    Refused,
}

/// Milliseconds.
pub fn duration(pair: &Pair, zero: Zero, sink: &mut Sink) -> Option<Spanned<u64>> {
    let (text, span): (&str, Span) = match &pair.value.kind {
        Kind::Text(text) | Kind::Integer(_, text) | Kind::Number(_, text) => {
            (&text.value, text.span)
        }
        _ => {
            wrong_kind(
                &format!("`{}`", pair.key.value),
                &pair.value,
                "a duration like `30s`",
                sink,
            );
            return None;
        }
    };
    let refuse = |reason: String| {
        let diagnostic = Diagnostic::error(
            codes::BAD_DURATION,
            span,
            format!("`{}` must be a duration like `30s`", pair.key.value),
        )
        .label(reason);
        match (&pair.value.kind, units::meant_duration(text)) {
            (Kind::Integer(..), _) => diagnostic.help(format!("write the unit: `{text}s` or `{text}ms`")),
            (_, Some(ms)) => diagnostic.help(format!("write `{}`", units::format_duration(ms))),
            _ => diagnostic.note("the units are `ms`, `s`, `m`, `h` and `d`, whole numbers, from large to small: `1h30m`"),
        }
    };
    match units::parse_duration(text) {
        Ok(0) if zero == Zero::Refused => {
            sink.push(
                Diagnostic::error(
                    codes::BAD_DURATION,
                    span,
                    format!("`{}` cannot be zero", pair.key.value),
                )
                .label(if pair.key.value == "every" {
                    "no pause at all is what is without it"
                } else {
                    "nothing can happen in no time"
                })
                .help(format!("leave `{}` out, or give it a time", pair.key.value)),
            );
            None
        }
        Ok(ms) => Some(Spanned::new(ms, span)),
        Err(error) => {
            sink.push(refuse(error.to_string()));
            None
        }
    }
}

/// The elements of a list; something else is reported.
pub fn elements<'a>(pair: &'a Pair, sink: &mut Sink) -> Option<&'a [Node]> {
    match &pair.value.kind {
        Kind::List(nodes) => Some(nodes),
        Kind::Mapping(_) => {
            let message = format!("`{}` must be a list, not a record", pair.key.value);
            let diagnostic = Diagnostic::error(codes::WRONG_KIND, pair.value.span, message)
                .label("this is a record");
            sink.push(diagnostic.help("each element of a list begins with `- `"));
            None
        }
        _ => {
            wrong_kind(&format!("`{}`", pair.key.value), &pair.value, "a list", sink);
            None
        }
    }
}

/// Like [`elements`], and an empty list is reported.
pub fn some_elements<'a>(pair: &'a Pair, sink: &mut Sink) -> Option<&'a [Node]> {
    let nodes = elements(pair, sink)?;
    if nodes.is_empty() {
        empty(pair, sink);
        return None;
    }
    Some(nodes)
}

pub fn empty(pair: &Pair, sink: &mut Sink) {
    sink.push(
        Diagnostic::error(
            codes::EMPTY,
            pair.value.span,
            format!("`{}` must not be empty", pair.key.value),
        )
        .label("nothing in it")
        .help("write what belongs there or leave it out"),
    );
}

/// A list of identifiers.
pub fn names(
    pair: &Pair,
    kind: names::Kind,
    what: &str,
    sink: &mut Sink,
) -> Option<Spanned<Vec<Name>>> {
    let nodes = some_elements(pair, sink)?;
    let names = nodes.iter().filter_map(|node| name(node, kind, what, sink)).collect();
    Some(Spanned::new(names, pair.value.span))
}
