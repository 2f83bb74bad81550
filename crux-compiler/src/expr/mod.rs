//! The expression language: text in, syntax tree out, with the place in the file of every part. It
//! checks no names and no types; that is `typing`. Start at [`parse`] for a bare expression and at
//! [`template::split`] for a text with `${…}`.

pub mod ast;
mod lexer;
mod parser;
pub mod template;

pub use ast::{Ast, Kind};

use std::ops::Range;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::text::Text;

/// Longest expression, in bytes. Whatever is longer belongs into a step.
pub const MAX_BYTES: usize = 8 * 1024;
/// Deepest tree; keeps every recursion over a tree within a small stack.
pub const MAX_DEPTH: usize = 96;

/// Parses a bare expression (`when`, `in`, `yield`, …).
pub fn parse(text: &Text) -> Result<Ast, Box<Diagnostic>> {
    if template::holds_placeholder(&text.value) {
        let bare = text
            .value
            .trim()
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|inner| !inner.contains("${"));
        let at = text.value.find("${").map_or(text.span, |at| text.at(at..at + 2));
        let diagnostic = Diagnostic::error(
            codes::PLACEHOLDER_IN_EXPRESSION,
            at,
            "this key takes a bare expression, without `${}`",
        );
        return Err(Box::new(match bare {
            Some(inner) => diagnostic.help(format!("write `{}`", inner.trim().trim_start_matches('{').trim_end_matches('}').trim())),
            None => diagnostic.help("write the expression alone; strings are joined with `+`, as in `\"order \" + input.id`"),
        }));
    }
    parse_part(text, 0..text.value.len())
}

/// Parses the expression that stands at `range` of the text.
pub fn parse_part(text: &Text, range: Range<usize>) -> Result<Ast, Box<Diagnostic>> {
    let base = range.start;
    let locate = |at: Offset| text.at(base + at.start..base + at.end);
    let part = text.value.get(range).unwrap_or_default();
    if part.len() > MAX_BYTES {
        let all = locate(Offset::new(0, part.len()));
        let failure = Diagnostic::error(
            codes::EXPRESSION_LIMIT,
            all,
            format!("this expression is {} bytes long; the limit is {MAX_BYTES}", part.len()),
        );
        return Err(Box::new(failure.help("do this in a step")));
    }
    parser::parse(part, &locate).map_err(|failure| {
        let code = if failure.limit { codes::EXPRESSION_LIMIT } else { codes::EXPRESSION_SYNTAX };
        let mut diagnostic = Diagnostic::error(code, locate(failure.at), failure.message);
        if failure.help.is_none() {
            diagnostic.label = "no expression from here on".into();
        }
        diagnostic.helps.extend(failure.help);
        Box::new(diagnostic)
    })
}

/// A range of bytes in the expression's own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offset {
    start: usize,
    end: usize,
}

impl Offset {
    fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }
}

/// Why a string is not a valid expression.
#[derive(Debug)]
struct Failure {
    at: Offset,
    message: String,
    help: Option<String>,
    limit: bool,
}

impl Failure {
    fn new(at: Offset, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), help: None, limit: false }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

#[cfg(test)]
mod tests;
