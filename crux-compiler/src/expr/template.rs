//! Texts with expressions in them: `Order ${input.id} of ${steps.find.name}`. A text that is one
//! `${…}` and nothing else keeps the type of its expression; `$${` is a literal `${`.

use super::{Ast, parse_part};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::text::Text;

#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// No expression in it; `$${` is unescaped.
    Text(String),
    /// One `${…}` and nothing else.
    Whole(Ast),
    Mixed(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(String),
    Value(Ast),
}

/// Whether a text holds `${`. Bare expressions must not; in a text of theirs `\${` is one that
/// stands for itself.
pub fn holds_placeholder(text: &str) -> bool {
    text.match_indices("${")
        .any(|(at, _)| !text.get(..at).is_some_and(|before| before.ends_with('\\')))
}

/// Splits a decoded scalar. All its expressions are parsed, so that each wrong one is reported.
pub fn split(scalar: &Text) -> Result<Template, Vec<Diagnostic>> {
    let text = scalar.value.as_str();
    let (mut parts, mut errors, mut plain) = (Vec::new(), Vec::new(), String::new());
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("$${") {
            plain.push_str("${");
            at += 3;
        } else if let Some(inner) = rest.strip_prefix("${") {
            let Some(length) = end(inner) else {
                let open = Diagnostic::error(
                    codes::EXPRESSION_SYNTAX,
                    scalar.at(at..at + 2),
                    "this `${` has no `}`",
                );
                errors.push(open.help("close it with `}`; a literal `${` is written `$${`"));
                return Err(errors);
            };
            if inner.starts_with('{') {
                let written = inner.get(1..length).unwrap_or_default().trim();
                let doubled = Diagnostic::error(
                    codes::EXPRESSION_SYNTAX,
                    scalar.at(at..at + 3),
                    "an expression has one pair of braces",
                );
                errors.push(doubled.label("two braces").help(format!("write `${{{written}}}`")));
                at += 2
                    + length
                    + 1
                    + usize::from(
                        inner.get(length + 1..).is_some_and(|after| after.starts_with('}')),
                    );
                continue;
            }
            match parse_part(scalar, at + 2..at + 2 + length) {
                Ok(ast) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Value(ast));
                }
                Err(error) => errors.push(*error),
            }
            at += 2 + length + 1;
        } else {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            plain.push_str(rest.get(..length).unwrap_or_default());
            at += length;
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    // A block scalar ends in a line break that nobody means.
    if plain == "\n" && matches!(parts.as_slice(), [Part::Value(_)]) {
        plain.clear();
    }
    if !plain.is_empty() || parts.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(match parts.as_slice() {
        [Part::Text(_)] | [Part::Value(_)] => match parts.remove(0) {
            Part::Text(text) => Template::Text(text),
            Part::Value(ast) => Template::Whole(ast),
        },
        _ => Template::Mixed(parts),
    })
}

/// The position of the `}` that ends an expression; braces in its texts do not count.
fn end(inner: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == '}' => return Some(at),
            // The next expression: the one at hand has no end.
            None if c == '{' && inner.get(..at).is_some_and(|before| before.ends_with('$')) => {
                return None;
            }
            None => {}
        }
    }
    None
}
